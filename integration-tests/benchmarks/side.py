"""The two sides of the in-process comparison: all of ours, and all of the peer's, over a client in memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import warnings
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import FunctionType, SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from fast_depends.pydantic import PydanticSerializer
from fastapi import Depends, FastAPI
from fastapi_stream_core import Source, Subscription
from fastapi_stream_kafka import KafkaBroker
from fastapi_stream_kafka.source import KafkaSource, Progress
from fastapi_stream_kafka.transport import KafkaTransport
from shape import record

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from faststream import BaseMiddleware
    from faststream.kafka.fastapi import KafkaRouter as PeerRouter

__all__ = ("MemoryProducer", "Ours", "Peer", "Side")

PARTITION = TopicPartition("orders", 0)
CHUNK = 500
NULL = open(os.devnull, "w")  # noqa: SIM115  (the peer's logger keeps it for as long as the process lives)


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


class MemoryProducer:
    """Confirms at once."""

    _sender = SimpleNamespace(sender_task=None)

    def __init__(self) -> None:
        self.sent = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, *_: object, **__: object) -> asyncio.Future[None]:
        self.sent += 1
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return confirmed


class Side:
    """One handler on one of the sides.

    Attributes:
        sent: how many messages were published.
    """

    sent = 0

    def prepare(self, count: int) -> None:
        """Make what a run takes, which is the client's work."""

    async def run(self, count: int) -> None:
        """Have `count` messages handled and settled."""
        raise NotImplementedError

    async def __aenter__(self) -> Side:
        return self

    async def __aexit__(self, *_: object) -> None: ...


class OurSource(KafkaSource):
    """The real source, of one partition."""

    def __init__(self, subscription: Any, transport: OurTransport) -> None:
        super().__init__(subscription, transport, Progress())

    async def start(self) -> None:
        self.position(PARTITION, 0)

    async def look_around(self) -> None: ...


class OurTransport(KafkaTransport):
    """The real transport with clients in memory."""

    made: OurSource
    producer: MemoryProducer
    memory: MemoryConsumer

    async def start(self) -> None:
        self._producer = self.producer = MemoryProducer()  # type: ignore[assignment]

    def consumer(self, subscription: Any) -> Any:
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
            handler = self.broker.publisher("out")(_again(handler))
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


def _again(handler: Any) -> Any:
    """The same function once more: it keeps the publishers it was given, and those of another side have stopped."""
    again = FunctionType(handler.__code__, handler.__globals__, handler.__name__)
    again.__annotations__ = handler.__annotations__
    return again


def _around() -> Callable[..., AsyncIterator[None]]:
    async def dependency() -> AsyncIterator[None]:
        yield

    return dependency


class Around(BaseMiddleware):  # type: ignore[misc]
    """A middleware of the peer's that does nothing."""

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        return await call_next(msg)


def _logger() -> logging.Logger:
    """A logger as an application configures it."""
    logger = logging.Logger("ours", logging.INFO)
    handler = logging.StreamHandler(NULL)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s - %(message)s"))
    logger.addHandler(handler)
    return logger


class Peer(Side):
    """One handler of FastStream's plugin, called as its loop calls it. Its log is its own, to the same place."""

    def __init__(
        self,
        handler: Callable[..., Any],
        body: bytes,
        publish: bool = False,
        log: bool = False,
        around: int = 0,
        **options: Any,
    ) -> None:
        self.producer = MemoryProducer()
        quiet: dict[str, Any] = {} if log else {"logger": None}
        with warnings.catch_warnings(), self._silent():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.router = PeerRouter("localhost:9092", middlewares=[Around] * around, **quiet)
        self.batch = options.get("batch", False)
        if publish:
            handler = self.router.publisher("out")(_again(handler))
        self.router.subscriber("orders", **options)(handler)
        self.app = FastAPI()
        self.app.include_router(self.router)
        self.template = record(body)

    @contextlib.contextmanager
    def _silent(self) -> Any:
        with contextlib.redirect_stdout(NULL), contextlib.redirect_stderr(NULL):
            yield

    async def __aenter__(self) -> Peer:
        broker: Any = self.router.broker
        self.subscriber: Any = broker.subscribers[0]
        with self._silent():
            broker._setup_logger()
        self.subscriber._build_fastdepends_model()
        await broker._producer.connect(self.producer, PydanticSerializer())
        self.subscriber.running = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.subscriber.running = False

    @property
    def sent(self) -> int:  # type: ignore[override]
        return self.producer.sent

    async def run(self, count: int) -> None:
        consume, template = self.subscriber.consume, self.template
        if self.batch:
            for _ in range(count // 100):
                await consume((template,) * 100)
        else:
            for _ in range(count):
                await consume(template)
