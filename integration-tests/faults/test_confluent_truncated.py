"""A partition whose log comes back shorter, and has grown past the reader's position before anybody looks."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from fastapi_stream_confluent import KafkaBroker, TopicPartition

from confluent_cluster import Cluster, fresh
from servers import IMAGES, ContainerServer, open_container
from waiting import until

OLD, KEPT, NEW = 100, 60, 300
FOLDER = "/tmp/kafka-logs"


@pytest.fixture
def server() -> Iterator[ContainerServer]:
    image = IMAGES["kafka"]
    server = open_container(dataclasses.replace(image, environment={**image.environment, "KAFKA_LOG_DIRS": FOLDER}))
    try:
        yield server
    finally:
        server.remove()


def cut(server: ContainerServer, topic: str) -> None:
    """Lose the last records of a partition in a power cut; each batch of the test has ten, all of the same size."""
    server.execute(
        "sh",
        "-c",
        f"cd {FOLDER}/{topic}-0 && S=$(stat -c %s 00000000000000000000.log) &&"
        f" truncate -s $((S*{KEPT}/{OLD})) 00000000000000000000.log && rm -f *.index *.timeindex",
    )
    server.kill()


def publish_at_once(server: ContainerServer, topic: str) -> None:
    """Have the records sent as soon as the server answers."""
    config = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50, "retry.backoff.ms": 10}
    with Producer({"bootstrap.servers": server.url, "linger.ms": 20, "log_level": 0, **config}) as producer:
        for number in range(NEW):
            producer.produce(topic, b'"new %d"' % number, partition=0)
        server.start()
        assert producer.flush(60) == 0


async def test_what_was_written_in_place_of_lost_records_is_handled(
    server: ContainerServer, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, topic = Cluster(server.url), fresh("cut")
    await asyncio.to_thread(cluster.make, topic, 1)
    broker = KafkaBroker(server.url)
    # A session that outlasts the outage: a member that joins again knows nothing but the committed offset.
    kinds: dict[str, dict[str, Any]] = {
        "group": {"group_id": topic, "session_timeout_ms": 60000},
        "alone": {},
        "named": {"group_id": f"{topic}-named"},
    }
    handled: dict[str, list[str]] = {kind: [] for kind in kinds}
    for kind, options in kinds.items():
        topics = () if kind == "named" else (topic,)
        named = {"partitions": [TopicPartition(topic, 0)]} if kind == "named" else {}

        @broker.subscriber(*topics, **named, auto_offset_reset="earliest", **options)  # type: ignore[arg-type]
        async def handler(msg: str, kind: str = kind) -> None:
            handled[kind].append(msg)

    def committed(offset: int) -> bool:
        return [cluster.committed(topic, topic), cluster.committed(f"{topic}-named", topic)] == [offset] * 2

    new = {f"new {number}" for number in range(NEW)}
    with caplog.at_level(logging.WARNING):
        async with broker:
            for first in range(0, OLD, 10):
                bodies = [b'"old %03d"' % number for number in range(first, first + 10)]
                await asyncio.to_thread(_publish_batch, server.url, topic, bodies)
            await until(lambda: all(len(one) == OLD for one in handled.values()))
            await until(lambda: asyncio.to_thread(committed, OLD))
            await asyncio.to_thread(cut, server, topic)
            await asyncio.to_thread(publish_at_once, server, topic)
            assert await asyncio.to_thread(cluster.end, topic) == KEPT + NEW
            for kind, one in handled.items():
                await until(lambda one=one: new <= set(one), what=f"all was handled ({kind})")  # type: ignore[misc]
            await until(lambda: asyncio.to_thread(committed, KEPT + NEW))
    said = [one for one in caplog.messages if "lost its last records" in one]
    assert len(said) == len(kinds), said
    assert all(f"partition 0 of {topic}" in one and f" {KEPT}" in one for one in said)
    assert {kind: len(one) for kind, one in handled.items()} == dict.fromkeys(kinds, OLD + NEW)


def _publish_batch(url: str, topic: str, bodies: list[bytes]) -> None:
    with Producer({"bootstrap.servers": url, "linger.ms": 50}) as producer:
        for body in bodies:
            producer.produce(topic, body, partition=0)
        assert producer.flush(30) == 0
