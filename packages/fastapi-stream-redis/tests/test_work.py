"""What a message costs from the reply of the server to its acknowledgement, counted."""

from __future__ import annotations

from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.work import count_work
from fastapi_stream_redis import RedisBroker, StreamSub
from fastapi_stream_redis.message import RedisChannelMessage, RedisListMessage, RedisStreamMessage
from fastapi_stream_redis.wire import DATA_FIELD, MessageFormat, pack
from pydantic import BaseModel

# Python and C calls of one message: made of the reply, decoded, validated, handled, settled. About 15 % above the
# highest count of Python 3.10 to 3.13.
CHANNEL_CALLS = 22
LIST_CALLS = 22
GROUP_CALLS = 29
TASKS = 0.02
FUTURES = 0.02
KEPT = 0.05

BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5}'
DATA = pack(Outgoing("orders", BODY, "c-1", [], "application/json", None, {}, False), MessageFormat.BINARY)


class Order(BaseModel):
    id: int
    name: str
    price: float


async def handle(order: Order) -> None: ...


def check(feed: Feed[int], calls: float) -> None:
    count_work(lambda: feed).check(
        all_calls=calls, tasks=TASKS, futures=FUTURES, log_calls=0, kept_objects=KEPT, kept_blocks=KEPT
    )


def number_of(number: int) -> int:
    return number


def test_a_message_of_a_channel() -> None:
    broker = RedisBroker("redis://localhost", logger=None)
    broker.subscriber("orders")(handle)
    check(Feed(broker, number_of, lambda number: RedisChannelMessage.received(DATA, "orders", None)), CHANNEL_CALLS)


def test_a_message_of_a_list() -> None:
    broker = RedisBroker("redis://localhost", logger=None)
    broker.subscriber(list="orders")(handle)
    check(Feed(broker, number_of, lambda number: RedisListMessage.received(DATA, "orders")), LIST_CALLS)


def test_an_entry_of_a_group() -> None:
    broker = RedisBroker("redis://localhost", logger=None)
    broker.subscriber(stream=StreamSub("orders", group="tea", consumer="one"))(handle)
    unfinished: set[bytes] = set()
    noted: list[bytes] = []

    def received(number: int) -> RedisStreamMessage:
        entry_id = b"1700000000000-%d" % number
        unfinished.add(entry_id)
        return RedisStreamMessage(entry_id, [DATA_FIELD, DATA], "orders", "tea", "one")

    def settled(message: object) -> None:
        assert isinstance(message, RedisStreamMessage)
        unfinished.discard(message.identity)
        noted.append(message.identity)
        if len(noted) >= 100:
            noted.clear()

    check(Feed(broker, number_of, received, settled), GROUP_CALLS)
