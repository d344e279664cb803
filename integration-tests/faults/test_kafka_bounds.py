"""What a consumer of a real Kafka holds, and how it gives back what it has no room for."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from fastapi_stream_core.dispatch import Dispatcher
from fastapi_stream_core.policy import Retry
from fastapi_stream_kafka import KafkaMessage, KafkaRouter
from fastapi_stream_kafka.source import KafkaSource
from fastapi_stream_kafka.transport import KafkaTransport

from faults.kafka_sources import noted_sources
from servers import Server
from test_kafka import committed, make_topic
from waiting import until


async def read(source: KafkaSource, count: int) -> list[KafkaMessage]:
    found: list[KafkaMessage] = []

    async def enough() -> bool:
        found.extend(cast("list[KafkaMessage]", await source.fetch(count - len(found))))
        return len(found) >= count

    await until(enough)
    return found


@pytest.mark.parametrize("group", [True, False])
async def test_what_is_given_back_comes_again_after_its_lane_goes_on(kafka_server: Server, group: bool) -> None:
    url, topic = kafka_server.url, f"bounds-{uuid4().hex[:10]}"
    lane = TopicPartition(topic, 0)
    await make_topic(url, topic, 1)
    router = KafkaRouter(url)
    options: dict[str, Any] = {"group_id": topic} if group else {}
    subscription = router.broker.subscriber(topic, auto_offset_reset="earliest", **options)

    async with KafkaRouter(url).broker as broker:
        await asyncio.gather(*(broker.publish(number, topic) for number in range(20)))

    @subscription
    async def handler(msg: int) -> None: ...

    transport = KafkaTransport(router.broker)
    source = cast("KafkaSource", transport.source(subscription))
    source.dispatcher = Dispatcher(subscription)
    await source.start()
    try:
        messages = await read(source, 20)
        assert [one.offset for one in messages] == list(range(20))
        assert not source.give_back(lane, messages[15:])  # the lane is not held
        source.hold(lane)
        assert source.give_back(lane, messages[15:])
        assert source.give_back(lane, messages[10:15])
        for one in messages[:10]:
            source.ack(one)
        if group:
            await until(lambda: _is(committed(url, topic, topic), 10))
        source.resume(lane)
        again = await read(source, 10)
        assert [one.offset for one in again] == list(range(10, 20))
        for one in again:
            source.ack(one)
        if group:
            await until(lambda: _is(committed(url, topic, topic), 20))
    finally:
        await source.flush()
        await source.close()
        await transport.close()


async def test_the_client_asks_for_no_more_than_its_share(
    kafka_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = noted_sources(monkeypatch)
    url, topic = kafka_server.url, f"bounds-{uuid4().hex[:10]}"
    await make_topic(url, topic, 16)
    handled: set[int] = set()
    release, router = asyncio.Event(), KafkaRouter(url)

    @router.subscriber(topic, auto_offset_reset="earliest", prefetch_bytes=1_000_000)
    async def handler(msg: bytes) -> None:
        await release.wait()
        handled.add(int(msg[:8]))

    async with KafkaRouter(url).broker as broker:
        body = b"x" * 50_000
        await asyncio.gather(
            *(broker.publish(b"%08d" % number + body, topic, partition=number % 16) for number in range(128))
        )
    async with router.broker:
        fetcher: Any = sources[-1].consumer._fetcher
        assert fetcher._max_partition_fetch_bytes == 1_000_000 // 2 // 16
        assert fetcher._fetch_max_bytes == 500_000
        release.set()
        await until(lambda: len(handled) == 128)


@pytest.mark.parametrize("options", [{"max_workers": 1}, {"max_workers": 4}, {"max_workers": 1, "batch": True}])
async def test_what_waits_behind_failed_messages_is_bounded(kafka_server: Server, options: dict[str, Any]) -> None:
    url, topic = kafka_server.url, f"bounds-{uuid4().hex[:10]}"
    await make_topic(url, topic, 20)
    handled: list[int] = []
    fails, router = True, KafkaRouter(url)

    @router.subscriber(topic, group_id=topic, auto_offset_reset="earliest", **options)
    async def handler(message: KafkaMessage) -> None:
        if fails:
            raise RuntimeError("not yet")
        handled.extend(int(one.body) for one in getattr(message, "messages", [message]))

    router.broker.subscribers[0].retry = Retry(attempts=1000, delay=0.5, backoff=1.0)
    async with KafkaRouter(url).broker as broker:
        for start in range(0, 6000, 500):
            numbers = range(start, start + 500)
            await asyncio.gather(*(broker.publish(b"%d" % one, topic, partition=one % 20) for one in numbers))
    async with router.broker as broker:
        (run,) = broker.subscribers[0].runs
        held = run.dispatcher._redelivery.held  # nothing public tells what waits behind failed messages from the rest
        most = 0
        for _ in range(60):
            tick = asyncio.Event()
            asyncio.get_running_loop().call_later(0.05, tick.set)
            await tick.wait()
            most = max(most, sum(map(len, held.values())))
        fails = False
        await until(lambda: len(handled) >= 6000)
        assert most <= 1100
    assert sorted(handled) == list(range(6000))
    for partition in range(20):
        own = [one for one in handled if one % 20 == partition]
        assert options["max_workers"] > 1 or own == sorted(own)


async def _is(work: Any, expected: Any) -> bool:
    return bool(await work == expected)
