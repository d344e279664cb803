"""The conformance suite on a real RabbitMQ."""

from typing import Any

import aio_pika
import pytest
from fastapi_stream_core.testing.conformance import (
    BindingSuite,
    DeliverySuite,
    Harness,
    LifeSuite,
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
)
from fastapi_stream_rabbit.testing import FEATURES

from servers import Server

EXCHANGE = RabbitExchange("conformance", type=ExchangeType.TOPIC)


class QueueHarness(Harness):
    """Queues of the default exchange: every subscriber of one address competes."""

    features = FEATURES[0]
    exchange: RabbitExchange | None = None

    def __init__(self, url: str) -> None:
        self.url = url

    def router(self, **options: Any) -> RabbitRouter:
        return RabbitRouter(self.url, **options)

    def subscribe(self, router: Any, address: str, group: str = "", **options: Any) -> RabbitSubscription:
        return router.subscriber(address, **options)

    def publisher(self, router: Any, address: str, **options: Any) -> RabbitPublisher:
        return router.publisher(address, self.exchange, **options)

    async def publish(self, broker: RabbitBroker, message: Any, address: str, **options: Any) -> Any:
        return await broker.publish(message, address, self.exchange, **options)

    async def publish_raw(self, broker: Any, body: bytes, headers: dict[str, str | bytes], address: str) -> None:
        table: dict[str, Any] = {
            name: bytearray(value) if isinstance(value, bytes) else value for name, value in headers.items()
        }
        content_type = table.pop("content-type", None)
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            exchange = channel.default_exchange
            if self.exchange is not None:
                exchange = await channel.get_exchange(self.exchange.name)
            await exchange.publish(aio_pika.Message(body, headers=table, content_type=content_type), address)


class TopicHarness(QueueHarness):
    """A topic exchange: each subscriber has a queue of its own, those of a group share one."""

    features = FEATURES[1]
    exchange = EXCHANGE

    def subscribe(self, router: Any, address: str, group: str = "", **options: Any) -> RabbitSubscription:
        name = f"{address.replace('{', '').replace('}', '')}-{group or len(router.broker.subscribers)}"
        queue = RabbitQueue(name, routing_key=address, auto_delete=not group)
        return router.subscriber(queue, self.exchange, **options)

    def subscribe_replies(self, router: Any, address: str) -> RabbitSubscription:
        return router.subscriber(address)


@pytest.fixture(params=[QueueHarness, TopicHarness])
def harness(request: pytest.FixtureRequest, rabbit_server: Server) -> Harness:
    return request.param(rabbit_server.url)


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
