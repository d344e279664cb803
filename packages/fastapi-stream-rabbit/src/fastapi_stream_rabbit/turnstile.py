"""Lets publications pass side by side, or one that nothing else may be beside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

__all__ = ("Turnstile",)


class Turnstile:
    """Finds the message that RabbitMQ closes a connection for: with nothing beside it, it was this one.

    Attributes:
        is_closed: whether one publication is, or is about to be, by itself.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._inside = 0
        self._alone = asyncio.Lock()
        self._empty = asyncio.Event()
        self._open = asyncio.Event()
        self._empty.set()
        self._open.set()

    def enter(self) -> None:
        """Pass beside others; only while it is not closed."""
        self._inside += 1
        self._empty.clear()

    def leave(self) -> None:
        """Be through."""
        self._inside -= 1
        if not self._inside:
            self._empty.set()

    async def opened(self, deadline: float) -> None:
        """Wait until others may pass again.

        Raises:
            asyncio.TimeoutError: that was not before `deadline`, by the clock of the event loop.
        """
        await _before(deadline, self._open.wait())

    @asynccontextmanager
    async def passed(self, deadline: float) -> AsyncIterator[None]:
        """Pass beside others, as soon as that is possible.

        Raises:
            asyncio.TimeoutError: that was not before `deadline`, by the clock of the event loop.
        """
        while self.is_closed:
            await self.opened(deadline)
        self.enter()
        try:
            yield
        finally:
            self.leave()

    @asynccontextmanager
    async def closed(self, deadline: float) -> AsyncIterator[None]:
        """Wait until nothing else is on its way, and let nothing pass meanwhile.

        Raises:
            asyncio.TimeoutError: that was not before `deadline`, by the clock of the event loop.
        """
        await _before(deadline, self._alone.acquire())
        self.is_closed = True
        self._open.clear()
        try:
            await _before(deadline, self._empty.wait())
            yield
        finally:
            self._alone.release()
            if not self._alone.locked():
                self.is_closed = False
                self._open.set()


async def _before(deadline: float, work: Coroutine[Any, Any, Any]) -> None:
    await asyncio.wait_for(work, deadline - asyncio.get_running_loop().time())
