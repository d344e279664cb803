"""What is fetched and not finished is bounded, in messages and in bytes, and so is what waits behind failed ones."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi_stream_core import NackMessage, Retry, StreamMessage
from fastapi_stream_core.prefetch import FIRST, Prefetch
from fastapi_stream_core.testing.conformance import until

from scripted import Message, ScriptedBroker, ScriptedSource

MEGABYTE = 1_000_000


class Large(Message):
    """A message of any size, most of it headers."""

    __slots__ = ("bytes",)

    bytes: int

    @property
    def size(self) -> int:
        return self.bytes


def large(size: int, text: str = "x", lane: Any = None) -> Large:
    made = Large(text.encode(), None, "in", lane)
    made.bytes = size
    return made


def test_a_fetch_begins_small_and_follows_the_size() -> None:
    held: list[Large] = []
    prefetch = Prefetch(10 * MEGABYTE, lambda: sum(one.size for one in held))
    assert prefetch.allow(500) == FIRST
    held += [large(1000)] * FIRST
    prefetch.fetched(held)
    assert prefetch.allow(500) == 500
    held.clear()
    more = [large(4 * MEGABYTE)] * 2
    held += more
    prefetch.fetched(more)
    assert prefetch.allow(500) <= 1
    held.clear()
    assert 1 <= prefetch.allow(500) <= 5


def test_one_message_may_be_larger() -> None:
    held: list[Large] = []
    prefetch = Prefetch(MEGABYTE, lambda: sum(one.size for one in held))
    prefetch.fetched([large(5 * MEGABYTE)])
    assert prefetch.allow(10) == 1
    held.append(large(MEGABYTE - 1))
    assert prefetch.allow(10) == 1, "beside what is smaller than the bound, however large the last ones were"
    held.append(large(5 * MEGABYTE))
    prefetch.fetched(held)
    assert prefetch.allow(10) == 0


def test_a_few_large_messages_among_small_ones_count() -> None:
    prefetch = Prefetch(64 * MEGABYTE, lambda: 0)
    small, big = Message(b"x" * 100, None, "in"), Message(b"x" * MEGABYTE, None, "in")
    for first in range(20):  # wherever they stand
        fetch = [small] * 500
        fetch[first::33] = [big] * len(fetch[first::33])
        prefetch = Prefetch(64 * MEGABYTE, lambda fetch=fetch: sum(one.size for one in fetch))  # type: ignore[misc]
        prefetch.fetched(fetch)
        held, allowed = sum(one.size for one in fetch), prefetch.allow(5000)
        assert held + allowed * held / len(fetch) <= 64 * MEGABYTE


async def test_a_subscription_holds_no_more_bytes_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = ScriptedBroker()
    most = 20 * MEGABYTE
    waiting = deque(large(4 * MEGABYTE, str(number)) for number in range(60))
    held: list[int] = []
    handled: list[bytes] = []
    over = asyncio.Event()

    async def fetch(source: ScriptedSource, limit: int) -> Sequence[StreamMessage]:
        if not waiting:
            await over.wait()
            return []
        return [waiting.popleft() for _ in range(min(limit, len(waiting)))]

    monkeypatch.setattr(ScriptedSource, "fetch", fetch)

    @broker.subscriber("in", prefetch_bytes=most)
    async def handle(body: bytes) -> None:
        held.append(broker.script.sources[0].dispatcher.held_bytes())
        await asyncio.sleep(0)
        handled.append(body)
        if len(handled) == 60:
            over.set()

    async with broker:
        await asyncio.wait_for(over.wait(), 20)
    assert handled == [str(number).encode() for number in range(60)]
    assert max(held) <= FIRST * 4 * MEGABYTE, "the first fetch knows no size"
    assert max(held[2 * FIRST :]) <= most


def failing(broker: ScriptedBroker) -> list[str]:
    """Have the first message of each lane fail once; return what ran."""
    ran: list[str] = []
    subscriber = broker.subscriber("in", max_workers=1)
    subscriber.retry = Retry(delay=0.3, jitter=0.0)

    @subscriber
    async def handle(body: bytes, message: StreamMessage) -> None:
        if body.endswith(b"-0") and message.attempt == 1:
            raise ValueError("once")
        ran.append(body.decode())

    return ran


async def test_what_is_given_back_is_handled_in_its_order() -> None:
    broker = ScriptedBroker({"window": 20})
    broker.script.takes_back = True
    ran = failing(broker)
    async with broker:
        script = broker.script
        script.give(*(f"a-{number}" for number in range(50)), lane="a")
        await until(lambda: script.given_back)
        assert script.sources[0].dispatcher.backlog() <= 1
        await until(lambda: "resume a" in script.log)  # a source that took them gives them again from there
        script.give(*script.given_back[0], lane="a")
        await until(lambda: len(ran) == 50)
    assert ran == [f"a-{number}" for number in range(50)]


async def test_where_the_source_keeps_them_they_take_places() -> None:
    broker = ScriptedBroker({"window": 20})
    ran = failing(broker)
    async with broker:
        script = broker.script
        script.give(*(f"a-{number}" for number in range(36)), lane="a")
        dispatcher = script.sources[0].dispatcher
        await until(lambda: dispatcher.backlog() == 15)
        script.give(*(f"b-{number}" for number in range(1, 4)), lane="b")
        await until(lambda: ran[:3] == ["b-1", "b-2", "b-3"])
        assert max(script.limits[1:]) <= 20
        await until(lambda: len(ran) == 39)
    assert [one for one in ran if one.startswith("a")] == [f"a-{number}" for number in range(36)]


async def test_a_lane_that_waits_does_not_take_the_bytes_of_the_others() -> None:
    broker = ScriptedBroker()
    broker.script.takes_back = True
    ran: list[bytes] = []

    @broker.subscriber("in", prefetch_bytes=5 * MEGABYTE)
    async def handle(body: bytes) -> None:
        if body == b"a-0":
            raise NackMessage(delay=60)
        ran.append(body)

    async with broker:
        script = broker.script
        script.items.put_nowait([large(150_000, f"a-{number}", "a") for number in range(40)])
        await until(lambda: "hold a" in script.log)
        script.items.put_nowait([large(150_000, f"b-{number}", "b") for number in range(3)])
        await until(lambda: b"b-2" in ran)
    assert script.given_back == [[f"a-{number}" for number in range(1, 40)]]
    assert ran == [b"b-0", b"b-1", b"b-2"]


@pytest.mark.parametrize("how", ["nacked", "running"])
async def test_a_large_message_and_an_unfinished_small_one_stop_nobody(how: str) -> None:
    broker = ScriptedBroker()
    ran: list[bytes] = []
    over = asyncio.Event()

    @broker.subscriber("in", prefetch_bytes=MEGABYTE, max_workers=5)
    async def handle(body: bytes) -> None:
        if body == b"a" and how == "nacked":
            raise NackMessage(delay=60)
        if body == b"a":
            await over.wait()
        ran.append(body)

    async with broker:
        script = broker.script
        script.items.put_nowait([large(4, "a", "a")])
        for number in range(3):
            script.items.put_nowait([large(5 * MEGABYTE, f"large {number}", "b")])
        for number in range(50):
            script.items.put_nowait([large(4, f"b-{number}", "b")])
        await until(lambda: len(ran) == 53)
        over.set()
    assert b"a" not in ran[:53]


async def test_bytes_that_no_source_takes_back_wait_for_their_lane() -> None:
    broker = ScriptedBroker()
    ran: list[bytes] = []

    @broker.subscriber("in", prefetch_bytes=5 * MEGABYTE)
    async def handle(body: bytes, message: StreamMessage) -> None:
        if body == b"a-0" and message.attempt == 1:
            raise NackMessage(delay=0.3)
        ran.append(body)

    async with broker:
        script = broker.script
        script.items.put_nowait([large(150_000, f"a-{number}", "a") for number in range(40)])
        await until(lambda: "hold a" in script.log)
        script.items.put_nowait([large(150_000, "b", "b")])
        await until(lambda: b"b" in ran)
    assert ran == [*(f"a-{number}".encode() for number in range(40)), b"b"]
