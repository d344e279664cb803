"""Which errors of the client mean that the group, or the cluster, went on without this client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import (
    CommitFailedError,
    CoordinatorLoadInProgressError,
    IllegalStateError,
    KafkaTimeoutError,
)
from fastapi_stream_core.dispatch import Dispatcher
from fastapi_stream_core.errors import BrokerUnavailable, SetupError
from fastapi_stream_kafka import KafkaBroker, TestKafkaBroker
from fastapi_stream_kafka.transport import KafkaTransport


@pytest.mark.parametrize(
    ("error", "is_late"),
    [
        (CommitFailedError(), True),
        (IllegalStateError(), True),
        (CoordinatorLoadInProgressError(), False),
        (KafkaTimeoutError(), False),
    ],
)
async def test_a_commit_after_the_group_went_on_is_late(error: Exception, is_late: bool) -> None:
    broker = KafkaBroker("127.0.0.1:9")
    subscription = broker.subscriber("orders", group_id="billing")

    @subscription
    async def handler(body: bytes) -> None: ...

    source: Any = KafkaTransport(broker).source(subscription)
    source.dispatcher = Dispatcher(subscription)
    source.commits._failed(error)
    assert broker.report.counts.get("late", 0) == is_late
    await source.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no topic is given"),
        ({"topic": "orders", "header": {}}, "the option 'header' does not exist; use 'headers'"),
        ({"topic": "orders", "persist": True}, "the option 'persist' does not exist; choose from"),
    ],
)
async def test_what_publish_does_not_take_is_named(given: dict[str, Any], said: str) -> None:
    broker = KafkaBroker("127.0.0.1:9")
    async with TestKafkaBroker(broker):
        with pytest.raises(SetupError, match=said):
            await broker.publish(1, **given)
        if "topic" in given:
            with pytest.raises(SetupError, match=said):
                await broker.publisher("orders").publish(1, **given)


async def test_a_server_of_something_else() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    broker = KafkaBroker(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", startup_timeout=0.5)
    with pytest.raises(BrokerUnavailable, match="no answer in Kafka's protocol"):
        await broker.start()
    server.close()
    await server.wait_closed()
