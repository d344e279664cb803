"""The conformance suite on the reference broker: the core alone passes it."""

from typing import Any

import pytest
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.conformance import (
    BindingSuite,
    DeliverySuite,
    Features,
    Harness,
    LifeSuite,
    MemoryHarness,
    ResultSuite,
    RoutingSuite,
)
from fastapi_stream_core.testing.reference import LocalRouter, TestLocalBroker


class LocalHarness(MemoryHarness):
    features = Features("local", "address", survives=False, lanes=True)
    test_broker = TestLocalBroker

    def router(self, **options: Any) -> LocalRouter:
        return LocalRouter(**options)

    def subscribe(self, router: Any, address: str, **options: Any) -> Any:
        return router.subscriber(address, **options)

    def publisher(self, router: Any, address: str, **options: Any) -> Any:
        return router.publisher(address, **options)

    async def publish(self, broker: Any, message: Any, address: str, **options: Any) -> Any:
        return await broker.publish(message, address, **options)

    async def publish_raw(self, broker: Any, body: bytes, headers: dict[str, str | bytes], address: str) -> None:
        await broker.deliver(Outgoing(address, body, "", list(headers.items())))


@pytest.fixture
def harness() -> Harness:
    return LocalHarness()


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
