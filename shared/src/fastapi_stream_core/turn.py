"""Fairness: after a millisecond of work the event loop gets its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter

__all__ = ("Turn",)

SECONDS = 0.001
"""Work between two turns of the event loop; HTTP endpoints of the same app wait no longer than this."""


class Turn:
    """One turn of the event loop, shared by the workers of a subscription: a hundred of them yield as soon as one.

    Those that wait go on one after another, while there is time, twice as many each time: whoever comes first may need
    all of it, and a hundred of them would each need it once.

    Attributes:
        ends: when the loop has to run first, on the clock of `time.perf_counter`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ends = 0.0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_waking = False

    def begin(self) -> None:
        """Begin a turn now if none is going on: what is done next comes right after the loop ran."""
        if not self._is_waking and perf_counter() >= self.ends:
            self.ends = perf_counter() + SECONDS

    async def next(self) -> None:
        """Wait for the next turn."""
        while True:
            waiting = self._loop.create_future()
            self._waiters.append(waiting)
            if not self._is_waking:
                self._is_waking = True
                self._loop.call_soon(self._wake, 1)
            await waiting
            if perf_counter() < self.ends:
                return

    def _wake(self, count: int) -> None:
        now = perf_counter()
        if now >= self.ends:
            self.ends = now + SECONDS
            count = 1
        woken = 0
        while self._waiters and woken < count:
            waiting = self._waiters.popleft()
            if not waiting.done():
                waiting.set_result(None)
                woken += 1
        self._is_waking = bool(self._waiters)
        if self._is_waking:
            self._loop.call_soon(self._wake, 2 * count)
