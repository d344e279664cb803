"""The conformance suite on Kafka in memory."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.conformance import (
    BindingSuite,
    DeliverySuite,
    Harness,
    LifeSuite,
    MemoryHarness,
    ResultSuite,
    RoutingSuite,
)
from fastapi_stream_kafka import KafkaRouter, TestKafkaBroker
from fastapi_stream_kafka.testing import FEATURES


class MemoryKafka(MemoryHarness):
    features = FEATURES[0].in_memory()
    test_broker = TestKafkaBroker

    def router(self, **options: Any) -> KafkaRouter:
        return KafkaRouter(**options)

    def subscribe(self, router: Any, address: str, *, group: str | None = None, **options: Any) -> Any:
        if "{" in address:
            return router.subscriber(pattern=address, group_id=group, **options)
        return router.subscriber(address, group_id=group, **options)

    def publisher(self, router: Any, address: str, **options: Any) -> Any:
        return router.publisher(address, **options)

    async def publish(self, broker: Any, message: Any, address: str, **options: Any) -> Any:
        return await broker.publish(message, address, **options)

    async def publish_raw(self, broker: Any, body: bytes, headers: dict[str, str | bytes], address: str) -> None:
        await broker.deliver(Outgoing(address, body, "", list(headers.items())))


@pytest.fixture
def harness() -> Harness:
    return MemoryKafka()


class TestBinding(BindingSuite):
    pass


class TestResults(ResultSuite):
    pass


class TestDelivery(DeliverySuite):
    pass


class TestRouting(RoutingSuite):
    pass


class TestLife(LifeSuite):
    pass
