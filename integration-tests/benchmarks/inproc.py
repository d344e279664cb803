"""What a message costs between the client and the handler, measured on a Kafka record.

Ours runs the production path: a source gives records to the dispatcher, the plan calls the handler, the source takes
the acknowledgement and notes it for the next commit. The peer's subscriber is called as its own loop calls it. The
floor is parsing, validation and the call.
"""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any

from aiokafka import ConsumerRecord, TopicPartition
from fastapi import Depends, FastAPI, Header
from fastapi_stream_core import Logger as OurLogger
from fastapi_stream_core import Outgoing, Source, StreamMessage, Subscription, Transport
from fastapi_stream_core.partition import Commits, Offsets
from fastapi_stream_kafka import KafkaBroker, KafkaMessage
from options import Options
from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json
from table import OURS, PEER, Bound, Figure, Row, Table

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from faststream.kafka.fastapi import KafkaRouter as PeerRouter
    from faststream.kafka.fastapi import Logger as PeerLogger

PARTITION = TopicPartition("orders", 0)
HEADERS = [("content-type", b"application/json"), ("correlation_id", b"c-1"), ("x-tenant", b"acme")]


class Order(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]
    paid: bool


BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5, "tags": ["green", "loose", "organic"], "paid": true}'
TEXT_HEADERS = [("content-type", b"text/plain"), ("correlation_id", b"c-1"), ("x-tenant", b"acme")]


def record(body: bytes = BODY, headers: Sequence[tuple[str, bytes]] = HEADERS, offset: int = 0) -> Any:
    return ConsumerRecord("orders", 0, offset, 0, 0, None, body, None, 0, len(body), headers)


# The shapes, the same function for both wherever the logger is not in it -------------------------------------------


class Calls:
    """Counted by every handler, so that a run in which a handler was not called is no result."""

    count = 0


async def model(order: Order) -> None:
    Calls.count += 1


async def scalar(msg: str) -> None:
    Calls.count += 1


def sync_model(order: Order) -> None:
    Calls.count += 1


async def settings() -> int:
    return 1


async def session() -> AsyncIterator[int]:
    yield 2


async def ours_full(
    order: Order,
    logger: OurLogger,
    one: Annotated[int, Depends(settings)],
    two: Annotated[int, Depends(session)],
    x_tenant: Annotated[str, Header()],
) -> None:
    Calls.count += 1


async def peer_full(
    order: Order,
    logger: PeerLogger,
    one: Annotated[int, Depends(settings)],
    two: Annotated[int, Depends(session)],
    x_tenant: Annotated[str, Header()],
) -> None:
    Calls.count += 1


# Ours ----------------------------------------------------------------------------------------------------------------


class BenchSource(Source):
    """Gives records in chunks, as a fetch does, and keeps offsets as the real source does."""

    def __init__(self, subscription: Subscription, transport: BenchTransport) -> None:
        super().__init__(subscription)
        transport.source_made = self
        self.left = 0
        self.offset = 0
        self.acked = 0
        self.target = 0
        self.given = asyncio.Event()
        self.over = asyncio.Event()
        self.records: list[Any] = []

    async def start(self) -> None:
        self.offsets = {("orders", 0): Offsets(0)}
        self.commits = Commits(self._commit, self.offsets, print)

    async def _commit(self, positions: dict[tuple[str, int], int]) -> None: ...

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        while not self.left:
            self.given.clear()
            await self.given.wait()
        count = min(limit, self.left, 500)
        self.left -= count
        start = self.offset
        self.offset += count
        fetched = self.offsets["orders", 0].fetched
        return [KafkaMessage(one, PARTITION) for one in self.records[start : start + count] if fetched(one.offset)]

    def ack(self, message: StreamMessage) -> None:
        self.commits.done(PARTITION, message.raw_message.offset)
        self.acked += 1
        if self.acked == self.target:
            self.over.set()

    def stop(self) -> None:
        self.left = 1
        self.given.set()

    async def close(self) -> None:
        await self.commits.close()


class BenchTransport(Transport):
    source_made: BenchSource

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def source(self, subscription: Subscription) -> Source:
        return BenchSource(subscription, self)

    async def publish(self, message: Outgoing) -> None: ...

    async def ping(self, timeout: float) -> bool:
        return True


class BenchBroker(KafkaBroker):
    bench: BenchTransport

    def transport(self) -> Transport:
        self.bench = BenchTransport()
        return self.bench


class Ours:
    """One handler on our production path."""

    def __init__(self, handler: Callable[..., Any], template: Any, publish: bool = False, **options: Any) -> None:
        self.broker = BenchBroker("localhost:9092", logger=None)
        if publish:
            handler = self.broker.publisher("out")(handler)
        self.broker.subscriber("orders", **options)(handler)
        self.template = template

    async def __aenter__(self) -> Ours:
        await self.broker.start()
        self.source = self.broker.bench.source_made
        return self

    def prepare(self, count: int) -> None:
        """Make the records, which is the client's work."""
        source, template = self.source, self.template
        start = len(source.records)
        source.records += [record(template.value, template.headers, start + number) for number in range(count)]

    async def __aexit__(self, *_: object) -> None:
        await self.broker.stop()

    async def run(self, count: int) -> None:
        source = self.source
        source.target = source.acked + count
        source.over.clear()
        source.left = count
        source.given.set()
        await source.over.wait()


