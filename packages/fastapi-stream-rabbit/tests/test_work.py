"""What a delivery costs from the bytes of the socket to the frame of its acknowledgement, counted."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from aiormq import spec
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.work import count_work
from fastapi_stream_rabbit import RabbitBroker, RabbitMessage
from fastapi_stream_rabbit.delivery import Delivery
from fastapi_stream_rabbit.settlement import Ledger
from fastapi_stream_rabbit.stream import Deliveries
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader
from pydantic import BaseModel

# Python and C calls of one message: read from its three frames, decoded, validated, handled, its tag noted and taken
# for `basic.ack`. About 15 % above the highest count of Python 3.10 to 3.13.
CALLS = 58
TASKS = 0.02
# A hundred workers wait at the same time when there is nothing to do.
FUTURES = 0.25
KEPT = 0.02
# A hundred workers that wait hold the bytes of what each of them handled last, now more of them, now less. Something
# that is kept of each message is one block at least.
KEPT_BLOCKS = 0.5

TOGETHER = 25
BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5}'
PROPERTIES = spec.Basic.Properties(content_type="application/json", correlation_id="c-1", message_id="m-1")


class Order(BaseModel):
    id: int
    name: str
    price: float


class Wire(asyncio.Transport):
    """A transport that nothing is written to."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.get_protocol = lambda: protocol  # type: ignore[method-assign]

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...


class RabbitFeed(Feed[bytes]):
    """Reads frames, and takes some acknowledgements together, as the real source does."""

    def __init__(self, broker: RabbitBroker) -> None:
        super().__init__(broker, delivery, self.received, self.settled_one)
        self.ledger = Ledger()
        self.acknowledged = 0
        self.message_read: RabbitMessage | None = None
        self.deliveries = Deliveries(Wire(asyncio.Protocol()), asyncio.get_running_loop())
        self.deliveries.expect(cast("Any", SimpleNamespace(number=1)), "consumer", self.read)

    def read(self, delivery: Delivery) -> None:
        size = len(delivery.body) + len(delivery.head)
        self.ledger.open[delivery.tag] = size
        self.ledger.held += size
        self.message_read = RabbitMessage(delivery, "orders", False)

    def received(self, frames: bytes) -> RabbitMessage:
        self.deliveries.data_received(frames)
        message, self.message_read = self.message_read, None
        assert message is not None
        return message

    def settled_one(self, message: Any) -> None:
        self.ledger.ack(message.tag)
        if len(self.ledger) >= TOGETHER:
            self.acknowledged = self.ledger.take().upto or self.acknowledged


def delivery(number: int) -> bytes:
    deliver = spec.Basic.Deliver("consumer", number + 1, False, "", "orders")
    header = ContentHeader(0, len(BODY), PROPERTIES)
    return b"".join(marshal(frame, 1) for frame in (deliver, header, ContentBody(BODY)))


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
    work.check(all_calls=CALLS, tasks=TASKS, futures=FUTURES, log_calls=0, kept_objects=KEPT, kept_blocks=KEPT_BLOCKS)
