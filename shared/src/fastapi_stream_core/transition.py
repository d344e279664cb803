"""One start, and one stop, of a broker: who waits for it, and how far it is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from .step import GRACE_SECONDS, ended

if TYPE_CHECKING:
    from .run import Run

__all__ = ("Start", "Stop")

UNDO_SECONDS = 10.0
"""For a client that is cancelled while it connects."""


class Start:
    """One start, and who waits for it.

    Attributes:
        run: what is started.
        waiting: how many callers wait.
        is_wanted: whether somebody was told that it is started.
        error: why it failed.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.waiting = 0
        self.is_wanted = False
        self.error: BaseException | None = None
        self._interrupted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_interrupted(self) -> bool:
        """Whether it is to be undone."""
        return self._interrupted.done()

    def interrupt(self) -> None:
        """Have it undone."""
        if not self._interrupted.done():
            self._interrupted.set_result(None)

    async def until(self, opening: asyncio.Task[None]) -> None:
        """Wait for the work that connects and subscribes; once it is interrupted for a short time only."""
        try:
            await asyncio.wait({opening, self._interrupted}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.interrupt()
        await ended([opening], GRACE_SECONDS, UNDO_SECONDS)
        if opening.cancelled() or not opening.done():
            self.interrupt()
        else:
            self.error = opening.exception()


class Stop:
    """One stop: first what consumes, then the connection, which may have to wait for handlers of other brokers.

    Attributes:
        drained: nothing consumes, and no handler runs.
    """

    def __init__(self) -> None:
        self.drained = asyncio.Event()
        self._may_close = asyncio.Event()

    def release(self) -> None:
        """Let the connection go."""
        self._may_close.set()

    async def released(self) -> None:
        """Wait until the connection may go, or the event loop ends."""
        self.drained.set()
        with suppress(asyncio.CancelledError):
            await self._may_close.wait()
