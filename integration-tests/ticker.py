"""The longest turn of an event loop."""

from __future__ import annotations

import asyncio
import gc
import time

__all__ = ("Ticker",)


class Ticker:
    """Measures the longest turn of the event loop: its thread's own CPU between two turns, so a busy machine is none.

    Attributes:
        longest: in seconds.
        collected: seconds of the longest turn that went to the garbage collector.
        turns: how many there were.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.collected = 0.0
        self.turns = 0
        self._collecting = 0.0
        self._began = 0.0
        self._running = False
        self._last = 0.0

    def start(self) -> None:
        self._running = True
        gc.callbacks.append(self._collect)
        self._last = time.thread_time()
        asyncio.get_running_loop().call_soon(self._tick)

    def stop(self) -> None:
        self._running = False
        gc.callbacks.remove(self._collect)

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._began = now
        else:
            self._collecting += now - self._began

    def _tick(self) -> None:
        now = time.thread_time()
        if now - self._last > self.longest:
            self.longest, self.collected = now - self._last, self._collecting
        self._last, self._collecting = now, 0.0
        self.turns += 1
        if self._running:
            asyncio.get_running_loop().call_soon(self._tick)
