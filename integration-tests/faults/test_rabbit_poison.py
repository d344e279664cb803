"""One message that RabbitMQ can't write for AMQP 0-9-1, and ends the connection of who consumes it for."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from fastapi_stream_rabbit import QueueType, RabbitExchange, RabbitQueue, RabbitRouter

from faults.amqp_1_0 import send
from servers import Server
from waiting import until

CONTENT_TYPE = "a" * 300
SLOW_SECONDS = 4.0
MESSAGES = 5
LIMIT = 6
RUNS = 4
"""The first, and one more for each loss of the connection of all; and one for a loss while it is restored."""


@pytest.fixture(params=["stream", "library"], autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads the deliveries: our stream, or the client library as in versions that let nobody in."""
    if request.param == "library":
        monkeypatch.setattr("fastapi_stream_rabbit.connection.streams", lambda: None)


@pytest.fixture
async def channel(rabbit_server: Server) -> AsyncIterator[AbstractChannel]:
    """Somebody else's channel."""
    async with await aio_pika.connect(rabbit_server.url) as connection, connection.channel() as channel:
        yield channel


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [one.getMessage() for one in caplog.records if text in one.getMessage()]


async def is_empty(server: Server, queue: str) -> bool:
    """Tell whether everything in a queue is acknowledged, or given up."""
    said = await asyncio.to_thread(server.execute, "rabbitmqctl", "-q", "list_queues", "name", "messages")
    return f"{queue}\t0\n" in said


async def test_a_message_that_ends_the_connection_disturbs_its_own_queue_only(
    rabbit_server: Server, channel: AbstractChannel, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned, innocent = f"{name}-poisoned", f"{name}-innocent"
    exchange = RabbitExchange(f"{name}-exchange", auto_delete=True)
    router = RabbitRouter(rabbit_server.url)
    runs: Counter[int] = Counter()
    came: Counter[str] = Counter()

    @router.subscriber(poisoned)
    async def hurt(msg: str) -> None:
        came[msg] += 1

    @router.subscriber(innocent)
    async def slow(msg: int) -> None:
        runs[msg] += 1
        await asyncio.sleep(SLOW_SECONDS)

    @router.subscriber(RabbitQueue(f"{name}-exclusive", exclusive=True, durable=False, routing_key="key"), exchange)
    async def alone(msg: str) -> None:
        came[msg] += 1

    async def arrives(text: str) -> bool:
        await router.broker.publish(text, "key", exchange, mandatory=False)
        return came[text] > 0

    try:
        with caplog.at_level(logging.WARNING, "fastapi_stream"):
            async with router.broker as broker:
                await until(lambda: arrives("before"))
                await send(rabbit_server.url, poisoned, b"poison", content_type=CONTENT_TYPE)
                for number in range(MESSAGES):
                    await broker.publish(number, innocent)
                await until(lambda: len(runs) == MESSAGES, what="a run of each message")
                await until(lambda: is_empty(rabbit_server, innocent), what="the acknowledgement of every message")
                await until(lambda: arrives("after"), what="an exclusive queue that is made and bound again")
                await until(lambda: lines(caplog, f"the queue '{poisoned}'"), what="a line that names the queue")
        assert set(runs) == set(range(MESSAGES))
        assert max(runs.values()) <= RUNS, runs
        assert not lines(caplog, f"the queue '{innocent}'")
        assert len(lines(caplog, "each queue has a connection of its own")) == 1
    finally:
        await channel.queue_delete(poisoned)
        await channel.queue_delete(innocent)


async def test_the_delivery_limit_of_a_quorum_queue_ends_the_message_and_no_other(
    rabbit_server: Server, channel: AbstractChannel, name: str
) -> None:
    """What waits before and behind it is delivered with it, and counted with it, unless they come one by one."""
    arguments = {"x-delivery-limit": LIMIT}
    router = RabbitRouter(rabbit_server.url)
    runs: Counter[str] = Counter()
    texts = [f"{place} {number}" for place in ("before", "behind") for number in range(MESSAGES)]

    @router.subscriber(RabbitQueue(name, queue_type=QueueType.QUORUM, arguments=arguments))
    async def handler(msg: str) -> None:
        runs[msg] += 1
        await asyncio.sleep(1.0)

    async def publish(texts: list[str]) -> None:
        for text in texts:
            await channel.default_exchange.publish(aio_pika.Message(text.encode(), content_type="text/plain"), name)

    await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})
    try:
        await publish(texts[:MESSAGES])
        await send(rabbit_server.url, name, b"poison", content_type=CONTENT_TYPE)
        await publish(texts[MESSAGES:])
        async with router.broker:
            await until(lambda: len(runs) == len(texts), what="a run of each message")
            await until(lambda: is_empty(rabbit_server, name), what="the end of the message")
        assert set(runs) == set(texts)
    finally:
        await channel.queue_delete(name)
