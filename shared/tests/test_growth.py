"""Memory stays where it is: over 200,000 messages, over 10,000 polls that find nothing, over many test brokers."""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import sys
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fastapi_stream_core import Retry, StreamMessage
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.feed import Feed, FeedSource, PartitionFeed
from fastapi_stream_core.testing.reference import LocalBroker, LocalMessage, LocalRouter, TestLocalBroker
from pydantic import BaseModel

MESSAGES = 200_000
CHUNK = 20_000
WARM = 2 * CHUNK
LOOKS = range(WARM, MESSAGES, 2 * CHUNK)
POLLS = 10_000
TEST_BROKERS = 20

# One object kept for a thousand messages would be 160 after the warm-up.
OBJECTS = 100
# Of any kind, also what the garbage collector does not see.
BLOCKS = 200
RESIDENT_BYTES = 4_000_000


class Order(BaseModel):
    number: int
    name: str
    tags: list[str]


class Memory:
    """What is in use, when everything that was begun is over."""

    def __init__(self) -> None:
        gc.collect()
        self.objects = len(gc.get_objects())
        self.blocks = sys.getallocatedblocks()
        self.resident = 0
        if sys.platform == "linux":
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.resident = pages * os.sysconf("SC_PAGE_SIZE")

    def check(self, *before: Memory) -> None:
        """Check the growth: what leaks grows between any two, what the allocator takes does not."""
        resident = [*(one.resident for one in before), self.resident]
        steps = [later - earlier for earlier, later in pairwise(resident)]
        grown = {
            "objects": (self.objects - before[0].objects, OBJECTS),
            "blocks of memory": (self.blocks - before[0].blocks, BLOCKS),
            "resident bytes": (len(steps) * min(steps), RESIDENT_BYTES),
        }
        assert all(more <= limit for more, limit in grown.values()), f"more than before, and the limit: {grown}"


def record(number: int) -> Outgoing:
    body = b'{"number": %d, "name": "a pound of tea", "tags": ["green", "loose"]}' % number
    return Outgoing("orders", body, "c-1", [("x-offset", str(number))], "application/json", None, {}, False)


def message(outgoing: Outgoing) -> LocalMessage:
    return LocalMessage(outgoing.body, outgoing, outgoing.address, lane=("orders", 0))


def offset(message: StreamMessage) -> int:
    return int(message.headers["x-offset"])


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_two_hundred_thousand_messages_some_of_which_fail() -> None:
    broker = LocalBroker(logger=None)
    subscriber = broker.subscriber("orders")
    subscriber.retry = Retry(delay=0.001)
    failed = handled = 0

    @subscriber
    async def handle(order: Order, message: StreamMessage) -> None:
        nonlocal failed, handled
        if order.number % 1000 == 7 and message.attempt == 1:
            failed += 1
            raise RuntimeError("once")
        handled += 1

    async with PartitionFeed(broker, record, message, ("orders", 0), offset) as feed:
        seen: list[Memory] = []
        for done in range(0, MESSAGES, CHUNK):
            if done in LOOKS:
                seen.append(Memory())
            feed.prepare(CHUNK)
            await feed.run()
            await settled()
        Memory().check(*seen)
        assert feed.commits < MESSAGES / 1000, "commits are coalesced"
    assert (handled, failed) == (MESSAGES, MESSAGES // 1000)
    assert feed.committed == MESSAGES
    assert not hasattr(handle, "mock"), "nobody records calls where there is no test broker"


async def test_messages_that_are_published_rejected_and_delivered_again_by_the_broker() -> None:
    broker = LocalBroker(logger=None)

    @broker.subscriber("orders", max_workers=10)
    @broker.publisher("out")
    async def handle(order: Order, message: StreamMessage) -> Order:
        if order.number % 10 == 7 and message.attempt == 1:
            raise RuntimeError("once")
        return order

    def some_are_broken(number: int) -> Outgoing:
        made = record(number)
        return made if number % 10 else Outgoing("orders", b"{", "c-1", [], "application/json", None, {}, False)

    async with Feed(broker, some_are_broken, message, redelivers=True) as feed:
        seen: list[Memory] = []
        for number in range(10):
            feed.prepare(1000)
            await feed.run()
            await settled()
            if number % 2:
                seen.append(Memory())
        Memory().check(*seen[:-1])
    assert (feed.settled, feed.published) == (10_000, 9000)


# Polls -------------------------------------------------------------------------------------------------------------


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop on whose clock nothing takes time: when all wait for a timer, it is the time of that timer."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(SkippingSelector(self))

    def time(self) -> float:
        return self.now


class SkippingSelector(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None:
            self.loop.now += timeout
            timeout = 0
        return super().select(timeout)


class IdleSource(FeedSource[Any]):
    """Comes back with nothing, after a while or at once, as clients do."""

    polls = 0

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        self.polls += 1
        feed = self._feed
        assert isinstance(feed, IdleFeed)
        if self.polls == feed.until:
            feed.reached.set()
        await asyncio.sleep(feed.seconds)
        return ()


class IdleFeed(Feed[Outgoing]):
    def __init__(self, broker: LocalBroker, seconds: float) -> None:
        super().__init__(broker, record, message)
        self.seconds = seconds
        self.until = 0
        self.reached = asyncio.Event()

    def source(self, subscription: Any) -> FeedSource[Outgoing]:
        self.idle = IdleSource(subscription, self)
        return self.idle

    async def polled(self, count: int) -> None:
        self.reached.clear()
        self.until = self.idle.polls + count
        await self.reached.wait()


def on_the_skipping_loop(work: Callable[[], Awaitable[None]]) -> None:
    loop = SkippingLoop()

    async def main() -> None:
        await work()

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_ten_thousand_polls_that_find_nothing(seconds: float) -> None:
    broker = LocalBroker(logger=None)

    @broker.subscriber("orders")
    async def handle(order: Order) -> None: ...

    async def polls() -> None:
        async with IdleFeed(broker, seconds) as feed:
            await feed.polled(POLLS // 10)
            before = Memory()
            await feed.polled(POLLS // 2)
            halfway = Memory()
            await feed.polled(POLLS // 2)
            Memory().check(before, halfway)

    on_the_skipping_loop(polls)


# Test brokers ------------------------------------------------------------------------------------------------------


async def test_a_test_broker_gives_everything_back() -> None:
    router = LocalRouter(logger=None)

    @router.subscriber("orders")
    @router.publisher("out")
    async def handle(order: Order) -> Order:
        return order

    seen: dict[int, Memory] = {}
    for number in range(TEST_BROKERS):
        async with TestLocalBroker(router.broker) as broker:
            for _ in range(100):
                await broker.publish(Order(number=number, name="tea", tags=[]), "orders")
            assert handle.mock.call_count == 100
        handle.mock.reset_mock()
        if number in (0, TEST_BROKERS // 2):
            seen[number] = Memory()
    Memory().check(seen[0], seen[TEST_BROKERS // 2])
