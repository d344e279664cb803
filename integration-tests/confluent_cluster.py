"""The client library confluent-kafka alone: the other side of a test on a real Kafka, and waiting for events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

DEADLINE = 30.0


def fresh(word: str = "test") -> str:
    return f"{word}-{uuid4().hex[:10]}"


async def take(queue: asyncio.Queue[Any], count: int = 1, timeout: float = DEADLINE) -> list[Any]:
    return [await asyncio.wait_for(queue.get(), timeout) for _ in range(count)]


class Cluster:
    """The client library alone: the other side. Every call blocks."""

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def consumer(self, group: str = "") -> Iterator[Consumer]:
        config = {"bootstrap.servers": self.url, "group.id": group or fresh(), "enable.auto.commit": False}
        consumer = Consumer(config)
        try:
            yield consumer
        finally:
            consumer.close()

    def make(self, topic: str, partitions: int) -> None:
        with AdminClient({"bootstrap.servers": self.url}) as admin:
            for made in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
                made.result(DEADLINE)

    def delete(self, topic: str) -> None:
        with AdminClient({"bootstrap.servers": self.url}) as admin:
            for gone in admin.delete_topics([topic]).values():
                gone.result(DEADLINE)

    def remake(self, topic: str, partitions: int = 1) -> None:
        """Delete a topic and make it again as soon as the cluster lets it."""
        self.delete(topic)
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return self.make(topic, partitions)
            except KafkaException:
                if topic in self.topics() and time.monotonic() < deadline:
                    return  # somebody else made it
                if time.monotonic() > deadline:
                    raise

    def topics(self) -> list[str]:
        with self.consumer() as consumer:
            return list(consumer.list_topics(timeout=DEADLINE).topics)

    def await_member(self, group: str) -> None:
        """Wait until a group has members again and is stable."""
        with AdminClient({"bootstrap.servers": self.url}) as admin:
            deadline = time.monotonic() + DEADLINE
            while time.monotonic() < deadline:
                try:
                    found = admin.describe_consumer_groups([group])[group].result(DEADLINE)
                except KafkaException:
                    continue  # the server has just come back, and its coordinator has not
                if found.state == ConsumerGroupState.STABLE and found.members:
                    return
        raise AssertionError(f"{group} has no members")

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        with self.consumer(group) as consumer:
            return consumer.committed([TopicPartition(topic, partition)], timeout=DEADLINE)[0].offset

    def noted(self, group: str, topic: str, partitions: int) -> list[tuple[int, str]]:
        """What is committed, and noted at it; the client reads a note with whatever lies behind it in memory."""
        with self.consumer(group) as consumer:
            for _ in range(100):
                asked = [TopicPartition(topic, number) for number in range(partitions)]
                found = consumer.committed(asked, timeout=DEADLINE)
                try:
                    return [(one.offset, one.metadata or "") for one in found]
                except UnicodeDecodeError:
                    continue
        raise AssertionError("the client reads no note")

    def note(self, group: str, topic: str) -> str:
        """What is noted at a committed offset."""
        return self.noted(group, topic, 1)[0][1]

    def commit(self, group: str, topic: str, offset: int, note: str = "") -> None:
        with self.consumer(group) as consumer:
            consumer.commit(offsets=[TopicPartition(topic, 0, offset, note)], asynchronous=False)

    def cut(self, topic: str, offset: int, *partitions: int) -> None:
        """Delete the records below an offset; of partition 0 when none is named."""
        with AdminClient({"bootstrap.servers": self.url}) as admin:
            below = [TopicPartition(topic, number, offset) for number in partitions or (0,)]
            for done in admin.delete_records(below).values():
                done.result(DEADLINE)

    def end(self, topic: str) -> int:
        """How many records a topic of any number of partitions has."""
        with self.consumer() as consumer:
            numbers = consumer.list_topics(topic, timeout=DEADLINE).topics[topic].partitions
            return sum(consumer.get_watermark_offsets(TopicPartition(topic, one))[1] for one in numbers)

    def record(self, topic: str, offset: int = 0) -> Any:
        with self.consumer() as consumer:
            consumer.assign([TopicPartition(topic, 0, offset)])
            return consumer.consume(1, DEADLINE)[0]

    def publish(self, topic: str, *bodies: bytes, partition: int = -1) -> None:
        with Producer({"bootstrap.servers": self.url, "linger.ms": 0}) as producer:
            for body in bodies:
                producer.produce(topic, body, partition=partition)
            assert producer.flush(DEADLINE) == 0
