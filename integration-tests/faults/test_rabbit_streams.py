"""Queues of type stream, whose connection is lost or that are made again while they are read."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from fastapi_stream_rabbit import QueueType, RabbitBroker, RabbitMessage, RabbitQueue

from proxy import Proxy
from servers import Server
from waiting import until

DEADLINE = 40.0
COUNT = 50
MANY = 1000
FEW = 20
HEADERS = {f"a{number}": number for number in range(1500)}
"""More than are read, and in the order of their names all before those that RabbitMQ sets."""
AGAIN = "was deleted and made again; reading it from its beginning"


@pytest.fixture(params=["stream", "library"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads the deliveries: our stream, or the client library as in versions that let nobody in."""
    if request.param == "library":
        monkeypatch.setattr("fastapi_stream_rabbit.connection.streams", lambda: None)


@pytest.fixture
def name() -> str:
    return f"stream-{uuid4().hex[:10]}"


@pytest.fixture
async def channel(rabbit_server: Server, name: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(rabbit_server.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "stream"})
        yield channel
        await channel.queue_delete(name)


def reading(url: str, name: str, arguments: dict[str, Any] | None = None) -> tuple[RabbitBroker, Counter[int]]:
    broker, runs = RabbitBroker(url), Counter[int]()

    @broker.subscriber(RabbitQueue(name, queue_type=QueueType.STREAM), consume_args=arguments)
    async def handler(msg: int) -> None:
        runs[msg] += 1
        if msg % 10 == 3 and runs[msg] == 1:
            raise RuntimeError("once more")

    return broker, runs


async def publish(channel: AbstractChannel, name: str, numbers: range) -> None:
    for number in numbers:
        # Nobody believes what a publisher says of the offset.
        message = aio_pika.Message(b"%d" % number, headers={"x-stream-offset": 10_000 - number})
        await channel.default_exchange.publish(message, name)


def is_over(runs: Counter[int], numbers: range) -> bool:
    """Tell whether all were handled, those that failed once more."""
    return all(runs[number] >= 1 + (number % 10 == 3) for number in numbers)


@pytest.mark.parametrize("before", [0, 1, COUNT])
@pytest.mark.parametrize("begin", [None, "first", "last", 0])
async def test_a_lost_connection_skips_and_repeats_nothing(
    rabbit_server: Server, channel: AbstractChannel, name: str, before: int, begin: str | int | None
) -> None:
    async with Proxy(rabbit_server.url) as proxy:
        broker, runs = reading(proxy.url, name, None if begin is None else {"x-stream-offset": begin})
        async with broker:
            await publish(channel, name, range(before))
            await until(lambda: is_over(runs, range(before)))
            await proxy.cut()
            await publish(channel, name, range(before, before + COUNT))
            await proxy.open()
            await until(lambda: is_over(runs, range(before + COUNT)))
            await publish(channel, name, range(before + COUNT, before + 2 * COUNT))
            await until(lambda: is_over(runs, range(before + 2 * COUNT)))
    assert {number: 1 + (number % 10 == 3) for number in range(before + 2 * COUNT)} == runs
    assert "late" not in broker.report.counts


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("begin", [None, "first"])
@pytest.mark.parametrize("fields", [{"arguments": {"x-queue-type": "stream"}}, {"declare": False}])
async def test_a_stream_is_one_however_it_is_declared(
    rabbit_server: Server, channel: AbstractChannel, name: str, fields: dict[str, Any], begin: str | None
) -> None:
    """Taken for a classic queue, it would be consumed with few messages first, and then from another offset."""
    async with Proxy(rabbit_server.url) as proxy:
        broker, runs = RabbitBroker(proxy.url), Counter[int]()

        @broker.subscriber(
            RabbitQueue(name, **fields), consume_args=None if begin is None else {"x-stream-offset": begin}
        )
        async def handler(msg: int) -> None:
            runs[msg] += 1

        async with broker:
            await asyncio.gather(*(publish(channel, name, range(one, one + 1)) for one in range(MANY)))
            await until(lambda: len(runs) == MANY)
            await proxy.cut()
            await publish(channel, name, range(MANY, MANY + COUNT))
            await proxy.open()
            await until(lambda: len(runs) == MANY + COUNT)
    assert runs == dict.fromkeys(range(MANY + COUNT), 1)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_no_header_makes_a_stream_of_a_queue_that_somebody_else_declared(
    rabbit_server: Server, name: str, queue_type: str
) -> None:
    async with await aio_pika.connect(rabbit_server.url) as connection, Proxy(rabbit_server.url) as proxy:
        channel = await connection.channel()
        queue = await channel.declare_queue(f"{name}-q", durable=True, arguments={"x-queue-type": queue_type})
        broker, runs = RabbitBroker(proxy.url), Counter[int]()

        @broker.subscriber(RabbitQueue(queue.name, declare=False))
        async def handler(msg: int) -> None:
            runs[msg] += 1

        async with broker:
            await publish(channel, queue.name, range(COUNT))
            await until(lambda: len(runs) == COUNT)
            await proxy.cut()
            await publish(channel, queue.name, range(COUNT, 2 * COUNT))
            await proxy.open()
            await until(lambda: len(runs) == 2 * COUNT)
        await channel.queue_delete(queue.name)
    assert runs.keys() == set(range(2 * COUNT))


