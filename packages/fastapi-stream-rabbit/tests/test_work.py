"""What a delivery costs from aiormq's object to the frame of its acknowledgement, counted."""

from __future__ import annotations

from typing import Any

from aiormq import spec
from aiormq.abc import DeliveredMessage
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.work import count_work
from fastapi_stream_rabbit import RabbitBroker, RabbitMessage
from fastapi_stream_rabbit.settlement import Ledger
from pamqp.header import ContentHeader
from pydantic import BaseModel

# Python and C calls of one message: made of the delivery, decoded, validated, handled, its tag noted and taken for
# `basic.ack`. About 15 % above the highest count of Python 3.10 to 3.13.
CALLS = 42
TASKS = 0.02
# A hundred workers wait at the same time when there is nothing to do.
FUTURES = 0.25
KEPT = 0.02

TOGETHER = 25
BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5}'
PROPERTIES = spec.Basic.Properties(content_type="application/json", correlation_id="c-1", message_id="m-1")


class Order(BaseModel):
    id: int
    name: str
    price: float


class RabbitFeed(Feed[DeliveredMessage]):
    """Notes acknowledgements and takes some of them together, as the real source does."""

    def __init__(self, broker: RabbitBroker) -> None:
        super().__init__(broker, delivery, self.received, self.settled_one)
        self.ledger = Ledger()
        self.acknowledged = 0

    def received(self, delivered: DeliveredMessage) -> RabbitMessage:
        return RabbitMessage(delivered, "orders")

    def settled_one(self, message: Any) -> None:
        self.ledger.ack(message.tag)
        if len(self.ledger) >= TOGETHER:
            self.acknowledged = self.ledger.take().upto or self.acknowledged


def delivery(number: int) -> DeliveredMessage:
    deliver = spec.Basic.Deliver("consumer", number + 1, False, "", "orders")
    return DeliveredMessage(deliver, ContentHeader(0, len(BODY), PROPERTIES), BODY, None)  # type: ignore[arg-type]


def test_a_delivery() -> None:
    broker = RabbitBroker("amqp://localhost", logger=None)

    @broker.subscriber("orders")
    async def handle(order: Order) -> None: ...

    feeds: list[RabbitFeed] = []

    def make() -> RabbitFeed:
        feeds.append(RabbitFeed(broker))
        return feeds[0]

    work = count_work(make)
    assert feeds[0].acknowledged == feeds[0].settled
    work.check(all_calls=CALLS, tasks=TASKS, futures=FUTURES, log_calls=0, kept_objects=KEPT, kept_blocks=KEPT)
