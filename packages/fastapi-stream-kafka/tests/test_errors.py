"""Which errors of the client mean that the group, or the cluster, went on without this client."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import (
    CommitFailedError,
    CoordinatorLoadInProgressError,
    IllegalStateError,
    KafkaTimeoutError,
)
from fastapi_stream_core.dispatch import Dispatcher
from fastapi_stream_kafka import KafkaBroker
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
