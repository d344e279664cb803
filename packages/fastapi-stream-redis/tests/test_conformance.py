"""The conformance suite over the test broker: channels, lists, streams and groups."""

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
from fastapi_stream_redis import ListSub, RedisRouter, StreamSub, TestRedisBroker
from fastapi_stream_redis.testing import FEATURES


class RedisMemory(MemoryHarness):
    test_broker = TestRedisBroker

    def __init__(self, features: Features) -> None:
        self.features = features
        self.consumers = 0

    def router(self, **options: Any) -> RedisRouter:
        return RedisRouter(**options)

    def place(self, address: str) -> dict[str, str]:
        kind = "stream" if self.features.kind == "group" else self.features.kind
        return {kind: address}

    def subscribe(self, router: Any, address: str, *, batch: bool = False, group: str = "", **options: Any) -> Any:
        if self.features.kind == "channel":
            return router.subscriber(address, **options)
        if self.features.kind == "list":
            return router.subscriber(list=ListSub(address, batch=batch), **options)
        if self.features.kind == "stream":
            return router.subscriber(stream=StreamSub(address, batch=batch), **options)
        self.consumers += 1
        consumer = f"consumer-{self.consumers}"
        return router.subscriber(
            stream=StreamSub(address, group=group or f"own-{consumer}", consumer=consumer, batch=batch), **options
        )

    def subscribe_replies(self, router: Any, address: str) -> Any:
        return router.subscriber(address)

    def publisher(self, router: Any, address: str, **options: Any) -> Any:
        return router.publisher(**self.place(address), **options)

    async def publish(self, broker: Any, message: Any, address: str, **options: Any) -> Any:
        return await broker.publish(message, **self.place(address), **options)

    async def publish_raw(self, broker: Any, body: bytes, headers: dict[str, str | bytes], address: str) -> None:
        (kind,) = self.place(address)
        await broker.deliver(Outgoing(address, body, "", list(headers.items()), options={"kind": kind}))


@pytest.fixture(params=[one.in_memory() for one in FEATURES], ids=lambda features: features.kind)
def harness(request: pytest.FixtureRequest) -> Harness:
    return RedisMemory(request.param)


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