# The peer ------------------------------------------------------------------------------------------------------------


class Peer:
    """One handler of FastStream's plugin, called as its loop calls it."""

    def __init__(self, handler: Callable[..., Any], template: Any, publish: bool = False, **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.router = PeerRouter("localhost:9092", logger=None)
        self.batch = options.get("batch", False)
        self.router.subscriber("orders", **options)(handler)
        app = FastAPI()
        app.include_router(self.router)
        self.app = app
        self.template = template

    async def __aenter__(self) -> Peer:
        self.subscriber: Any = self.router.broker.subscribers[0]
        self.router.broker._setup_logger()
        self.subscriber._build_fastdepends_model()
        self.subscriber.running = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.subscriber.running = False

    async def run(self, count: int) -> None:
        consume, template = self.subscriber.consume, self.template
        if self.batch:
            for _ in range(count // 100):
                await consume((template,) * 100)
        else:
            for _ in range(count):
                await consume(template)


# The floor -----------------------------------------------------------------------------------------------------------

_validate = TypeAdapter(Order).validator.validate_python


async def floor_model(count: int) -> None:
    for _ in range(count):
        await model(_validate(from_json(BODY)))


async def floor_scalar(count: int) -> None:
    for _ in range(count):
        await scalar(BODY.decode())


async def floor_full(count: int) -> None:
    for _ in range(count):
        generator = session()
        two = await generator.__anext__()
        await peer_full(_validate(from_json(BODY)), None, await settings(), two, HEADERS[2][1].decode())  # type: ignore[arg-type]
        try:
            await generator.__anext__()
        except StopAsyncIteration:
            continue


async def floor_sync(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.run_in_executor(None, sync_model, _validate(from_json(BODY)))


Run = Callable[[int], Awaitable[None]]


def prepare(run: Run, messages: int) -> None:
    """Make what a run handles, outside of its time."""
    owner = getattr(run, "__self__", None)
    if isinstance(owner, Ours):
        owner.prepare(messages)


async def _rounds(runs: Sequence[Run], messages: int, rounds: int) -> list[list[float]]:
    """Time the runs in turn, in the other order each time, in microseconds a message."""
    results: list[list[float]] = [[] for _ in runs]
    for run in runs:
        warm = max(messages // 5, 100)
        prepare(run, warm)
        await run(warm)
    for number in range(rounds):
        order = range(len(runs)) if number % 2 == 0 else reversed(range(len(runs)))
        for index in order:
            prepare(runs[index], messages)
            gc.collect()
            before = Calls.count
            began = time.perf_counter()
            await runs[index](messages)
            results[index].append((time.perf_counter() - began) / messages * 1e6)
            if Calls.count - before != messages:
                raise RuntimeError(
                    f"{runs[index]} called its handler {Calls.count - before} times for {messages} messages"
                )
    return results


FLOOR = "floor"
FIGURES = (Figure("us", "us", spread=True),)


def measure(options: Options) -> list[Table]:
    """Measure every shape; all of it in this process, in turn."""
    messages, rounds = (1000 if options.quick else 5000), options.rounds_or(11, 5)

    async def shape(
        name: str, floor: Run, ours: Ours, peer: Peer, count: int = messages, bounds: Sequence[Bound] = ()
    ) -> Row:
        async with ours, peer:
            results = await _rounds((floor, ours.run, peer.run), count, rounds)
        taken = {variant: {"us": figures} for variant, figures in zip((FLOOR, OURS, PEER), results, strict=True)}
        return Row(name, taken, bounds or _against())

    def _against(
        gate: float | None = None, goal: float | None = None, floor: tuple[float, float] | None = None
    ) -> tuple[Bound, ...]:
        most, wished = floor or (None, None)
        return Bound(PEER, OURS, gate, goal), Bound(OURS, FLOOR, most, wished, at_most=True)

    async def everything() -> list[Row]:
        text = record(b"a pound of tea", TEXT_HEADERS)
        return [
            await shape(
                "model",
                floor_model,
                Ours(model, record()),
                Peer(model, record()),
                bounds=_against(10, 20, floor=(5, 2.8)),
            ),
            await shape("scalar", floor_scalar, Ours(scalar, text), Peer(scalar, text)),
            await shape(
                "model + 2 Depends (one yield) + Header + Logger",
                floor_full,
                Ours(ours_full, record()),
                Peer(peer_full, record()),
                bounds=_against(15, 40),
            ),
            await shape(
                "sync handler",
                floor_sync,
                Ours(sync_model, record()),
                Peer(sync_model, record()),
                count=max(messages // 5, 100),
            ),
        ]

    title = "in process: client, network and broker left out; microseconds a message"
    return [Table(title, FIGURES, (FLOOR, OURS, PEER), asyncio.run(everything()))]
