"""What a group's offsets are before the first message is handled: those of the group, and the end where it has none."""

from __future__ import annotations

import asyncio
from typing import Any

import fastapi_stream_confluent
import fastapi_stream_kafka
import pytest
from confluent_kafka import TopicPartition

from confluent_cluster import DEADLINE, Cluster, fresh
from servers import Server

NOTE = "what an operator noted"


def commit(cluster: Cluster, group: str, topic: str) -> None:
    with cluster.consumer(group) as consumer:
        consumer.commit(offsets=[TopicPartition(topic, 0, 2, NOTE)], asynchronous=False)


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
