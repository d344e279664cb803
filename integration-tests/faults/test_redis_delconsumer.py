"""A consumer that an operator deletes while its process has entries in hand: Redis forgets that they are pending."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import DEADLINE, Inbox
from fastapi_stream_redis import NackMessage, RedisBroker, RedisStreamMessage, StreamSub
from redis.asyncio import Redis

from servers import Server
from waiting import until

LOGGER = logging.getLogger("test.redis.delconsumer")
IDLE = 30_000
SOON = 1_500
"""Milliseconds until an entry may be taken over, of which a third passes between two looks at what is in hand."""


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING, LOGGER.name)
    return lambda: [record.getMessage() for record in caplog.records if "pending for nobody" in record.getMessage()]


async def delete_consumers(redis_client: Redis, name: str) -> int:
    """Delete all consumers, and return how many entries were pending for them."""
    counts = [
        await redis_client.xgroup_delconsumer(name, "g", one["name"])
        for one in await redis_client.xinfo_consumers(name, "g")
    ]
    return sum(counts)


async def pending(redis_client: Redis, name: str) -> int:
    return int((await redis_client.xpending(name, "g"))["pending"])


def reader(server: Server, sub: StreamSub, taken: Inbox) -> RedisBroker:
    broker = RedisBroker(server.url, logger=None)

    @broker.subscriber(stream=sub)
    async def again(body: int, message: RedisStreamMessage) -> None:
        taken.put((body, message.attempt))

    return broker


@pytest.mark.parametrize("idle", [IDLE, None], ids=["claims", "never claims"])
@pytest.mark.parametrize("what", ["waits", "failed", "is cancelled"])
async def test_what_is_not_finished_at_a_stop_is_pending_again(
    redis_server: Server, redis_client: Redis, name: str, lines: Any, what: str, idle: int | None
) -> None:
    """Whether it was begun or not, with the deliveries that it had; what is finished stays finished."""
    begun, go, taken = Inbox(), asyncio.Event(), Inbox()
    sub = StreamSub(name, group="g", consumer="one", claim_min_idle_time=idle)
    timeout = 0.1 if what == "is cancelled" else None
    broker = RedisBroker(redis_server.url, logger=LOGGER, graceful_timeout=timeout)

    @broker.subscriber(stream=sub, max_workers=3 if what == "failed" else 1)
    async def handle(body: int) -> None:
        begun.put(body)
        if body and what == "failed":
            raise NackMessage(3600)
        if body:
            await go.wait()

    async with broker:
        for number in range(4):
            await redis_client.xadd(name, {"__data__": b"%d" % number})
        await begun.take_many(4 if what == "failed" else 2)

        async def is_in_hand() -> bool:
            return await pending(redis_client, name) == 3

        await until(is_in_hand)
        assert await delete_consumers(redis_client, name) == 3
        assert await pending(redis_client, name) == 0
        if what == "waits":
            asyncio.get_running_loop().call_later(0.3, go.set)
    left = {"waits": [2, 3], "failed": [1, 2, 3], "is cancelled": [1, 2, 3]}[what]
    assert await pending(redis_client, name) == len(left)
    async with reader(redis_server, sub, taken):
        handled = dict(await taken.take_many(len(left), DEADLINE))
    assert sorted(handled) == left
    assert handled[3] == (2 if what == "failed" else 1)
    assert len(taken.all) == len(left)
    assert lines()
    assert all("DELCONSUMER" in line for line in lines())


@pytest.mark.parametrize("idle", [IDLE, SOON], ids=["claims late", "claims soon"])
async def test_what_a_stop_has_handed_back_is_pending_again_while_it_waits(
    redis_server: Server, redis_client: Redis, name: str, idle: int
) -> None:
    """The consumer is deleted while a handler still runs; when that has ended nobody would know of the others."""
    begun, go, taken = Inbox(), asyncio.Event(), Inbox()
    sub = StreamSub(name, group="g", consumer="one", claim_min_idle_time=idle)
    broker = RedisBroker(redis_server.url, logger=None)

    @broker.subscriber(stream=sub)
    async def handle(body: int) -> None:
        begun.put(body)
        await go.wait()

    async def deliveries() -> list[int]:
        return [one["times_delivered"] for one in await redis_client.xpending_range(name, "g", "-", "+", 9)]

    async def are_delivered() -> bool:
        return len(await deliveries()) > 1

    async def are_handed_back() -> bool:
        begun, *waiting = await deliveries()
        return begun == 1 and not any(waiting)

    await broker.start()
    for number in range(4):
        await redis_client.xadd(name, {"__data__": b"%d" % number})
    assert await begun.take() == 0
    await until(are_delivered)
    stopping = asyncio.create_task(broker.stop())
    await until(are_handed_back)
    count = await delete_consumers(redis_client, name)
    go.set()
    await stopping
    assert await pending(redis_client, name) == count - 1
    async with reader(redis_server, sub, taken):
        assert sorted(await taken.take_many(3, DEADLINE)) == [(1, 1), (2, 1), (3, 1)]
    assert begun.all == [0]


async def test_what_is_in_hand_is_pending_again_before_a_crash(
    redis_server: Server, redis_client: Redis, name: str, lines: Any
) -> None:
    begun, go = Inbox(), asyncio.Event()
    broker = RedisBroker(redis_server.url, logger=LOGGER)

    @broker.subscriber(stream=StreamSub(name, group="g", claim_min_idle_time=SOON))
    async def handle(body: int) -> None:
        begun.put(body)
        if body:
            await go.wait()

    async with broker:
        for number in range(4):
            await redis_client.xadd(name, {"__data__": b"%d" % number})
        assert await begun.take_many(2) == [0, 1]

        async def are_pending() -> bool:
            return await pending(redis_client, name) == 3

        await until(are_pending)
        assert await delete_consumers(redis_client, name) == 3
        await until(are_pending)
        assert [one["times_delivered"] for one in await redis_client.xpending_range(name, "g", "-", "+", 9)] == [
            1,
            1,
            1,
        ]
        go.set()
        assert await begun.take_many(2) == [2, 3]

        async def is_finished() -> bool:
            return await pending(redis_client, name) == 0

        await until(is_finished)
    assert len(lines()) == 1
    assert begun.all == [0, 1, 2, 3]


async def test_a_consumer_that_is_deleted_with_nothing_in_hand_is_nothing_to_speak_of(
    redis_server: Server, redis_client: Redis, name: str, lines: Any
) -> None:
    begun = Inbox()
    broker = reader(redis_server, StreamSub(name, group="g", claim_min_idle_time=SOON), begun)
    async with broker:
        await redis_client.xadd(name, {"__data__": b"1"})
        assert await begun.take() == (1, 1)

        async def is_finished() -> bool:
            return await pending(redis_client, name) == 0

        await until(is_finished)
        await delete_consumers(redis_client, name)
        await redis_client.xadd(name, {"__data__": b"2"})
        assert await begun.take() == (2, 1)
    assert await pending(redis_client, name) == 0
    assert not lines()
