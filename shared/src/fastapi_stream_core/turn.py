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

    Those that wait go on in turn. The first of each turn goes on whatever time it is, since other subscriptions of the
    same loop may have needed all of it; the others while there is time, twice as many each time: whoever comes first
    may need all of it, and a hundred of them would each need it once.

    Attributes:
        ends: when the loop has to run first, on the clock of `time.perf_counter`.
        is_awaited: whether somebody waits for the next one; then who rested until now has to wait, too.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ends = 0.0
        self.is_awaited = False
        self._has_run = True
        self._waiters: deque[asyncio.Future[bool]] = deque()

    def begin(self) -> None:
        """Begin a turn now if none is going on, and the loop ran since the last one began."""
        if self._has_run and not self.is_awaited and (now := perf_counter()) >= self.ends:
            self._begin(now)

    async def next(self) -> None:
        """Wait for the next turn."""
        while True:
            waiting: asyncio.Future[bool] = self._loop.create_future()
            self._waiters.append(waiting)
            if not self.is_awaited:
                self.is_awaited = True
                self._loop.call_soon(self._wake, 1)
            is_first = await waiting
            now = perf_counter()
            if is_first:
                self._begin(now)
            if now < self.ends:
                return

    def _begin(self, now: float) -> None:
        self.ends = now + SECONDS
        self._has_run = False
        self._loop.call_soon(self._loop_runs)

    def _loop_runs(self) -> None:
        self._has_run = True

    def _wake(self, count: int) -> None:
        is_first = perf_counter() >= self.ends
        if is_first:
            count = 1
        woken = 0
        while self._waiters and woken < count:
            waiting = self._waiters.popleft()
            if not waiting.done():
                waiting.set_result(is_first)
                woken += 1
        self.is_awaited = bool(self._waiters)
        if self.is_awaited:
            self._loop.call_soon(self._wake, 2 * count)
