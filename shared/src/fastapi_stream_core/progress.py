"""How many messages are finished, and who waits for more."""

from __future__ import annotations

import asyncio
from math import inf

__all__ = ("Progress",)


class Progress:
    """Counts finished messages; whoever counts compares with `due`, and asks for nothing else for each message.

    Attributes:
        handled: messages that are finished.
        due: the lowest number that somebody waits for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.handled = 0
        self.due: float = inf

    async def wait(self, timeout: float | None, count: int) -> None:
        """Wait until `count` messages more are finished or everybody is told, `timeout` seconds at most."""
        waiting = (self.handled + count, self._loop.create_future())
        self._waiting.append(waiting)
        self.due = min(self.due, waiting[0])
        try:
            if timeout is None:
                await waiting[1]
            else:
                await asyncio.wait([waiting[1]], timeout=timeout)
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def tell(self, handled: float = inf) -> None:
        """Wake whoever waits for this number, by default everybody: what they wait for may never be finished."""
        reached = [waiting for count, waiting in self._waiting if count <= handled]
        self._waiting = [one for one in self._waiting if one[0] > handled]
        self.due = min((count for count, _ in self._waiting), default=inf)
        for waiting in reached:
            if not waiting.done():
                waiting.set_result(None)
