"""A member of a group whose knowledge of the group is old, on a real Kafka: it consumes again within seconds."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_kafka import BrokerUnavailable, KafkaRouter, NotStarted, group
from fastapi_stream_kafka.group import GroupSource
from fastapi_stream_kafka.source import KafkaSource

from faults.kafka_sources import noted_sources
from servers import Server
from test_kafka import committed, make_topic
from waiting import until

SECONDS = 20.0


class Member:
    """One subscriber in a group, and whatever it has handled."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url, self.topic = url, f"stale-{uuid4().hex[:10]}"
        self.seen, self.stands_still = Inbox(), 0.0
        self.router = KafkaRouter(url)

        @self.router.subscriber(self.topic, group_id=self.topic, session_timeout_ms=6000, **options)
        async def handler(msg: int) -> None:
            seconds, self.stands_still = self.stands_still, 0.0
            if seconds:
                time.sleep(seconds)  # noqa: ASYNC251 (the whole event loop stands still)
            self.seen.put(msg)

    async def send(self, numbers: range) -> None:
        """Send from outside of the app."""
        producer = AIOKafkaProducer(bootstrap_servers=self.url)
        await producer.start()
        try:
            await asyncio.gather(*[await producer.send(self.topic, b"%d" % number) for number in numbers])
        finally:
            await producer.stop()

    async def consumes(self, numbers: range) -> None:
        await self.send(numbers)
        await until(lambda: set(numbers) <= set(self.seen.all), SECONDS)


async def test_the_server_is_frozen_for_longer_than_the_session(kafka_server: Server) -> None:
    member = Member(kafka_server.url)
    async with member.router.broker:
        await member.consumes(range(10))
        kafka_server.pause()
        try:
            thawed = asyncio.Event()
            asyncio.get_running_loop().call_later(9.0, thawed.set)
            await thawed.wait()
        finally:
            kafka_server.unpause()
        await member.consumes(range(10, 20))
        await until(lambda: _is(committed(member.url, member.topic, member.topic), 20), SECONDS)
    assert member.seen.all == list(range(20))


async def test_the_event_loop_stands_still_for_longer_than_the_session(kafka_server: Server) -> None:
    member = Member(kafka_server.url)
    async with member.router.broker:
        await member.consumes(range(10))
        member.stands_still = 8.0
        await member.send(range(10, 20))
        await member.consumes(range(20, 30))
        await until(lambda: _is(committed(member.url, member.topic, member.topic), 30), SECONDS)
    assert member.seen.all == list(range(30))


@pytest.mark.parametrize("task", ["_coordination_task", "_heartbeat_task"])
async def test_a_background_task_of_the_client_ends(
    kafka_server: Server, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = noted_sources(monkeypatch)
    member = Member(kafka_server.url, heartbeat_interval_ms=500)
    async with member.router.broker:
        await member.consumes(range(10))
        coordinator: Any = sources[-1].consumer._coordinator
        getattr(coordinator, task).cancel()
        await member.consumes(range(10, 20))
        await until(lambda: _lives(sources[-1], task), SECONDS)
        await until(lambda: _is(committed(member.url, member.topic, member.topic), 20), SECONDS)


async def test_the_end_of_a_rebalance_is_never_told(kafka_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "PATIENCE_SECONDS", -15.0)
    sources = noted_sources(monkeypatch)
    member = Member(kafka_server.url)
    async with member.router.broker as broker:
        await member.consumes(range(10))
        stuck = cast("GroupSource", sources[-1])
        await stuck.revoked(set(stuck.consumer.assignment()))
        state: Any = stuck.consumer._subscription
        state.begin_reassignment()
        await member.consumes(range(10, 20))
        assert sources[-1] is not stuck
        assert broker.report.counts["restarted"] == 1


@pytest.mark.parametrize("run", range(3))
async def test_publishing_while_it_stops_is_published_or_refused(kafka_server: Server, run: int) -> None:
    url, topic = kafka_server.url, f"stale-{uuid4().hex[:10]}"
    await make_topic(url, topic, 1)
    broker = KafkaRouter(url).broker
    await broker.start()
    outcomes: list[Any] = []
    stopped = asyncio.Event()

    async def publish() -> None:
        while not stopped.is_set():
            try:
                outcomes.append((await broker.publish("x", topic)).offset)
            except (BrokerUnavailable, NotStarted) as error:
                outcomes.append(type(error))
            await asyncio.sleep(0)

    publishing = [asyncio.create_task(publish()) for _ in range(5)]
    await until(lambda: len(outcomes) > 20)
    began = time.monotonic()
    await broker.stop()
    await until(lambda: NotStarted in outcomes)
    stopped.set()
    await asyncio.gather(*publishing)
    assert time.monotonic() - began < 10


def _lives(source: KafkaSource, name: str) -> bool:
    task: asyncio.Task[Any] | None = getattr(source.consumer._coordinator, name, None)
    return task is not None and not task.done()


async def _is(work: Any, expected: Any) -> bool:
    try:
        return bool(await work == expected)
    except AssertionError:  # aiokafka's own, while a server that has just come back knows no broker
        return False
