"""What a producer of aiokafka does while its cluster is away, and afterwards, on a real Kafka of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import client as client_module
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import SendProduceReqHandler
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_kafka import BrokerUnavailable, KafkaBroker, KafkaRouter

from servers import Server, open_server
from test_kafka import make_topic
from waiting import until

AWAY_SECONDS = 20.0
SECONDS = 60.0
FENCED = 90
MOST_ATTEMPTS = 30
"""Connections that may be tried in a second while the cluster is away: by a producer, a consumer and its group."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own, since it is stopped."""
    one = open_server("kafka")
    try:
        yield one
    finally:
        one.remove()


@pytest.fixture
def topic() -> str:
    return f"producer-{uuid4().hex[:10]}"


class Steady:
    """Publishes a number every tenth of a second, and notes those that were confirmed and how the others failed."""

    def __init__(self, broker: KafkaBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self.confirmed: list[int] = []
        self.failed: dict[int, Exception] = {}
        self.next = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._publish(self.next))
                self.next += 1
                await asyncio.sleep(0.1)

    async def _publish(self, number: int) -> None:
        try:
            await self._broker.publish(number, self._topic)
        except Exception as error:
            self.failed[number] = error
        else:
            self.confirmed.append(number)


async def is_away_for(server: Server, seconds: float) -> None:
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)


class TestEnded:
    """What ends the producer is no fault of the message: another one takes its place, and the message."""

    @pytest.mark.parametrize("times", [1, 100])
    async def test_the_cluster_takes_nothing_of_it_any_more(
        self, kafka_server: Server, topic: str, times: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await make_topic(kafka_server.url, topic, 1)
        handled = SendProduceReqHandler.handle_response
        left = times

        def fenced(handler: Any, response: Any) -> None:
            nonlocal left
            if left:
                left -= 1
                response.topics = [
                    (name, [(number, FENCED, *rest) for number, _, *rest in partitions])
                    for name, partitions in response.topics
                ]
            handled(handler, response)

        async with KafkaBroker(kafka_server.url) as broker:
            await broker.publish("before", topic)
            monkeypatch.setattr(SendProduceReqHandler, "handle_response", fenced)
            if times == 1:
                await broker.publish("fenced", topic)
            else:
                with pytest.raises(BrokerUnavailable, match="newer producer"):
                    await broker.publish("fenced", topic)
                left = 0
            await broker.publish("after", topic)

    async def test_it_ends_by_an_error_of_its_own(
        self, kafka_server: Server, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await make_topic(kafka_server.url, topic, 1)
        drain = MessageAccumulator.drain_by_nodes
        broken = False

        def drain_once(*args: Any, **options: Any) -> Any:
            nonlocal broken
            if broken:
                broken = False
                raise RuntimeError("a fault of the client")
            return drain(*args, **options)

        async with KafkaBroker(kafka_server.url) as broker:
            await broker.publish("before", topic)
            monkeypatch.setattr(MessageAccumulator, "drain_by_nodes", drain_once)
            broken = True
            await asyncio.gather(*(broker.publish(number, topic) for number in range(20)))
            assert not broken


class TestStoppedForLong:
    async def test_publishing_goes_on_and_nothing_confirmed_is_lost(self, server: Server, topic: str) -> None:
        await make_topic(server.url, topic, 1)
        seen, router = Inbox(), KafkaRouter(server.url)

        @router.subscriber(topic)
        async def handler(msg: int) -> None:
            seen.put(msg)

        async with router.broker as broker:
            steady = Steady(broker, topic)
            running = asyncio.create_task(steady.run())
            await until(lambda: len(steady.confirmed) > 10)
            await is_away_for(server, AWAY_SECONDS)
            came_back = steady.next
            # What was begun more than a publish_timeout after the return of the cluster is not touched by the outage.
            await until(lambda: steady.next > came_back + 150, SECONDS)
            later = steady.next
            await until(lambda: steady.next > later + 50, SECONDS)
            running.cancel()
            await asyncio.wait([running])
            await until(lambda: set(steady.confirmed) <= set(seen.all), SECONDS)
        assert set(range(came_back + 100, later)) <= set(steady.confirmed)
        assert {type(error) for error in steady.failed.values()} <= {BrokerUnavailable}

    async def test_each_input_has_its_output(self, server: Server, topic: str) -> None:
        output = f"{topic}-out"
        await make_topic(server.url, topic, 1)
        await make_topic(server.url, output, 1)
        outputs, router = Inbox(), KafkaRouter(server.url)

        @router.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
        @router.publisher(output)
        async def handler(msg: int) -> int:
            await asyncio.sleep(0.05)
            return msg

        @router.subscriber(output)
        async def collect(msg: int) -> None:
            outputs.put(msg)

        async with router.broker as broker:
            await asyncio.gather(*(broker.publish(number, topic) for number in range(500)))
            await until(lambda: len(outputs.all) > 20)
            await is_away_for(server, AWAY_SECONDS)
            await until(lambda: set(range(500)) <= set(outputs.all), 2 * SECONDS)
            assert broker.report.counts.get("rejected", 0) == 0

    async def test_connections_are_tried_seldom_meanwhile(
        self, server: Server, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await make_topic(server.url, topic, 1)
        router, attempts = KafkaRouter(server.url), list[object]()
        connect = client_module.create_conn

        async def counted(*args: object, **options: object) -> object:
            attempts.append(None)
            return await connect(*args, **options)

        @router.subscriber(topic, group_id=topic)
        async def handler(msg: int) -> None: ...

        async with router.broker as broker:
            steady = Steady(broker, topic)
            running = asyncio.create_task(steady.run())
            await until(lambda: len(steady.confirmed) > 10)
            await asyncio.to_thread(server.stop)
            monkeypatch.setattr(client_module, "create_conn", counted)
            await asyncio.sleep(AWAY_SECONDS)
            tried = len(attempts)
            await asyncio.to_thread(server.start)
            running.cancel()
            await asyncio.wait([running])
        assert 0 < tried < MOST_ATTEMPTS * AWAY_SECONDS
