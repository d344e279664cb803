"""The connections that are consumed on: one for all queues, until a message ends it again and again.

RabbitMQ ends the connection of who consumes when it can't write a message for AMQP 0-9-1, which AMQP 1.0 lets anybody
send, and delivers the message again on the next one. Then each queue gets a connection of its own.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING

from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ConnectionInternalError
from fastapi_stream_core.recurrence import Recurrence
from fastapi_stream_core.report import Report

from .cancellation import uncancelled
from .connection import CLOSE_SECONDS, FIRST_DELAY, Address, Link
from .schema import RabbitQueue
from .stream import Deliveries
from .topology import is_missing

if TYPE_CHECKING:
    from .subscription import RabbitSubscription

__all__ = ("Consuming",)

TWICE = 2
"""After how many losses in a row each queue gets a connection of its own: a single one may be RabbitMQ's own fault."""
NEAR_SECONDS = 1800.0
"""Between two losses in a row: so long RabbitMQ lets a handler take by default, and the message may wait behind it."""
MOST_SECONDS = 20.0
"""Between two connections of one queue; with the jitter 30."""


class Consuming:
    """Knows on which connection a queue is consumed.

    Args:
        address: where RabbitMQ is.
        report: where it is said that the queues were parted.

    Attributes:
        shared: the connection of all queues; once they are parted nothing is consumed on it.
    """

    def __init__(self, address: Address, report: Report) -> None:
        self.shared = Link(address, report)
        self.shared.when_lost = self._lost
        self._declared: set[str] = set()
        self._missing: set[str] = set()
        self._report = report
        self._faults = _Faults()
        self._parted = False
        self._closed = False
        self._links: dict[str, Link] = {}

    def link(self, queue: str) -> Link:
        """Return the connection that a queue is consumed on, and that an exclusive one belongs to."""
        if not self._parted or self._closed:
            return self.shared
        link = self._links.get(queue)
        if link is None:
            link = self._links[queue] = _QueueLink(self.shared.address, self._report, queue)
        return link

    async def channel(self, queue: str) -> tuple[Link, AbstractChannel, Deliveries | None]:
        """Open a channel for a consumer of a queue; return the connection too, and who reads the deliveries."""
        while True:
            link = self.link(queue)
            channel, deliveries = await link.consuming_channel()
            if link is self.link(queue):
                return link, channel, deliveries
            # The queues were parted while this one waited for the connection of all.
            await uncancelled(channel.close(), CLOSE_SECONDS)

    async def channel_for(self, queue: RabbitQueue) -> tuple[Link, AbstractChannel, Deliveries | None]:
        """Open a channel as `channel` does, to declare and consume a queue; look first whether one is still there."""
        found = await self.channel(queue.name)
        if queue.name in self._declared:
            link, channel, _ = found
            if await is_missing(await link.protocol(channel), queue):
                self._missing.add(queue.name)
            else:
                self._missing.discard(queue.name)
            if channel.is_closed:
                return await self.channel(queue.name)
        return found

    def note_declared(self, subscription: RabbitSubscription) -> None:
        """Note that a queue was declared, and say so when that made it anew."""
        queue = subscription.queue
        if queue.name in self._missing:
            self._missing.discard(queue.name)
            text = "%s: the queue %r was not there any more, and is declared anew; what it held is gone"
            self._report.line(logging.WARNING, text, subscription.label, queue.name)
        elif queue.is_lasting:
            self._declared.add(queue.name)

    async def close(self) -> None:
        """Close all connections for good; bounded in time."""
        self._closed = True
        await asyncio.gather(*(link.close() for link in (self.shared, *self._links.values())))

    def _lost(self, error: BaseException) -> None:
        if self._faults.add(error) < TWICE or self._parted:
            return
        self._parted = True
        self._report.line(
            logging.WARNING,
            "RabbitMQ ended the connection to %s with INTERNAL_ERROR %d times in a row; "
            "from now on each queue has a connection of its own, so that the one to blame disturbs no other",
            self.shared.address.shown,
            self._faults.count,
        )


class _QueueLink(Link):
    """The connection of one queue, which waits longer and longer when a message ends it again and again."""

    def __init__(self, address: Address, report: Report, queue: str) -> None:
        super().__init__(address, report)
        self.when_lost = self._tell
        self._queue = queue
        self._faults = _Faults()
        self._told = Recurrence()

    def _tell(self, error: BaseException) -> None:
        count = self._faults.add(error)
        self.is_suspect = count > 0
        self.first_delay = min(FIRST_DELAY * 2.0 ** min(count, 10), MOST_SECONDS)
        if not count:
            self._told.end()
        elif self._told.is_due(error):
            self._report.line(
                logging.WARNING,
                "the queue %r: RabbitMQ ended its connection with INTERNAL_ERROR (loss %d in a row); it may hold a "
                "message of AMQP 1.0 that can't be written for AMQP 0-9-1: read or purge the queue by AMQP 1.0",
                self._queue,
                count,
            )


class _Faults:
    """Counts how often in a row RabbitMQ ended a connection with INTERNAL_ERROR."""

    def __init__(self) -> None:
        self.count = 0
        self._last = 0.0

    def add(self, error: BaseException) -> int:
        """Note why a connection was lost, and return the count."""
        now = monotonic()
        if not isinstance(error, ConnectionInternalError):
            self.count = 0
        else:
            self.count = self.count + 1 if now < self._last + NEAR_SECONDS else 1
        self._last = now
        return self.count
