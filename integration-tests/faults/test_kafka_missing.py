"""Topics that do not exist and must not be made, on a real Kafka."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions
from fastapi_stream_core.subscription import Status
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_kafka import KafkaRouter

from servers import Server
from test_kafka import admin_of, make_topic
from waiting import until


@pytest.mark.parametrize("group", [True, False])
async def test_a_missing_topic_is_said_and_waited_for(kafka_server: Server, group: bool, caplog: Any) -> None:
    url, topic = kafka_server.url, f"missing-{uuid4().hex[:10]}"
    seen, router = Inbox(), KafkaRouter(url, allow_auto_create_topics=False)

    @router.subscriber(topic, group_id=topic if group else None)
    async def handler(msg: int) -> None:
        seen.put(msg)

    (subscription,) = router.broker.subscribers
    async with router.broker as broker:
        assert subscription.status is Status.BACKING_OFF
        assert not subscription.running
        assert _said(caplog, topic) == 1
        await make_topic(url, topic, 1)
        await broker.publish(1, topic)
        assert await seen.take() == 1
        await until(lambda: subscription.running)
        assert _said(caplog, topic) == 1
        assert "restarted" not in broker.report.counts


async def test_a_missing_partition_is_said_and_waited_for(kafka_server: Server, caplog: Any) -> None:
    url, topic = kafka_server.url, f"missing-{uuid4().hex[:10]}"
    await make_topic(url, topic, 1)
    seen, router = Inbox(), KafkaRouter(url)

    @router.subscriber(partitions=[TopicPartition(topic, 1)])
    async def handler(msg: int) -> None:
        seen.put(msg)

    async with router.broker as broker:
        assert not router.broker.subscribers[0].running
        assert _said(caplog, f"partition 1 of {topic}") == 1
        async with admin_of(url) as admin:
            await admin.create_partitions({topic: NewPartitions(2)})
        await broker.publish(1, topic, partition=1)
        assert await seen.take() == 1


async def test_one_of_two_topics_is_read_meanwhile(kafka_server: Server, caplog: Any) -> None:
    url, topic = kafka_server.url, f"missing-{uuid4().hex[:10]}"
    await make_topic(url, topic, 1)
    seen, router = Inbox(), KafkaRouter(url, allow_auto_create_topics=False)

    @router.subscriber(topic, f"{topic}-later", group_id=topic)
    async def handler(msg: int) -> None:
        seen.put(msg)

    async with router.broker as broker:
        assert router.broker.subscribers[0].running
        assert _said(caplog, f"{topic}-later") == 1
        await broker.publish(1, topic)
        assert await seen.take() == 1
        await make_topic(url, f"{topic}-later", 1)
        await broker.publish(2, f"{topic}-later")
        assert await seen.take() == 2


def _said(caplog: pytest.LogCaptureFixture, what: str) -> int:
    return sum(
        what in one.getMessage() and "does not exist; it is read as soon as somebody makes it" in one.getMessage()
        for one in caplog.records
    )
