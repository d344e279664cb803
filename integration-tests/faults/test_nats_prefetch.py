"""What a stream delivers ahead is bounded in bytes, though the server counts messages and has windows of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import NatsBroker, NatsMessage, PullSub
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StorageType, StreamConfig

from waiting import until

DEADLINE = 60.0
MIB = 1024 * 1024
LIMIT = 16 * MIB
LARGE = 900_000
WINDOW = 32 * MIB
"""The server asks at least so often whether it may go on to push."""
KINDS: dict[str, dict[str, Any]] = {
    "pull": {"pull_sub": True},
    "pull-durable": {"pull_sub": PullSub(batch_size=200), "durable": "d"},
    "push": {},
    "push-durable": {"durable": "d"},
    "push-unacknowledged": {"config": ConsumerConfig(ack_policy="none")},
    "group": {"queue": "q"},
}


@pytest.fixture
async def name(js: JetStreamContext, name: str) -> AsyncIterator[str]:
    """A stream in memory, and its only subject."""
    await js.add_stream(StreamConfig(name=name, subjects=[name], storage=StorageType.MEMORY))
    yield name
    await js.delete_stream(name)


async def fill(js: JetStreamContext, name: str, count: int, size: int, first: int = 0) -> None:
    for number in range(first, first + count):
        await js.publish(name, b"%06d" % number + bytes(size - 6), timeout=DEADLINE)


async def delivered(js: JetStreamContext, name: str) -> int:
    """Return how many messages the server has delivered, when that is the same for a second."""
    loop = asyncio.get_running_loop()
    last, since, deadline = -1, 0.0, loop.time() + DEADLINE
    while loop.time() < deadline:
        (info,) = await js.consumers_info(name)
        if info.delivered.stream_seq != last:
            last, since = info.delivered.stream_seq, loop.time()
        elif loop.time() - since > 1.0:
            return last
        await asyncio.sleep(0.05)
    raise AssertionError("the number of messages that are delivered does not come to rest")


@pytest.mark.parametrize("small", [0, 3000], ids=["all large", "small ones first"])
@pytest.mark.parametrize("kind", KINDS)
async def test_large_messages_are_delivered_a_few_at_a_time(
    nats_url: str, js: JetStreamContext, name: str, kind: str, small: int
) -> None:
    broker, seen, sizes = NatsBroker(nats_url), Inbox(), []
    go, begun = asyncio.Event(), asyncio.Event()

    @broker.subscriber(name, stream=name, prefetch_bytes=LIMIT, **KINDS[kind])
    async def handler(message: NatsMessage) -> None:
        if message.size >= LARGE:
            sizes.append(message.size)
            begun.set()
            await asyncio.wait_for(go.wait(), DEADLINE)
        seen.put(int(message.body[:6]))

    def has(count: int) -> bool:
        return len(set(seen.all)) == count

    await fill(js, name, small, 10)
    async with broker:
        await until(partial(has, small), DEADLINE)
        before = small
        for wave in range(2):
            await fill(js, name, 150, LARGE, before)
            await asyncio.wait_for(begun.wait(), DEADLINE)
            held = (await delivered(js, name) - before) * max(sizes)
            # A group has no flow control: what it may be delivered follows the sizes of the messages before.
            learns = kind == "group" and small and not wave
            is_counted = kind.startswith("pull") or kind == "group" or (not small and "unack" not in kind)
            most = 150 * LARGE if learns else LIMIT if is_counted else WINDOW
            assert 2 * LARGE <= held <= most + LARGE
            go.set()
            before += 150
            await until(partial(has, before), DEADLINE)
            go.clear()
            begun.clear()
        assert sorted(seen.all) == list(range(before))
        assert "restarted" not in broker.report.counts


@pytest.mark.parametrize("kind", ["pull", "pull-durable", "push", "group"])
async def test_one_message_may_be_larger(nats_url: str, js: JetStreamContext, name: str, kind: str) -> None:
    broker, seen = NatsBroker(nats_url), Inbox()

    @broker.subscriber(name, stream=name, prefetch_bytes=100_000, **KINDS[kind])
    async def handler(message: NatsMessage) -> None:
        seen.put(int(message.body[:6]))

    for first in range(0, 60, 20):
        await fill(js, name, 18, 20_000, first)
        await fill(js, name, 2, LARGE, first + 18)
    async with broker:
        await until(lambda: len(seen.all) == 60, DEADLINE)
    assert sorted(seen.all) == list(range(60))


@pytest.mark.parametrize("queue", ["", "q"])
async def test_many_small_messages_are_pushed_ahead(nats_url: str, js: JetStreamContext, name: str, queue: str) -> None:
    """It begins with what fits of the largest, and follows what comes; what somebody chose is left alone."""
    broker, seen = NatsBroker(nats_url), Inbox()

    @broker.subscriber(name, queue, stream=name, prefetch_bytes=LIMIT)
    async def handler(message: NatsMessage) -> None:
        seen.put(message.sequence)

    async def most() -> int | None:
        (info,) = await js.consumers_info(name)
        return info.config.max_ack_pending

    async with broker:
        assert await most() == 16
        await fill(js, name, 100, 100)
        await until(lambda: len(seen.all) == 100, DEADLINE)
        deadline = time.monotonic() + DEADLINE
        while (count := await most()) != 1000:
            assert time.monotonic() < deadline, count


async def test_what_somebody_chose_is_left_alone(nats_url: str, js: JetStreamContext, name: str) -> None:
    broker, seen = NatsBroker(nats_url), Inbox()

    @broker.subscriber(name, "q", stream=name, config=ConsumerConfig(max_ack_pending=7))
    async def handler(message: NatsMessage) -> None:
        seen.put(message.sequence)

    async with broker:
        await fill(js, name, 100, 100)
        await until(lambda: len(seen.all) == 100, DEADLINE)
        assert (await js.consumer_info(name, "q")).config.max_ack_pending == 7
