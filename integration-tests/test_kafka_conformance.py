"""The conformance suite on a real Kafka, with aiokafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from fastapi_stream_core.broker import Broker
from fastapi_stream_core.router import StreamRouter
from fastapi_stream_core.testing.conformance import (
    BindingSuite,
    DeliverySuite,
    Harness,
    LifeSuite,
    ResultSuite,
    RoutingSuite,
)
from fastapi_stream_kafka import KafkaRouter
from fastapi_stream_kafka.testing import FEATURES

from servers import Server


class RealKafka(Harness):
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
        producer = AIOKafkaProducer(bootstrap_servers=self.url)
        await producer.start()
        try:
            pairs = [(name, value.encode() if isinstance(value, str) else value) for name, value in headers.items()]
            await producer.send_and_wait(address, body, headers=pairs)
        finally:
            await producer.stop()

    @asynccontextmanager
    async def running(self, router: StreamRouter[Any], raise_errors: bool = False) -> AsyncIterator[Broker]:
        async with router.broker as broker:
            yield broker


@pytest.fixture
def harness(kafka_server: Server) -> Harness:
    return RealKafka(kafka_server.url)


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
