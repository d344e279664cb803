"""What only a consumer learns about a queue: of which type it is, and what a stream holds."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiormq
from aio_pika.abc import AbstractChannel
from aiormq.abc import DeliveredMessage

from .cancellation import uncancelled
from .connection import Link
from .delivery import Delivery
from .schema import QueueType

__all__ = ("OFFSET", "REPLY_SECONDS", "find_queue_type", "reading")

OFFSET = "x-stream-offset"
"""Argument of a consumer, and header of each delivery, whatever its publisher wrote there."""
REPLY_SECONDS = 5.0
NAMED = re.compile(r"of queue type (?:rabbit_)?(?P<type>[a-z0-9]+)")


async def find_queue_type(link: Link, queue: str) -> QueueType:
    """Return the type of a queue that is there; one that is neither a quorum queue nor a stream passes for classic.

    Only streams take an offset. Their deliveries carry one too, but so may those of any other queue: its publisher sets
    the header.
    """
    try:
        async with reading(link, queue, "next", 1, lambda delivery: None):
            return QueueType.STREAM
    except aiormq.ChannelPreconditionFailed as error:
        named = NAMED.search(str(error))
        is_quorum = named is not None and named["type"] == QueueType.QUORUM.value
        return QueueType.QUORUM if is_quorum else QueueType.CLASSIC


@asynccontextmanager
async def reading(
    link: Link, queue: str, offset: Any, count: int, take: Callable[[Delivery], None]
) -> AsyncIterator[AbstractChannel]:
    """Have `take` called for each of the first `count` messages of a stream from an offset, and settle none of them.

    Yields:
        The channel, which has no other use.
    """
    channel, deliveries = await link.consuming_channel()
    try:
        protocol = await link.protocol(channel)

        async def on_message(delivered: DeliveredMessage) -> None:
            take(Delivery.of(delivered))

        consumer = f"ctag{protocol.number}.{uuid4().hex}"
        await protocol.basic_qos(prefetch_count=count, timeout=REPLY_SECONDS)
        if deliveries is not None:
            deliveries.expect(protocol, consumer, take)
        await protocol.basic_consume(
            queue, on_message, arguments={OFFSET: offset}, consumer_tag=consumer, timeout=REPLY_SECONDS
        )
        yield channel
    finally:
        if not channel.is_closed:
            await uncancelled(channel.close(), REPLY_SECONDS)
