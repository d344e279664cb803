"""What a group's offsets are before the first message is handled: those of the group, and the end where it has none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import fastapi_stream_confluent
import fastapi_stream_kafka
import pytest
from confluent_kafka import TopicPartition

from confluent_cluster import DEADLINE, Cluster, fresh
from servers import Server
from waiting import until

NOTE = "what an operator noted"


def commit(cluster: Cluster, group: str, topic: str) -> None:
    with cluster.consumer(group) as consumer:
        consumer.commit(offsets=[TopicPartition(topic, 0, 2, NOTE)], asynchronous=False)


def commit_all(cluster: Cluster, group: str, topic: str, positions: Mapping[int, int]) -> None:
    with cluster.consumer(group) as consumer:
        offsets = [TopicPartition(topic, number, position) for number, position in positions.items()]
        consumer.commit(offsets=offsets, asynchronous=False)


@pytest.mark.parametrize("package", [fastapi_stream_kafka, fastapi_stream_confluent])
@pytest.mark.parametrize("shared", [True, False])
async def test_latest_commits_only_where_the_group_has_no_offset(
    kafka_server: Server, package: Any, shared: bool
) -> None:
    cluster, topic = Cluster(kafka_server.url), fresh("positions")
    await asyncio.to_thread(cluster.make, topic, 2)
    await asyncio.to_thread(cluster.publish, topic, b"1", b"2", b"3", partition=0)
    await asyncio.to_thread(commit, cluster, topic, topic)
    (kept, _), (none, _) = await asyncio.to_thread(cluster.noted, topic, topic, 2)
    assert (kept, none < 0) == (2, True)
    broker = package.KafkaBroker(kafka_server.url)
    begun, release = asyncio.Event(), asyncio.Event()
    if shared:
        subscription = broker.subscriber(topic, group_id=topic)
    else:
        partitions = [package.TopicPartition(topic, number) for number in range(2)]
        subscription = broker.subscriber(partitions=partitions, group_id=topic)

    @subscription
    async def handler(msg: int) -> None:
        begun.set()
        await release.wait()

    async with broker:
        await asyncio.wait_for(begun.wait(), DEADLINE)
        (kept, note), (end, _) = await asyncio.to_thread(cluster.noted, topic, topic, 2)
        release.set()
    assert (kept, note[: len(NOTE)]) == (2, NOTE)
    assert end == 0


@pytest.mark.parametrize("package", [fastapi_stream_kafka, fastapi_stream_confluent])
@pytest.mark.parametrize("shared", [True, False])
async def test_offsets_of_many_partitions_that_are_not_in_the_log(
    kafka_server: Server, package: Any, shared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An app that was away for longer than its topics keep anything goes on in all their partitions, in each once."""
    cluster, topic, numbers = Cluster(kafka_server.url), fresh("left"), range(6)
    await asyncio.to_thread(cluster.make, topic, len(numbers))
    for number in numbers:
        bodies = [b"%d" % (100 * number + offset) for offset in range(6)]
        await asyncio.to_thread(partial(cluster.publish, topic, *bodies, partition=number))
    await asyncio.to_thread(commit_all, cluster, topic, topic, dict.fromkeys(numbers, 1))
    await asyncio.to_thread(cluster.cut, topic, 4, *numbers)
    handled: list[int] = []
    broker = package.KafkaBroker(kafka_server.url)
    if shared:
        subscription = broker.subscriber(topic, group_id=topic)
    else:
        partitions = [package.TopicPartition(topic, number) for number in numbers]
        subscription = broker.subscriber(partitions=partitions, group_id=topic)

    @subscription
    async def handler(msg: int) -> None:
        handled.append(msg)

    left = sorted(100 * number + offset for number in numbers for offset in (4, 5))
    async with broker:
        await until(lambda: set(handled) >= set(left), what=f"what is left was handled: {handled}")
    assert sorted(handled) == left
    assert caplog.text.count("is not in the log any more") == len(numbers)
    noted = await asyncio.to_thread(cluster.noted, topic, topic, len(numbers))
    assert [offset for offset, _ in noted] == [6] * len(numbers)
