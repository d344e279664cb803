"""How far a queue of type stream was read: RabbitMQ does not remember it for a consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from fastapi_stream_core.partition import Offsets

from .connection import Link
from .delivery import Delivery
from .probe import OFFSET, reading

__all__ = ("StreamPosition",)

MOVING = (None, "next", "last")
"""Offsets that mean another message each time."""
QUIET_SECONDS = 1.0
MOST_AHEAD = 65535


class StreamPosition:
    """Where the next consumer of one subscription goes on, for as long as the connection of its broker is kept."""

    def __init__(self) -> None:
        self._offsets: Offsets | None = None
        self._began: datetime | None = None
        self._anew = False

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the next consumer."""
        arguments = dict(given)
        if self._offsets is not None:
            position = self._offsets.position
            self._offsets.assigned(position)
            arguments[OFFSET] = position
        elif self._anew:
            arguments[OFFSET] = "first"
        elif self._began is None:
            self._began = datetime.now(timezone.utc)
        elif given.get(OFFSET) in MOVING:  # nothing came so far: what was published since the first consumer began
            arguments[OFFSET] = self._began
        return arguments

    def arrived(self, delivery: Delivery) -> bool:
        """Note a delivery; tell whether it has to be handled."""
        offset = _offset_of(delivery)
        if offset is None:
            return True
        if self._offsets is None:
            self._offsets = Offsets(offset)
        return self._offsets.fetched(offset)

    def finished(self, delivery: Delivery) -> None:
        """Note that a message is settled; no consumer of this process gets it again."""
        offset = _offset_of(delivery)
        if self._offsets is not None and offset is not None:
            self._offsets.done(offset)

    def forget(self) -> None:
        """Begin with the first message: it is another stream."""
        self._offsets, self._anew = None, True

    async def is_reached(self, link: Link, queue: str) -> bool:
        """Tell whether a stream is as long as it was; one that was made again would be silent until then."""
        if self._offsets is None or not self._offsets.top:
            return True
        return await _reaches(link, queue, self._offsets.top - 1)


async def _reaches(link: Link, queue: str, offset: int) -> bool:
    """Read the last chunk of a stream; tell whether it holds the message of an offset, or later ones."""
    loop = asyncio.get_running_loop()
    reached, came = asyncio.Event(), [loop.time()]

    def on_delivery(delivery: Delivery) -> None:
        came[0] = loop.time()
        if (_offset_of(delivery) or 0) >= offset:
            reached.set()

    async with reading(link, queue, "last", MOST_AHEAD, on_delivery) as channel:
        came[0] = loop.time()
        while not reached.is_set() and loop.time() < came[0] + QUIET_SECONDS:
            try:
                await asyncio.wait_for(reached.wait(), QUIET_SECONDS)
            except asyncio.TimeoutError:
                continue
        if not reached.is_set() and channel.is_closed:
            raise ConnectionError("the connection was lost")
        return reached.is_set()


def _offset_of(delivery: Delivery) -> int | None:
    return delivery.number_of_broker(OFFSET)
