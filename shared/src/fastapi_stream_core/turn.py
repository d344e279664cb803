"""Fairness: after a millisecond of work the event loop gets its turn."""

from __future__ import annotations

import asyncio
from time import perf_counter

__all__ = ("Turn",)

SECONDS = 0.001
"""Work between two turns of the event loop; HTTP endpoints of the same app wait no longer than this."""


class Turn:
    """One turn of the event loop, shared by the workers of a subscription: a hundred of them yield as soon as one.

    Attributes:
        ends: when the loop has to run first, on the clock of `time.perf_counter`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ends = 0.0
        self._waiters: list[asyncio.Future[None]] = []

    def begin(self) -> None:
        """Begin a turn now if none is going on: what is done next comes right after the loop ran."""
        if not self._waiters and perf_counter() >= self.ends:
            self.ends = perf_counter() + SECONDS

    async def next(self) -> None:
        """Wait for the next turn."""
        waiting = self._loop.create_future()
        if not self._waiters:
            self._loop.call_soon(self._begin)
        self._waiters.append(waiting)
        await waiting

    def _begin(self) -> None:
        self.ends = perf_counter() + SECONDS
        waiters, self._waiters = self._waiters, []
        for waiting in waiters:
            if not waiting.done():
                waiting.set_result(None)
