"""What the two sides of the in-process comparison have in common: a handler, and a client in memory."""

from __future__ import annotations

import asyncio
from types import FunctionType, SimpleNamespace
from typing import Any

__all__ = ("MemoryProducer", "Side", "again")


class MemoryProducer:
    """Confirms at once."""

    _sender = SimpleNamespace(sender_task=None)

    def __init__(self) -> None:
        self.sent = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, *_: object, **__: object) -> asyncio.Future[None]:
        self.sent += 1
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return confirmed


class Side:
    """One handler on one of the sides.

    Attributes:
        sent: how many messages were published.
    """

    sent = 0

    def prepare(self, count: int) -> None:
        """Make what a run takes, which is the client's work."""

    async def run(self, count: int) -> None:
        """Have `count` messages handled and settled."""
        raise NotImplementedError

    async def __aenter__(self) -> Side:
        return self

    async def __aexit__(self, *_: object) -> None: ...


def again(handler: Any) -> Any:
    """The same function once more: it keeps the publishers it was given, and those of another side have stopped."""
    again = FunctionType(handler.__code__, handler.__globals__, handler.__name__, None, handler.__closure__)
    again.__annotations__ = handler.__annotations__
    return again
