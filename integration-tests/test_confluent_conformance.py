"""The conformance suite on a real Kafka, with confluent-kafka."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from confluent_kafka import Producer
from fastapi_stream_confluent import KafkaRouter
from fastapi_stream_confluent.testing import FEATURES
from fastapi_stream_core.testing.conformance import (
    BindingSuite,
    DeliverySuite,
    Harness,
    LifeSuite,
    ResultSuite,
    RoutingSuite,
)

from servers import Server


class RealConfluent(Harness):
    features = FEATURES[0]

    def __init__(self, url: str) -> None:
        self.url = url

    def router(self, **options: Any) -> KafkaRouter:
        return KafkaRouter(self.url, **options)

    def subscribe(self, router: Any, address: str, *, group: str | None = None, **options: Any) -> Any:
        if "{" in address:
            return router.subscriber(pattern=address, group_id=group, **options)
        return router.subscriber(address, group_id=group and f"{group}-{address}", **options)

    def publisher(self, router: Any, address: str, **options: Any) -> Any:
        return router.publisher(address, **options)

    async def publish(self, broker: Any, message: Any, address: str, **options: Any) -> Any:
        return await broker.publish(message, address, **options)

    async def publish_raw(self, broker: Any, body: bytes, headers: dict[str, str | bytes], address: str) -> None:
        def publish() -> None:
            with Producer({"bootstrap.servers": self.url, "linger.ms": 0}) as producer:
                producer.produce(address, body, headers=list(headers.items()))
                assert producer.flush(30) == 0

        await asyncio.to_thread(publish)


@pytest.fixture
def harness(confluent_server: Server) -> Harness:
    return RealConfluent(confluent_server.url)


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
