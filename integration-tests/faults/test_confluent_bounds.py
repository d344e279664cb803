"""What a consumer of a real Kafka gives back when it has no room for it, and what it holds."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from fastapi_stream_confluent import KafkaBroker, KafkaMessage
from fastapi_stream_confluent.source import KafkaSource
from fastapi_stream_confluent.transport import KafkaTransport
from fastapi_stream_core.dispatch import Dispatcher

from confluent_cluster import DEADLINE, Cluster, fresh
from servers import Server
from waiting import until


@pytest.fixture
def url(confluent_server: Server) -> str:
    return confluent_server.url


@pytest.fixture
def cluster(url: str) -> Cluster:
    return Cluster(url)


async def read(source: KafkaSource, count: int) -> list[KafkaMessage]:
    found: list[KafkaMessage] = []

    async def enough() -> None:
        while len(found) < count:
            found.extend(cast("list[KafkaMessage]", await source.fetch(count - len(found))))

    await asyncio.wait_for(enough(), DEADLINE)
    return found


@pytest.mark.parametrize("group", [True, False])
async def test_what_is_given_back_comes_again_after_its_lane_goes_on(url: str, cluster: Cluster, group: bool) -> None:
    """While the lane is held more of it may be on its way, from the client's thread."""
    topic, count = fresh(), 2000
    lane = (topic, 0)
    await asyncio.to_thread(cluster.make, topic, 1)
    await asyncio.to_thread(cluster.publish, topic, *(b"%d" % number for number in range(count)))
    broker = KafkaBroker(url)
    options: dict[str, Any] = {"group_id": topic} if group else {}
    subscription = broker.subscriber(topic, auto_offset_reset="earliest", **options)

    @subscription
    async def handler(msg: int) -> None: ...

    async def committed(position: int) -> None:
        while await asyncio.to_thread(cluster.committed, topic, topic) != position:
            pass

    transport = KafkaTransport(broker)
    await transport.start()
    source = cast("KafkaSource", transport.source(subscription))
    source.dispatcher = Dispatcher(subscription)
    await source.start()
    try:
        messages = await read(source, 200)
        assert [one.offset for one in messages] == list(range(200))
        assert not source.give_back(lane, messages[150:])  # the lane is not held
        source.hold(lane)
        assert source.give_back(lane, messages[150:])
        assert source.give_back(lane, messages[100:150])
        for one in messages[:100]:
            source.ack(one)
        if group:
            await asyncio.wait_for(committed(100), DEADLINE)
        source.resume(lane)
        again = await read(source, count - 100)
        assert [one.offset for one in again] == list(range(100, count))
        for one in again:
            source.ack(one)
        if group:
            await asyncio.wait_for(committed(count), DEADLINE)
    finally:
        await source.flush()
        await source.close()
        await transport.close()


async def test_few_bytes_are_enough(url: str, cluster: Cluster) -> None:
    """With less room than one message everything comes all the same."""
    topic = fresh()
    await asyncio.to_thread(cluster.make, topic, 8)
    handled: set[int] = set()
    broker = KafkaBroker(url)

    @broker.subscriber(topic, auto_offset_reset="earliest", prefetch_bytes=20_000)
    async def handler(msg: bytes) -> None:
        handled.add(int(msg[:8]))

    async with broker:
        body = b"x" * 50_000
        await asyncio.gather(
            *(broker.publish(b"%08d" % number + body, topic, partition=number % 8) for number in range(64))
        )
        await until(lambda: len(handled) == 64, what="every message was handled")
