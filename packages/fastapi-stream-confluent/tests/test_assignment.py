"""Where a partition begins, with the client's own consumer on the cluster inside of librdkafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer
from fastapi_stream_confluent import KafkaBroker
from fastapi_stream_confluent.assignment import Assignment, Findings
from fastapi_stream_core.partition import Partition
from fastapi_stream_core.topic_progress import TopicProgress

DEADLINE = 30.0
TOPIC, COUNT = "tea", 5


@pytest.fixture
def address() -> Iterator[str]:
    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    server = next(iter(cluster.list_topics(TOPIC, timeout=DEADLINE).brokers.values()))
    yield f"{server.host}:{server.port}"
    cluster.flush(0)


@pytest.mark.parametrize("renewed", [False, True])
async def test_a_partition_that_is_known_is_new_in_a_topic_that_was_made_again(address: str, renewed: bool) -> None:
    """The thread notes a partition as known at the same time as the event loop notices the new topic."""
    broker = KafkaBroker(address)
    subscription = broker.subscriber(TOPIC, auto_offset_reset="latest")
    async with broker:
        for number in range(COUNT):
            await broker.publish(number, TOPIC, partition=0)
    progress = TopicProgress()
    progress.positioned = True
    progress.known = {(TOPIC, number) for number in range(4)}
    progress.renewed = frozenset([TOPIC] if renewed else [])
    found: dict[Partition, int] = {}
    told = Findings(lambda _: {}, found.update, *[lambda *_: None] * 3, lambda _: {})
    client = Consumer({"bootstrap.servers": address, "group.id": "-", "log_level": 0})
    try:
        await asyncio.to_thread(Assignment(subscription, progress, told, False).assign, client)
    finally:
        await asyncio.to_thread(client.close)
    assert found[TOPIC, 0] == (0 if renewed else COUNT)
