"""Our side of the in-process comparison: the production path, over a client in memory."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from fastapi import Depends
from fastapi_stream_core import Source, Subscription
from fastapi_stream_core.topic_progress import TopicProgress
from fastapi_stream_kafka import KafkaBroker
from fastapi_stream_kafka.source import KafkaSource
from fastapi_stream_kafka.transport import KafkaTransport
from records import record
from side import MemoryProducer, Side, again

__all__ = ("Ours",)

PARTITION = TopicPartition("orders", 0)
CHUNK = 500


class MemoryConsumer:
    """Has the records of one partition at hand, and gives many at a time as aiokafka does."""

    def __init__(self) -> None:
        self.records: Sequence[Any] = ()
        self.next = 0
        self.given = asyncio.Event()

    def give(self, records: Sequence[Any]) -> None:
        """Let these be fetched."""
        self.records, self.next = records, 0
        self.given.set()

    async def getmany(self, *_: object, timeout_ms: int, max_records: int) -> dict[TopicPartition, Sequence[Any]]:
        while self.next >= len(self.records):
            self.given.clear()
            await self.given.wait()
        start = self.next
        self.next += min(max_records, CHUNK)
        return {PARTITION: self.records[start : self.next]}

    def assignment(self) -> set[TopicPartition]:
        return {PARTITION}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...

    async def stop(self) -> None: ...


class OurSource(KafkaSource):
    """The real source, of one partition."""

    def __init__(self, subscription: Any, transport: OurTransport) -> None:
        super().__init__(subscription, transport, TopicProgress())

    async def start(self) -> None:
        self.position(PARTITION, 0)

    async def look(self) -> None: ...


class OurTransport(KafkaTransport):
    """The real transport with clients in memory."""

    made: OurSource
    producer: MemoryProducer
    memory: MemoryConsumer

    async def start(self) -> None:
        self._publishing._producer = self.producer = MemoryProducer()  # type: ignore[assignment]

    def consumer(self, subscription: Any, unreadable: Any) -> Any:
        self.memory = MemoryConsumer()
        return self.memory

    def source(self, subscription: Subscription) -> Source:
        self.made = OurSource(subscription, self)
        return self.made


class OurBroker(KafkaBroker):
    connection: OurTransport

    def transport(self) -> OurTransport:
        self.connection = OurTransport(self)
        return self.connection


class Ours(Side):
    """One handler on our production path."""

    def __init__(
        self,
        handler: Callable[..., Any],
        body: bytes,
        publish: bool = False,
        log: bool = False,
        around: int = 0,
        **options: Any,
    ) -> None:
        if around:
            options["dependencies"] = [Depends(_around()) for _ in range(around)]
        self.broker = OurBroker("localhost:9092", logger=_logger() if log else None)
        if publish:
            handler = self.broker.publisher("out")(again(handler))
        self.broker.subscriber("orders", group_id="bench", **options)(handler)
        self.body = body
        self.offset = 0
        self.records: list[Any] = []

    async def __aenter__(self) -> Ours:
        await self.broker.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.broker.stop()

    @property
    def sent(self) -> int:  # type: ignore[override]
        return self.broker.connection.producer.sent

    def prepare(self, count: int) -> None:
        self.records = [record(self.body, self.offset + number) for number in range(count)]
        self.offset += count

    async def run(self, count: int) -> None:
        connection = self.broker.connection
        source = connection.made
        connection.memory.give(self.records)
        await source.dispatcher.wait_finished(count=count)
        unsettled = source.offsets[PARTITION].in_flight
        if unsettled:
            raise RuntimeError(f"{unsettled} of {count} messages were handled and not settled")


def _around() -> Callable[..., AsyncIterator[None]]:
    async def dependency() -> AsyncIterator[None]:
        yield

    return dependency


def _logger() -> logging.Logger:
    """A logger as an application configures it."""
    logger = logging.Logger("ours", logging.INFO)
    handler = logging.FileHandler(os.devnull)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s - %(message)s"))
    logger.addHandler(handler)
    return logger
