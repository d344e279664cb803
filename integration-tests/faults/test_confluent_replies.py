"""Answers go where a sender wants only when that is a topic that exists."""

from __future__ import annotations

import asyncio
import time

import pytest
from fastapi_stream_confluent import KafkaBroker

from confluent_cluster import DEADLINE, Cluster, fresh
from servers import Server
from waiting import until

NOT_PLAIN = ("__consumer_offsets", "a b", "..", "x" * 300, "ä", "a/b", "\x00")


@pytest.fixture
def url(confluent_server: Server) -> str:
    return confluent_server.url


@pytest.fixture
def cluster(url: str) -> Cluster:
    return Cluster(url)


async def test_new_names_neither_make_topics_nor_hold_up_the_partition(url: str, cluster: Cluster) -> None:
    topic, answers = fresh(), fresh("answers")
    for name in (topic, answers):
        await asyncio.to_thread(cluster.make, name, 1)
    runs: list[int] = []
    broker = KafkaBroker(url)

    @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
    async def handler(msg: int) -> int:
        runs.append(msg)
        return msg

    before = set(await asyncio.to_thread(cluster.topics))
    names = [fresh("nowhere") for _ in range(40)]
    async with broker:
        began = time.monotonic()
        for number, name in enumerate((*NOT_PLAIN, *names)):
            await broker.publish(number, topic, reply_to=name)
        count = len(NOT_PLAIN) + len(names)
        await broker.publish(-1, topic, reply_to=answers)
        await until(lambda: -1 in runs, what="the last message was handled")
        assert time.monotonic() - began < 15
        assert runs == [*range(count), -1]
        assert broker.report.counts["replies_refused"] == count
        await asyncio.wait_for(asyncio.to_thread(cluster.record, answers), DEADLINE)
        assert (await asyncio.to_thread(cluster.record, answers)).value() == b"-1"
    # The cluster may have told of the test's own topics only after that.
    known = {topic, answers, "__consumer_offsets", *before}
    assert set(await asyncio.to_thread(cluster.topics)) <= known


async def test_a_topic_that_was_made_meanwhile_is_answered(url: str, cluster: Cluster) -> None:
    """That it was not there is not remembered for long."""
    topic, answers = fresh(), fresh("answers")
    await asyncio.to_thread(cluster.make, topic, 1)
    broker = KafkaBroker(url)

    @broker.subscriber(topic, auto_offset_reset="earliest")
    async def handler(msg: int) -> int:
        return msg

    async with broker:
        await broker.publish(1, topic, reply_to=answers)
        await until(lambda: broker.report.counts.get("replies_refused") == 1, what="the refusal")
        await asyncio.to_thread(cluster.make, answers, 1)
        deadline = time.monotonic() + DEADLINE
        while not await asyncio.to_thread(cluster.end, answers):
            assert time.monotonic() < deadline
            await broker.publish(2, topic, reply_to=answers)
        assert (await asyncio.to_thread(cluster.record, answers)).value() == b"2"


async def test_other_policies(url: str, cluster: Cluster) -> None:
    topic, wanted, other = fresh(), fresh("wanted"), fresh("other")
    await asyncio.to_thread(cluster.make, topic, 1)
    broker = KafkaBroker(url, replies=["wanted-*"])

    @broker.subscriber(topic, auto_offset_reset="earliest")
    async def handler(msg: int) -> int:
        return msg

    async with broker:
        await broker.publish(1, topic, reply_to=other)
        await broker.publish(2, topic, reply_to=wanted)
        await until(lambda: wanted in cluster.topics(), what="the answer")
        assert broker.report.counts["replies_refused"] == 1
        assert other not in await asyncio.to_thread(cluster.topics)
