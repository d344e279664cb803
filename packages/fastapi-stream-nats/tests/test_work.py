"""What a message costs from the bytes of the wire to its acknowledgement, counted."""

from __future__ import annotations

from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.work import count_work
from fastapi_stream_nats import NatsBroker, NatsMessage
from fastapi_stream_nats.message import Origin
from fastapi_stream_nats.parser import Wire
from pydantic import BaseModel

# Python and C calls of one message: made of the bytes, decoded, validated, handled, settled. About 15 % above the
# highest count of Python 3.10 to 3.13.
CORE_CALLS = 24
STREAM_CALLS = 33
TASKS = 0.02
FUTURES = 0.02
KEPT = 0.05

HEADERS = b"NATS/1.0\r\ncontent-type: application/json\r\ncorrelation_id: c-1\r\n\r\n"
BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5}'


class Order(BaseModel):
    id: int
    name: str
    price: float


async def handle(order: Order) -> None: ...


def check(feed: Feed[Wire], calls: float) -> None:
    count_work(lambda: feed).check(
        all_calls=calls, tasks=TASKS, futures=FUTURES, log_calls=0, kept_objects=KEPT, kept_blocks=KEPT
    )


def test_a_message_of_core() -> None:
    broker = NatsBroker("nats://localhost", logger=None)
    broker.subscriber("orders")(handle)
    origin = Origin()
    wire: Wire = (b"orders", b"", BODY, HEADERS)
    check(Feed(broker, lambda number: wire, lambda wire: NatsMessage(wire, "orders", origin)), CORE_CALLS)


def test_a_message_of_a_stream() -> None:
    broker = NatsBroker("nats://localhost", logger=None)
    broker.subscriber("orders", stream="tea", durable="tea")(handle)
    held: dict[int, NatsMessage] = {}
    noted: list[bytes] = []
    origin = Origin(stream="tea", consumer="tea")

    def wire(number: int) -> Wire:
        return (b"orders", b"$JS.ACK.tea.tea.1.%d.%d.1700000000000000000.0" % (number + 1, number + 1), BODY, HEADERS)

    def received(wire: Wire) -> NatsMessage:
        message = NatsMessage(wire, "orders", origin)
        held[message.sequence] = message
        return message

    def settled(message: object) -> None:
        assert isinstance(message, NatsMessage)
        del held[message.sequence]
        noted.append(message.wire_reply)
        if len(noted) >= 100:
            noted.clear()

    check(Feed(broker, wire, received, settled), STREAM_CALLS)
