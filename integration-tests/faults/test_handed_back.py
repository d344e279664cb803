"""What a clean stop hands back, and what nobody settles, is delivered again; the failures are those that come then."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast
from uuid import uuid4

import aio_pika
import nats
import pytest
from aio_pika.abc import AbstractConnection
from fastapi_stream_core import Broker, Retry, StreamMessage
from fastapi_stream_nats import NatsBroker
from fastapi_stream_rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from fastapi_stream_redis import RedisBroker, StreamSub
from nats.aio.client import Client
from nats.js.api import ConsumerConfig
from redis.asyncio import Redis

from servers import Server
from waiting import DEADLINE, until

COUNT = 12
STOPS = 5
QUICK = Retry(delay=0.2, max_delay=0.2)


class Place(ABC):
    """Where the messages of one test wait.

    Attributes:
        name: of the stream or queue.
        counts_stops: whether the broker counts what a clean stop hands back.
        ahead: how many messages are delivered, at least, while the handler of the first one runs.
    """

    counts_stops = True
    ahead = COUNT

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"back-{uuid4().hex[:10]}"

    @abstractmethod
    def reading(self, handler: Callable[..., Any]) -> Broker:
        """Return a broker that handles the messages."""

    @abstractmethod
    async def publish(self, broker: Any, body: int) -> None: ...

    @abstractmethod
    async def in_hand(self) -> int:
        """Return how many messages are delivered and not settled."""

    async def close(self) -> None: ...


class Jetstream(Place):
    client: Client
    pulled = True

    def reading(self, handler: Callable[..., Any]) -> Broker:
        broker = NatsBroker(self.url)
        broker.subscriber(self.name, stream=self.name, durable="d", pull_sub=self.pulled)(handler)
        return broker

    async def publish(self, broker: NatsBroker, body: int) -> None:
        await broker.publish(body, self.name, stream=self.name)

    async def in_hand(self) -> int:
        info = await self.client.jetstream().consumer_info(self.name, "d")
        return info.num_ack_pending or 0

    async def close(self) -> None:
        await self.client.jetstream().delete_stream(self.name)
        await self.client.close()


class Pushed(Jetstream):
    pulled = False


class Quorum(Place):
    connection: AbstractConnection

    def reading(self, handler: Callable[..., Any]) -> Broker:
        broker = RabbitBroker(self.url)
        queue, channel = RabbitQueue(self.name, queue_type=QueueType.QUORUM), Channel(prefetch_count=100)
        broker.subscriber(queue, channel=channel, max_workers=1)(handler)
        return broker

    async def publish(self, broker: RabbitBroker, body: int) -> None:
        await broker.publish(body, self.name)

    async def in_hand(self) -> int:
        async with self.connection.channel() as channel:
            queue = await channel.get_queue(self.name)
            return COUNT if queue.declaration_result.message_count == 0 else 0

    async def close(self) -> None:
        async with self.connection.channel() as channel:
            await channel.queue_delete(self.name)
        await self.connection.close()


class Group(Place):
    client: Redis
    counts_stops = False
    ahead = 2

    def reading(self, handler: Callable[..., Any]) -> Broker:
        broker = RedisBroker(self.url)
        broker.subscriber(stream=StreamSub(self.name, group="g", consumer="one", last_id="0"))(handler)
        return broker

    async def publish(self, broker: RedisBroker, body: int) -> None:
        await broker.publish(body, stream=self.name)

    async def in_hand(self) -> int:
        return cast("int", (await self.client.xpending(self.name, "g"))["pending"])

    async def close(self) -> None:
        await self.client.aclose()


@pytest.fixture(params=["pull", "push", "quorum", "group"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    kind: str = request.param
    fixture = {"quorum": "rabbit_server", "group": "redis_server"}.get(kind, "nats_server")
    url = cast("Server", request.getfixturevalue(fixture)).url
    place: Place
    if kind == "quorum":
        place = quorum = Quorum(url)
        quorum.connection = await aio_pika.connect(url)
    elif kind == "group":
        place = group = Group(url)
        group.client = Redis.from_url(url, protocol=2)
    else:
        place = jetstream = Jetstream(url) if kind == "pull" else Pushed(url)
        jetstream.client = await nats.connect(url)
    try:
        yield place
    finally:
        await place.close()


async def in_hand(place: Place, count: int) -> None:
    async def is_in_hand() -> bool:
        return await place.in_hand() >= count

    await until(is_in_hand)


async def hand_back(place: Place) -> int:
    """Have messages delivered and handed back by clean stops, each of which sees one of them begun; return how many."""
    if isinstance(place, Jetstream) and place.pulled:
        return await hand_back_pulled(place)
    for stop in range(STOPS):
        begun, stopping = asyncio.Event(), asyncio.Event()

        async def begin(body: int) -> None:
            begun.set()  # noqa: B023
            await stopping.wait()  # noqa: B023

        broker = place.reading(begin)
        await broker.start()
        for number in range(COUNT if stop == 0 else 0):
            await place.publish(broker, number)
        await asyncio.wait_for(begun.wait(), DEADLINE)
        await in_hand(place, min(place.ahead, COUNT - stop))
        ending = asyncio.create_task(broker.stop())
        await until(lambda: not broker.subscribers[0].running)  # noqa: B023
        stopping.set()
        await ending
    return COUNT - STOPS


async def hand_back_pulled(place: Jetstream) -> int:
    """Do what processes with quick handlers do; those with slow ones have not asked for so many when they stop."""
    js, left = place.client.jetstream(), COUNT - STOPS
    await js.add_stream(name=place.name, subjects=[place.name])
    for number in range(left):
        await js.publish(place.name, b"%d" % number)
    taking = await js.pull_subscribe(place.name, durable="d")
    for _ in range(STOPS):
        taken = 0
        while taken < left:
            messages = await taking.fetch(left - taken, timeout=DEADLINE)
            taken += len(messages)
            for message in messages:
                await message.nak()
    return left


@pytest.mark.parametrize("failures", [2, 20])
async def test_stops_take_no_attempt_of_a_message_that_was_never_begun(place: Place, failures: int) -> None:
    left = await hand_back(place)
    runs: Counter[int] = Counter()
    first: list[int] = []
    done: list[int] = []

    async def fail(body: int, message: StreamMessage) -> None:
        runs[body] += 1
        if runs[body] == 1:
            first.append(message.attempt)
        if runs[body] <= failures:
            raise ValueError("it fails")
        done.append(body)

    broker = place.reading(fail)
    broker.subscribers[0].retry = QUICK
    counts = broker.report.counts
    async with broker:
        await until(lambda: len(done) + counts.get("rejected", 0) == left)
    assert first == [STOPS + 1 if place.counts_stops else 1] * left
    if failures == 2:
        assert len(done) == left
        assert set(runs.values()) == {3}
    else:
        assert not done
        assert set(runs.values()) == {3 if place.counts_stops else QUICK.attempts}


@pytest.fixture
async def pulled(nats_server: Server) -> AsyncIterator[Jetstream]:
    """A stream that is there before the app."""
    place = Jetstream(nats_server.url)
    place.client = await nats.connect(place.url)
    try:
        await place.client.jetstream().add_stream(name=place.name, subjects=[place.name])
        yield place
    finally:
        await place.close()


async def attempts_until_rejected(place: Place, bodies: Sequence[int] = ()) -> list[int]:
    """Publish messages, have all that are there fail, and return the attempts until one was given up."""
    runs: list[int] = []

    async def fail(message: StreamMessage) -> None:
        runs.append(message.attempt)
        raise ValueError("it fails")

    broker = place.reading(fail)
    broker.subscribers[0].retry = QUICK
    async with broker:
        for body in bodies:
            await place.publish(broker, body)
        await until(lambda: broker.report.counts.get("rejected"))
    return runs


async def test_a_message_that_always_fails_has_all_its_attempts_in_one_process(place: Place) -> None:
    assert await attempts_until_rejected(place, [1]) == [1, 2, 3, 4, 5]


async def test_a_message_that_many_processes_left_is_given_up_at_its_first_failure(pulled: Jetstream) -> None:
    js = pulled.client.jetstream()
    await js.publish(pulled.name, b"1")
    taking = await js.pull_subscribe(pulled.name, durable="d", config=ConsumerConfig(ack_wait=0.1))
    for _ in range(24):
        (taken,) = await taking.fetch(1, timeout=DEADLINE)
    assert taken.metadata.num_delivered == 24
    assert await attempts_until_rejected(pulled) == [25]


async def test_the_last_delivery_that_a_consumer_has_is_the_last_one_here(pulled: Jetstream) -> None:
    """The consumer was made by somebody else: the server knows its `max_deliver`, the app does not say it."""
    limited = ConsumerConfig(durable_name="d", ack_policy="explicit", max_deliver=2)
    await pulled.client.jetstream().add_consumer(pulled.name, limited)
    assert await attempts_until_rejected(pulled, [1]) == [1, 2]


async def test_a_message_that_nobody_settles_ends_at_the_limit_of_its_queue(rabbit_server: Server) -> None:
    """What ends its process is never seen to fail: the queue gives it up, as often as it was delivered to anybody."""
    name = f"back-{uuid4().hex[:10]}"
    async with await aio_pika.connect(rabbit_server.url) as connection:
        async with connection.channel() as channel:
            await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
            await channel.default_exchange.publish(aio_pika.Message(b"1"), name)
        deliveries = 0
        while deliveries < 100:
            async with connection.channel() as channel:
                queue = await channel.get_queue(name)
                if await queue.get(fail=False) is None:
                    break
                deliveries += 1
        async with connection.channel() as channel:
            await channel.queue_delete(name)
    assert deliveries == 21


@pytest.mark.parametrize("kind", [QueueType.QUORUM, QueueType.CLASSIC])
async def test_what_failed_and_waits_is_handed_back_and_counted(rabbit_server: Server, kind: QueueType) -> None:
    name, runs = f"back-{uuid4().hex[:10]}", list[int]()

    def reading() -> RabbitBroker:
        broker = RabbitBroker(rabbit_server.url)

        @broker.subscriber(RabbitQueue(name, queue_type=kind))
        async def fail(message: StreamMessage) -> None:
            runs.append(message.attempt)
            raise ValueError("it fails")

        broker.subscribers[0].retry = Retry(delay=600.0, max_delay=600.0)
        return broker

    for life in range(1, 4):
        async with reading() as broker:
            if life == 1:
                await broker.publish(1, name)
            await until(lambda: broker.report.counts.get("retried"))
    assert runs == ([1, 2, 3] if kind is QueueType.QUORUM else [1, 2, 2])
    async with await aio_pika.connect(rabbit_server.url) as connection, connection.channel() as channel:
        await channel.queue_delete(name)
