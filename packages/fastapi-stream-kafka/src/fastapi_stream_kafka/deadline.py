"""One timer for everything that waits equally long."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

__all__ = ("Deadlines",)


class Deadlines:
    """Ends futures that are not done `seconds` after they were added, with a `TimeoutError`.

    All wait equally long, so the oldest is due first and one timer is enough: a timer of its own would cost a
    message more than the rest of its way to the client.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, future: asyncio.Future[Any], began: float) -> None:
        """Have a future done `seconds` after `began`, a time of its event loop."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        waiting.append((began + self.seconds, future))
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._waiting[0][0], self._due)

    def _due(self) -> None:
        self._timer = None
        waiting = self._waiting
        now = asyncio.get_running_loop().time()
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
            _, future = waiting.popleft()
            if not future.done():
                future.set_exception(asyncio.TimeoutError())
        if waiting:
            self._arm()

    def close(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
