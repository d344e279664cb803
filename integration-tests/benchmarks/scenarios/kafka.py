"""Kafka by aiokafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from order import BODY, CORRELATION_ID

from .scenario import Kind, Scenario, Send, Take

HEADERS = [("content-type", b"application/json"), ("correlation_id", CORRELATION_ID.encode())]
DEFAULT = Kind("default", "topic", against_peer=(7, 12), latency=True, publish="topic")
AT_LEAST_ONCE = Kind(
    "group, at least once", "topic", against_peer=(100, 400), by_rate=True, peer_messages=300, latency=True
)
AT_MOST_ONCE = Kind("group, at most once", "topic")
BATCH = Kind("batch", "topic", batch=True, peer_messages=50_000)


class Kafka(Scenario):
    """By aiokafka.

    Attributes:
        package: ours.
        peer_package: FastStream's, whose names are the same.
    """

    name = "kafka"
    package = "fastapi_stream_kafka"
    peer_package = "faststream.kafka.fastapi"
    kinds = (DEFAULT, AT_LEAST_ONCE, AT_MOST_ONCE, BATCH)
    raw_note = "kafka: raw is getmany(max_records=500); at least once with one commit of the newest offsets in flight."
    publish_note = "kafka: FastStream publishes with acks=1 and not idempotent; raw and ours with acks=all, idempotent."

    @property
    def group(self) -> str | None:
        return f"{self.address}-{self.token}" if self.kind.name in (AT_LEAST_ONCE.name, AT_MOST_ONCE.name) else None

    @property
    def at_least_once(self) -> bool:
        return self.kind.name == AT_LEAST_ONCE.name

    def fill(self, count: int) -> None:
        fill_topic(self.url, self.address, count)

    async def raw(self, take: Take, over: asyncio.Event, ready: Callable[[], None]) -> None:
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(
            self.address,
            bootstrap_servers=self.url,
            group_id=self.group,
            auto_offset_reset="earliest",
            enable_auto_commit=self.kind is AT_MOST_ONCE,
        )
        await consumer.start()
        ready()
        handled: dict[Any, int] = {}
        commit: asyncio.Task[None] | None = None
        while not over.is_set():
            for partition, records in (await consumer.getmany(timeout_ms=1000, max_records=500)).items():
                for record in records:
                    take(record.value)
                handled[partition] = records[-1].offset + 1
            if self.at_least_once and handled and (commit is None or commit.done()):
                commit = asyncio.create_task(consumer.commit(dict(handled)))
        if commit is not None:
            await commit
            await consumer.commit(handled)
        await consumer.stop()

    def ours(self) -> tuple[Any, Any]:
        package = import_module(self.package)
        return self._subscribed(package.KafkaRouter, package.AckPolicy)

    def peer(self) -> tuple[Any, Any]:
        from faststream import AckPolicy

        return self._subscribed(import_module(self.peer_package).KafkaRouter, AckPolicy)

    def _subscribed(self, router_type: Any, policy: Any) -> tuple[Any, Any]:
        options: dict[str, Any] = {"auto_offset_reset": "earliest"}
        if self.group is not None:
            options["group_id"] = self.group
            options["ack_policy"] = policy.NACK_ON_ERROR if self.at_least_once else policy.ACK_FIRST
        if self.kind.batch:
            options["batch"] = True
        router = router_type(self.url, logger=None)
        return router, lambda: router.subscriber(self.address, **options)

    async def unsettled(self, count: int) -> int:
        return count - committed(self.url, self.group, self.address) if self.at_least_once else 0

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Send]:
        from aiokafka import AIOKafkaProducer

        producer = AIOKafkaProducer(bootstrap_servers=self.url, acks="all", enable_idempotence=True)
        await producer.start()
        try:
            yield lambda body: producer.send_and_wait(self.address, body, headers=HEADERS)
        finally:
            await producer.stop()

    def destination(self) -> dict[str, Any]:
        return {"topic": self.address}


def committed(url: str, group: str | None, topic: str) -> int:
    """Return the offset that a group has committed."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": url, "group.id": group})
    try:
        return int(consumer.committed([TopicPartition(topic, 0)], timeout=10)[0].offset)
    finally:
        consumer.close()


def fill_topic(url: str, topic: str, count: int) -> None:
    """Make a topic of one partition with `count` messages in batches of about 16 kB, as a busy producer writes them."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    administration = AdminClient({"bootstrap.servers": url})
    administration.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    failed: list[object] = []

    def delivered(error: object, _: object) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer({"bootstrap.servers": url, "linger.ms": 5, "batch.size": 16384, "acks": "all"})
    for number in range(count):
        producer.produce(topic, BODY, headers=HEADERS, on_delivery=delivered)
        if number % 10_000 == 0:
            producer.poll(0.1)
    if producer.flush(60) or failed:
        raise RuntimeError(f"{topic!r} could not be filled with {count} messages: {failed[:1]}")
