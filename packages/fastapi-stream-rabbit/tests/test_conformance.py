"""The conformance suite on RabbitMQ in memory."""

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
from fastapi_stream_rabbit import (
    ExchangeType,
    RabbitBroker,
    RabbitExchange,
    RabbitPublisher,
    RabbitQueue,
    RabbitRouter,
    RabbitSubscription,
    TestRabbitBroker,
)
from fastapi_stream_rabbit.testing import FEATURES


class QueueMemory(MemoryHarness):
    """Queues of the default exchange: every subscriber of one address competes."""

    features = FEATURES[0].in_memory()
    test_broker = TestRabbitBroker

    def router(self, **options: Any) -> RabbitRouter:
        return RabbitRouter(**options)

    def subscribe(self, router: Any, address: str, group: str = "", **options: Any) -> RabbitSubscription:
        return router.subscriber(address, **options)

    def publisher(self, router: Any, address: str, **options: Any) -> RabbitPublisher:
        return router.publisher(address, **options)

    async def publish(self, broker: RabbitBroker, message: Any, address: str, **options: Any) -> Any:
        return await broker.publish(message, address, **options)

    async def publish_raw(self, broker: Any, body: bytes, headers: dict[str, str | bytes], address: str) -> None:
        headers = dict(headers)
        content_type = headers.pop("content-type", None)
        await broker.deliver(Outgoing(address, body, "", list(headers.items()), content_type))


class TopicMemory(QueueMemory):
    """A topic exchange: each subscriber has a queue of its own, those of a group share one."""

    features = FEATURES[1].in_memory()

    def subscribe(self, router: Any, address: str, group: str = "", **options: Any) -> RabbitSubscription:
        name = f"{address.replace('{', '').replace('}', '')}-{group or len(router.broker.subscribers)}"
        return router.subscriber(RabbitQueue(name, routing_key=address), EXCHANGE, **options)

    def subscribe_replies(self, router: Any, address: str) -> Any:
        return router.subscriber(address)

    def publisher(self, router: Any, address: str, **options: Any) -> RabbitPublisher:
        return router.publisher(address, EXCHANGE, **options)

    async def publish(self, broker: RabbitBroker, message: Any, address: str, **options: Any) -> Any:
        return await broker.publish(message, address, EXCHANGE, **options)

    async def publish_raw(self, broker: Any, body: bytes, headers: dict[str, str | bytes], address: str) -> None:
        headers = dict(headers)
        content_type = headers.pop("content-type", None)
        await broker.deliver(
            Outgoing(address, body, "", list(headers.items()), content_type, options={"exchange": EXCHANGE})
        )


EXCHANGE = RabbitExchange("conformance", type=ExchangeType.TOPIC)


@pytest.fixture(params=[QueueMemory, TopicMemory])
def harness(request: pytest.FixtureRequest) -> Harness:
    kind: type[Harness] = request.param
    return kind()


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
