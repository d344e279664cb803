"""What a message costs on the production path, in calls, tasks, futures and memory: figures that no machine changes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, Header
from fastapi_stream_core import Headers, Logger, StreamMessage
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.reference import LocalBroker
from fastapi_stream_core.testing.work import TooMuchWork, Work, count_work
from pydantic import BaseModel

# Python and C calls of one message: taken from the source, decoded, bound, handled, acknowledged. Each limit is about
# 15 % above the highest count of Python 3.10 to 3.13.
# A context of its own costs three calls, and one more for each publication and each wait.
MODEL_CALLS = 17.5
SCALAR_CALLS = 22
FULL_CALLS = 53
PUBLISHER_CALLS = 55
SYNC_CALLS = 36  # a hop to a thread and back for a hundred messages
BATCH_CALLS = 14.5
INVALID_CALLS = 90

# A worker and a fetch for each chunk of messages make a few; one for each message would be 1.
TASKS = 0.02
FUTURES = 0.02
# A hop is one future; a hop for each message would be 1. The thread itself is not looked at.
SYNC_FUTURES = 0.02
# Nothing is kept for a message: what is left of 1,000 messages is a cache, a timer, a counter.
KEPT = 0.05
# With its level off a log line is the question whether it is on, and nothing else.
LOG_CALLS = 0


class Order(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]


BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5, "tags": ["green", "loose"]}'


class PlainMessage(StreamMessage):
    """Has at hand what every message is asked for, so that the core's work is counted and not that of a client."""

    __slots__ = ("content_type", "reply_to")

    content_type: str
    reply_to: None

    def __init__(self, body: bytes, content_type: str) -> None:
        super().__init__(body, None, "orders", "orders")
        self.content_type = content_type
        self.reply_to = None

    def read_headers(self) -> Headers:
        return Headers([("x-tenant", "acme")])


async def settings() -> int:
    return 1


async def session() -> AsyncIterator[int]:
    yield 2


def feed(
    handler: Callable[..., Any], body: bytes = BODY, publish: bool = False, **options: Any
) -> Callable[[], Feed[Any]]:
    """Return what makes a feed of one handler with messages of one body."""
    broker = LocalBroker(logger=None)
    if publish:
        handler = broker.publisher("out")(handler)
    broker.subscriber("orders", **options)(handler)
    content_type = "application/json" if body[:1] in b"{[" else "text/plain"

    def record(number: int) -> tuple[bytes, str]:
        return body, content_type

    def message(record: tuple[bytes, str]) -> PlainMessage:
        return PlainMessage(*record)

    return lambda: Feed(broker, record, message)


def hold(work: Work, calls: float, tasks: float = TASKS, futures: float = FUTURES) -> None:
    work.check(all_calls=calls, tasks=tasks, futures=futures, log_calls=LOG_CALLS, kept_objects=KEPT, kept_blocks=KEPT)


def test_a_model() -> None:
    async def handle(order: Order) -> None: ...

    hold(count_work(feed(handle)), MODEL_CALLS)


def test_a_scalar() -> None:
    async def handle(text: str) -> None: ...

    hold(count_work(feed(handle, b"a pound of tea")), SCALAR_CALLS)


def test_dependencies_a_header_and_the_logger() -> None:
    async def handle(
        order: Order,
        logger: Logger,
        one: Annotated[int, Depends(settings)],
        two: Annotated[int, Depends(session)],
        x_tenant: Annotated[str, Header()],
    ) -> None: ...

    hold(count_work(feed(handle)), FULL_CALLS)


def test_a_publisher() -> None:
    async def handle(order: Order) -> Order:
        return order

    hold(count_work(feed(handle, publish=True)), PUBLISHER_CALLS)


def test_a_sync_handler() -> None:
    def handle(order: Order) -> None: ...

    hold(count_work(feed(handle)), SYNC_CALLS, futures=SYNC_FUTURES)


def test_a_batch_of_100() -> None:
    async def handle(orders: list[Order]) -> None: ...

    hold(count_work(feed(handle, batch=True)), BATCH_CALLS)


def test_an_invalid_message() -> None:
    async def handle(order: Order) -> None:
        raise AssertionError("it must not be called")

    hold(count_work(feed(handle, b'{"id": "x"}')), INVALID_CALLS)


# The guard itself --------------------------------------------------------------------------------------------------


def test_a_task_for_each_message_is_too_much() -> None:
    async def rest() -> None: ...

    async def handle(order: Order) -> None:
        await asyncio.create_task(rest())

    with pytest.raises(TooMuchWork, match=r"tasks 1[ .].*at most 0\.02") as caught:
        count_work(feed(handle)).check(tasks=TASKS)
    assert "rest (" in str(caught.value), "the functions are named"


def test_ten_more_calls_are_too_much() -> None:
    def more() -> None: ...

    async def handle(order: Order) -> None:
        for _ in range(10):
            more()

    work = count_work(feed(handle))
    with pytest.raises(TooMuchWork, match=r"all_calls") as caught:
        hold(work, MODEL_CALLS)
    assert "10.00  more (" in str(caught.value)


def test_what_is_kept_is_too_much() -> None:
    kept: list[object] = []

    async def handle(order: Order) -> None:
        kept.append(order)

    with pytest.raises(TooMuchWork, match="kept_objects"):
        count_work(feed(handle)).check(kept_objects=KEPT)


def test_a_log_line_is_too_much() -> None:
    async def handle(order: Order, logger: Logger) -> None:
        logger.info("an order")

    with pytest.raises(TooMuchWork, match="log_calls"):
        count_work(feed(handle)).check(log_calls=LOG_CALLS)
