"""Topics that are deleted while a group has something to commit of them, on a real Kafka; both packages."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import fastapi_stream_confluent as with_confluent
import fastapi_stream_kafka as with_aiokafka
import pytest
from fastapi_stream_core.testing.conformance import Inbox

from confluent_cluster import Cluster
from servers import Server
from test_kafka import committed, make_topic
from waiting import until

BOTH = pytest.mark.parametrize(
    "package", [pytest.param(with_aiokafka, id="aiokafka"), pytest.param(with_confluent, id="confluent")]
)


@BOTH
@pytest.mark.parametrize("named", [True, False], ids=["partitions", "topics"])
async def test_the_other_topics_are_committed(kafka_server: Server, package: Any, named: bool, caplog: Any) -> None:
    """What is finished of the deleted one can't be committed, and is said now and then."""
    url, name = kafka_server.url, f"deleted-{uuid4().hex[:10]}"
    gone, stays = f"{name}-gone", f"{name}-stays"
    for one in (gone, stays):
        await make_topic(url, one, 1)
    router, seen, deleted = package.KafkaRouter(url), Inbox(), asyncio.Event()
    given: dict[str, Any] = {"partitions": [(one, 0) for one in (gone, stays)]} if named else {}
    if named:
        given["partitions"] = [package.TopicPartition(*one) for one in given["partitions"]]

    @router.subscriber(
        *(() if named else (gone, stays)), group_id=name, auto_offset_reset="earliest", max_workers=4, **given
    )
    async def handler(msg: int) -> None:
        seen.put(msg)
        if msg < 0:
            await deleted.wait()

    async def is_committed(offset: int) -> bool:
        return await committed(url, name, stays) == offset

    async with router.broker as broker:
        await broker.publish(-1, gone)
        await broker.publish(0, stays)
        await seen.take_many(2)
        await until(lambda: is_committed(1))
        await asyncio.to_thread(Cluster(url).delete, gone)
        deleted.set()
        for number in range(1, 11):
            await broker.publish(number, stays)
            await seen.take_many(1)
            await until(lambda number=number: is_committed(number + 1), 10.0)  # type: ignore[misc]
    lines = [one for one in caplog.records if "a commit failed" in one.getMessage()]
    assert len(lines) <= 3
