"""Another member of the group comes and goes, while messages failed, run and are committed: both Kafka packages."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any
from uuid import uuid4

import fastapi_stream_confluent as with_confluent
import fastapi_stream_kafka as with_aiokafka
import pytest
from fastapi_stream_core.dispatch import Dispatcher
from fastapi_stream_core.partition import Commits

from confluent_cluster import Cluster
from servers import Server
from test_kafka import make_topic
from waiting import until

PARTITIONS = 2
COUNT = 20
LATER = 600.0
SECONDS = 60.0
BOTH = pytest.mark.parametrize(
    "routers", [pytest.param(with_aiokafka, id="aiokafka"), pytest.param(with_confluent, id="confluent")]
)


@BOTH
async def test_what_waits_for_another_delivery_does_not_hold_its_partition_up(
    kafka_server: Server, routers: Any
) -> None:
    url, topic = kafka_server.url, f"rebalance-{uuid4().hex[:10]}"
    await make_topic(url, topic, PARTITIONS)
    runs: Counter[int] = Counter()

    def member() -> Any:
        router = routers.KafkaRouter(url)

        @router.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
        async def handler(msg: int) -> None:
            runs[msg] += 1
            if msg < PARTITIONS and runs[msg] == 1:
                raise routers.NackMessage(LATER)

        return router.broker

    async with member() as first:
        await asyncio.gather(*(first.publish(one, topic, partition=one % PARTITIONS) for one in range(COUNT)))
        await until(lambda: runs[0] and runs[1])
        async with member():
            pass
        await asyncio.gather(
            *(first.publish(one, topic, partition=one % PARTITIONS) for one in range(COUNT, 2 * COUNT))
        )
        await until(lambda: set(range(2 * COUNT)) <= runs.keys())
        assert {runs[one] for one in range(PARTITIONS)} == {2}


@BOTH
async def test_what_is_committed_while_a_partition_goes_does_not_set_the_group_back(
    kafka_server: Server, routers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, topic, count = kafka_server.url, f"rebalance-{uuid4().hex[:10]}", 3
    await make_topic(url, topic, 1)
    draining, committing = asyncio.Event(), asyncio.Event()
    revoke, begin = Dispatcher.revoke, Commits._begin

    async def noted_revoke(dispatcher: Dispatcher, lanes: Iterable[Hashable], timeout: float) -> None:
        draining.set()
        await revoke(dispatcher, lanes, timeout)

    def noted_begin(commits: Commits) -> asyncio.Task[bool]:
        committing.set()
        return begin(commits)

    runs: Counter[int] = Counter()
    may_end = [asyncio.Event() for _ in range(count)]

    def member() -> Any:
        router = routers.KafkaRouter(url)

        @router.subscriber(topic, group_id=topic, auto_offset_reset="earliest", max_workers=count)
        async def handler(msg: int) -> None:
            runs[msg] += 1
            await may_end[msg].wait()

        return router.broker

    async with member() as first:
        for one in range(count):
            await first.publish(one, topic)
        await until(lambda: len(runs) == count)
        monkeypatch.setattr(Dispatcher, "revoke", noted_revoke)
        second = member()
        joining = asyncio.create_task(second.start())
        await asyncio.wait_for(draining.wait(), SECONDS)
        monkeypatch.setattr(Commits, "_begin", noted_begin)
        may_end[0].set()
        await asyncio.wait_for(committing.wait(), SECONDS)
        for one in may_end[1:]:
            one.set()
        await asyncio.wait_for(joining, SECONDS)
        await second.stop()
    assert await asyncio.to_thread(Cluster(url).committed, topic, topic) == count
    assert set(runs.values()) == {1}
