"""What is delivered ahead is bounded in bytes, though RabbitMQ counts messages only."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from fastapi_stream_rabbit import Channel, QueueType, RabbitMessage, RabbitQueue, RabbitRouter

from servers import Server

DEADLINE = 15.0
LIMIT = 4 * 1024 * 1024
LARGE = 256 * 1024


@pytest.fixture(params=["stream", "library"], autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads the deliveries: our stream, or the client library as in versions that let nobody in."""
    if request.param == "library":
        monkeypatch.setattr("fastapi_stream_rabbit.connection.streams", lambda: None)


async def fill(channel: AbstractChannel, name: str, sizes: list[int]) -> None:
    for number, size in enumerate(sizes):
        body = b"%06d" % number + bytes(size - 6)
        await channel.default_exchange.publish(aio_pika.Message(body), name)


async def settled(channel: AbstractChannel, name: str) -> int:
    """Return how many messages the server holds back, when that is the same for half a second."""
    deadline, last, since = time.monotonic() + DEADLINE, -1, 0.0
    while time.monotonic() < deadline:
        queue = await channel.declare_queue(name, passive=True)
        ready = queue.declaration_result.message_count or 0
        if ready != last:
            last, since = ready, time.monotonic()
        elif time.monotonic() - since > 0.5:
            return ready
        tick = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, tick.set)
        await tick.wait()
    raise AssertionError("the number of messages in the queue does not come to rest")


@pytest.mark.parametrize("small", [0, 400], ids=["all large", "small ones first"])
@pytest.mark.parametrize("auto_delete", [False, True])
async def test_large_messages_are_delivered_a_few_at_a_time(
    rabbit_server: Server, small: int, auto_delete: bool
) -> None:
    name = f"prefetch-{uuid4().hex[:10]}"
    router = RabbitRouter(rabbit_server.url)
    seen: list[int] = []
    go, begun = asyncio.Event(), asyncio.Event()

    @router.subscriber(RabbitQueue(name, auto_delete=auto_delete), max_workers=100, prefetch_bytes=LIMIT)
    async def handler(message: RabbitMessage) -> None:
        if message.size >= LARGE:
            begun.set()
            await asyncio.wait_for(go.wait(), DEADLINE)
        seen.append(int(message.body[:6]))

    sizes = [10] * small + [LARGE] * 120
    async with await aio_pika.connect(rabbit_server.url) as connection, connection.channel() as channel:
        await channel.declare_queue(name, durable=True, auto_delete=auto_delete, arguments={"x-queue-type": "classic"})
        await fill(channel, name, sizes)
        async with router.broker as broker:
            await asyncio.wait_for(begun.wait(), DEADLINE)
            held = 120 - await settled(channel, name)
            # What the workers took before the sizes changed they keep; without a bound it is all that there is.
            assert 2 <= held <= (LIMIT // LARGE + 2 if not small else 102)
            go.set()
            deadline = time.monotonic() + DEADLINE
            while len(set(seen)) < len(sizes):
                assert time.monotonic() < deadline, f"{len(set(seen))} of {len(sizes)}"
                await asyncio.sleep(0.01)
            assert sorted(seen) == list(range(len(sizes)))
            assert "restarted" not in broker.report.counts
        if not auto_delete:
            await channel.queue_delete(name)


async def test_small_messages_are_delivered_as_many_as_there_are_workers(rabbit_server: Server) -> None:
    name = f"prefetch-{uuid4().hex[:10]}"
    router = RabbitRouter(rabbit_server.url)
    running, most = 0, 0
    all_there = asyncio.Event()

    @router.subscriber(RabbitQueue(name, auto_delete=True))
    async def handler(msg: bytes) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 100:
            all_there.set()
        await asyncio.wait_for(all_there.wait(), DEADLINE)
        running -= 1

    async with router.broker, await aio_pika.connect(rabbit_server.url) as connection, connection.channel() as channel:
        await fill(channel, name, [10] * 100)
        await asyncio.wait_for(all_there.wait(), DEADLINE)
    assert most == 100


async def test_fitting_the_count_uses_up_hardly_a_delivery_of_a_quorum_queue(rabbit_server: Server) -> None:
    """It counts what comes back, and gives a message up at its limit, though no handler has seen it."""
    name = f"prefetch-{uuid4().hex[:10]}"
    router = RabbitRouter(rabbit_server.url)
    seen: dict[int, int] = {}
    consumers: set[str | None] = set()
    queue = RabbitQueue(name, queue_type=QueueType.QUORUM)

    @router.subscriber(queue, max_workers=1, prefetch_bytes=200_000, channel=Channel(prefetch_count=100))
    async def handler(message: RabbitMessage) -> None:
        seen.setdefault(int(message.body[:6]), message.attempt)
        consumers.add(message.raw_message.consumer_tag)
        if message.size > 1000:
            await asyncio.sleep(0.05)  # it works

    rounds = [[10] * 300, [60_000, 10, 90_000, 10] * 10] * 6
    count = 0
    began = time.monotonic()
    async with await aio_pika.connect(rabbit_server.url) as connection, connection.channel() as channel:
        async with router.broker:
            for sizes in rounds:
                bodies = [b"%06d" % number + bytes(size) for number, size in enumerate(sizes, count)]
                count += len(sizes)
                await asyncio.gather(*(channel.default_exchange.publish(aio_pika.Message(one), name) for one in bodies))
                deadline = time.monotonic() + DEADLINE
                while len(seen) < count:
                    assert time.monotonic() < deadline, f"{len(seen)} of {count}"
                    await asyncio.sleep(0.01)
        await channel.queue_delete(name)
    # The count grows and falls once in half a minute: what is on its way then comes back.
    assert len(consumers) <= 3 * (1 + (time.monotonic() - began) // 30)
    assert max(seen.values()) <= len(consumers)


async def test_what_is_given_back_keeps_its_order(rabbit_server: Server) -> None:
    name = f"prefetch-{uuid4().hex[:10]}"
    router = RabbitRouter(rabbit_server.url)
    seen: list[int] = []
    queue = RabbitQueue(name, auto_delete=True)

    @router.subscriber(queue, max_workers=1, prefetch_bytes=1_000_000, channel=Channel(prefetch_count=60))
    async def handler(message: RabbitMessage) -> None:
        seen.append(int(message.body[:6]))
        await asyncio.sleep(0.003)  # it works

    sizes = [10] * 150 + [100_000] * 40
    async with router.broker, await aio_pika.connect(rabbit_server.url) as connection, connection.channel() as channel:
        await fill(channel, name, sizes)
        deadline = time.monotonic() + DEADLINE
        while len(seen) < len(sizes):
            assert time.monotonic() < deadline, f"{len(seen)} of {len(sizes)}"
            await asyncio.sleep(0.01)
    assert seen == list(range(len(sizes)))