async def test_what_runs_when_the_connection_is_lost_is_not_lost(
    rabbit_server: Server, channel: AbstractChannel, name: str
) -> None:
    """It goes on at the first message that is not finished, and leaves out what is finished behind it."""
    async with Proxy(rabbit_server.url) as proxy:
        broker, runs = RabbitBroker(proxy.url), Counter[int]()
        go = asyncio.Event()

        @broker.subscriber(RabbitQueue(name, queue_type=QueueType.STREAM))
        async def handler(msg: int) -> None:
            if msg == 5:
                await go.wait()
            runs[msg] += 1

        async with broker:
            await publish(channel, name, range(COUNT))
            await until(lambda: len(runs) == COUNT - 1)
            await proxy.cut()
            await proxy.open()
            await publish(channel, name, range(COUNT, 2 * COUNT))
            await until(lambda: len(runs) == 2 * COUNT - 1)
            go.set()
            await until(lambda: len(runs) == 2 * COUNT)
    assert runs.pop(5) in (1, 2)
    assert set(runs.values()) == {1}


@pytest.mark.parametrize("connected", [True, False])
async def test_a_stream_that_is_made_again(
    rabbit_server: Server, channel: AbstractChannel, name: str, connected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A consumer of it that began where the other stream was read to would be silent for long."""
    async with Proxy(rabbit_server.url) as proxy:
        broker, runs = reading(proxy.url, name)
        with caplog.at_level(logging.WARNING):
            async with broker:
                await publish(channel, name, range(COUNT))
                await until(lambda: is_over(runs, range(COUNT)))
                if not connected:
                    await proxy.cut()
                await channel.queue_delete(name)
                await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "stream"})
                await publish(channel, name, range(COUNT, COUNT + 12))
                if not connected:
                    await proxy.open()
                await until(lambda: is_over(runs, range(COUNT + 12)))
    assert {number: 1 + (number % 10 == 3) for number in range(COUNT + 12)} == runs
    assert caplog.text.count(AGAIN) == 1


@pytest.mark.usefixtures("reader")
async def test_many_headers_hide_no_offset(
    rabbit_server: Server, channel: AbstractChannel, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ puts its own headers behind those of a publisher."""
    async with Proxy(rabbit_server.url) as proxy:
        broker, runs = RabbitBroker(proxy.url), Counter[int]()

        @broker.subscriber(RabbitQueue(name, queue_type=QueueType.STREAM), consume_args={"x-stream-offset": "first"})
        async def handler(msg: int) -> None:
            runs[msg] += 1

        with caplog.at_level(logging.WARNING):
            async with broker:
                await publish(channel, name, range(FEW))
                await until(lambda: len(runs) == FEW)
                hostile = aio_pika.Message(b"%d" % FEW, headers=HEADERS)
                await channel.default_exchange.publish(hostile, name)
                await until(lambda: len(runs) == FEW + 1)
                subscription = broker.subscribers[0]
                for count in (FEW + 1, FEW + 2):
                    await proxy.cut()
                    await until(lambda: not subscription.running)
                    await proxy.open()
                    await until(lambda: subscription.running)
                    await publish(channel, name, range(count, count + 1))
                    await until(partial(runs.__contains__, count))
    assert runs == dict.fromkeys(range(FEW + 3), 1)
    assert AGAIN not in caplog.text


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    "fields", [{"queue_type": QueueType.QUORUM}, {"arguments": {"x-queue-type": "quorum"}}, {"declare": False}]
)
async def test_many_headers_hide_no_count_of_deliveries(
    rabbit_server: Server, name: str, fields: dict[str, Any]
) -> None:
    """A quorum queue counts them in a header, which counts on where another process consumes."""
    async with await aio_pika.connect(rabbit_server.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(f"{name}-q", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"hi", headers=HEADERS), queue.name)
        for _ in range(3):
            message = None
            while message is None:
                message = await queue.get(fail=False)
            await message.reject(requeue=True)
        attempts: asyncio.Queue[int] = asyncio.Queue()
        broker = RabbitBroker(rabbit_server.url)

        @broker.subscriber(RabbitQueue(queue.name, **fields))
        async def handler(message: RabbitMessage) -> None:
            attempts.put_nowait(message.attempt)

        async with broker:
            assert await asyncio.wait_for(attempts.get(), DEADLINE) == 4
        await channel.queue_delete(queue.name)
