"""Lets as many publishers through at a time as the client library has room for."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

__all__ = ("Gate",)

TURNS = 4
"""Turns of the event loop within which the client library has written what is in its queue, when all is well."""
PAUSE_SECONDS = 0.005
PAUSES = 10
"""After these the socket takes nothing; the client library and the timeout of who publishes do the rest."""


class Gate:
    """Lets publishers through, those who came first at first.

    The client library's queue has a few places, and its channel a lock. Who finds a place in the queue needs not wait
    for either, and shares one write to the socket with the others. Without the gate all but a few would wait for the
    lock, which is handed on once in a turn of the event loop: a write for each message.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._tries = 0

    def is_open(self, queue: asyncio.Queue[Any]) -> bool:
        """Tell whether there is room and nobody waits for it."""
        return not self._waiting and not queue.full()

    async def wait(self, queue: asyncio.Queue[Any]) -> None:
        """Wait until there is room, or for about 50 ms when nobody empties the queue."""
        place = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._let, queue)
        self._waiting.append(place)
        await place

    def _let(self, queue: asyncio.Queue[Any]) -> None:
        room = queue.maxsize - queue.qsize()
        if room <= 0:
            self._tries += 1
            if self._tries <= TURNS:
                self._loop.call_soon(self._let, queue)
                return
            if self._tries <= TURNS + PAUSES:
                self._loop.call_later(PAUSE_SECONDS, self._let, queue)
                return
            room = len(self._waiting)
        self._tries = 0
        while self._waiting and room > 0:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                room -= 1
        if self._waiting:
            self._loop.call_soon(self._let, queue)
