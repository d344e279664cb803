"""A producer that another one took the place of ends when everything that was published with it is answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from confluent_kafka import KafkaError, Producer
from fastapi_stream_confluent import KafkaBroker
from fastapi_stream_confluent.metadata import Topics
from fastapi_stream_confluent.producers import Producers
from fastapi_stream_core.response import Outgoing

DEADLINE = 15.0
TOPIC = "tea"
MESSAGE = Outgoing(TOPIC, b"x", "", options={"partition": 0})
RTT_MS = 100
QUEUE = 10
"""Most messages that the client takes before some are confirmed."""
COUNT = 50


@pytest.fixture
def address() -> Iterator[str]:
    """The broker inside of librdkafka, which takes its time."""
    cluster = Producer({"test.mock.num.brokers": 1, "test.mock.broker.rtt": RTT_MS, "log_level": 0})
    server = next(iter(cluster.list_topics(TOPIC, timeout=DEADLINE).brokers.values()))
    yield f"{server.host}:{server.port}"
    cluster.flush(0)  # it lives until here


def threads() -> int:
    return sum(one.name == "kafka-producer" for one in threading.enumerate())


async def ended(but: int) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while threads() > but:
        assert asyncio.get_running_loop().time() < deadline, f"{threads()} producers are left"
        await asyncio.sleep(0.02)


@pytest.fixture
async def producers(address: str) -> AsyncIterator[Producers]:
    broker = KafkaBroker(address, config={"queue.buffering.max.messages": QUEUE})
    one = Producers(broker, Topics({"bootstrap.servers": address}))
    try:
        yield one
    finally:
        await one.close()


async def is_replaced(producers: Producers) -> None:
    """Have a producer replaced, by a publication that comes next."""
    (await producers.start()).broken = KafkaError(KafkaError._FATAL, "it sends no more")
    await producers.publish(MESSAGE)


async def test_it_ends_and_loses_nothing(producers: Producers) -> None:
    before = threads()
    for _ in range(3):
        await producers.start()
        publishing = [asyncio.create_task(producers.publish(MESSAGE)) for _ in range(COUNT)]
        await asyncio.sleep(0)
        await is_replaced(producers)
        await asyncio.gather(*publishing)
        await ended(before + 1)


async def test_it_ends_when_it_has_answered(producers: Producers) -> None:
    before, asked, may_end = threads(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def ask(client: Producer) -> int:
        loop.call_soon_threadsafe(asked.set)
        may_end.wait(DEADLINE)
        return len(client.list_topics(timeout=DEADLINE).topics)

    asking = asyncio.create_task((await producers.start()).ask(ask))
    await asyncio.wait_for(asked.wait(), DEADLINE)
    await is_replaced(producers)
    may_end.set()
    assert await asking
    await ended(before + 1)


async def test_it_ends_with_the_broker(producers: Producers) -> None:
    before = threads()
    await producers.start()
    publishing = asyncio.create_task(producers.publish(MESSAGE))
    await asyncio.sleep(0)
    await is_replaced(producers)
    await producers.close()
    await publishing
    await ended(before)
