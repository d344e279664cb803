"""Entries of a stream in hand while the connection that brought them, or their group, goes."""

from __future__ import annotations

import asyncio

import pytest
from fastapi_stream_core import Status
from fastapi_stream_core.testing.conformance import DEADLINE, Inbox
from fastapi_stream_redis import NackMessage, RedisBroker, RedisStreamMessage, StreamSub
from redis.asyncio import Redis

from servers import Server
from waiting import until

KINDS = ["alone", "group"]
LATER_SECONDS = 5.0


def target(name: str, kind: str) -> StreamSub:
    return StreamSub(name, group="g" if kind == "group" else None)


async def cut(redis_client: Redis, name: str) -> None:
    """End the connections of one broker, and return when its reader has another one that reads what is new."""
    before = {one["id"] for one in await redis_client.client_list() if one["name"] == name}
    for one in before:
        await redis_client.client_kill_filter(_id=one)

    async def reads_again() -> bool:
        clients = [one for one in await redis_client.client_list() if one["name"] == name and one["id"] not in before]
        return any(one["cmd"] in ("xread", "xreadgroup") and "b" in one["flags"] for one in clients)

    await until(reads_again)


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "succeeds"])
@pytest.mark.parametrize("cuts", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_runs_while_the_connection_is_lost_has_no_second_run_beside_it(
    redis_server: Server, redis_client: Redis, name: str, kind: str, cuts: int, fails: bool
) -> None:
    begun, release = Inbox(), asyncio.Event()
    broker = RedisBroker(redis_server.url, logger=None, client_name=name)
    running, most = 0, 0

    @broker.subscriber(stream=target(name, kind), max_workers=5)
    async def handle(body: int, message: RedisStreamMessage) -> None:
        nonlocal running, most
        running += body == 0
        most = max(most, running)
        begun.put((body, message.attempt))
        try:
            await release.wait()
            if fails and body == 0 and message.attempt == 1:
                raise RuntimeError("once")
            over = asyncio.Event()  # time for another run beside this one
            asyncio.get_running_loop().call_later(1.0, over.set)
            await over.wait()
        finally:
            running -= body == 0

    async with broker:
        await broker.publish(0, stream=name)
        assert await begun.take() == (0, 1)
        for _ in range(cuts):
            await cut(redis_client, name)
        release.set()
        if fails:
            assert await begun.take(DEADLINE) == (0, 2)
        await broker.publish(1, stream=name)
        assert await begun.take(DEADLINE) == (1, 1)
    assert most == 1
    assert len(begun.all) == 2 + fails


@pytest.mark.parametrize(("kind", "workers"), [("alone", 1), ("group", 4)])
async def test_lost_connections_are_no_deliveries(
    redis_server: Server, redis_client: Redis, name: str, kind: str, workers: int
) -> None:
    """Neither for what runs nor for what waits for a worker."""
    begun, release = Inbox(), asyncio.Event()
    broker = RedisBroker(redis_server.url, logger=None, client_name=name)

    @broker.subscriber(stream=target(name, kind), max_workers=workers)
    async def handle(body: int, message: RedisStreamMessage) -> None:
        begun.put((body, message.attempt))
        await release.wait()

    async with broker:
        for number in range(3):
            await broker.publish(number, stream=name)
        assert await begun.take() == (0, 1)
        for _ in range(6):
            await cut(redis_client, name)
        release.set()
        assert sorted(await begun.take_many(2, DEADLINE)) == [(1, 1), (2, 1)]
        await broker.publish(9, stream=name)
        assert await begun.take() == (9, 1)
    assert len(begun.all) == 4


async def test_redis_knows_the_deliveries_after_lost_connections(
    redis_server: Server, redis_client: Redis, name: str
) -> None:
    begun, release = Inbox(), asyncio.Event()
    broker = RedisBroker(redis_server.url, logger=None, client_name=name)

    @broker.subscriber(stream=target(name, "group"), max_workers=4)
    async def handle(body: int) -> None:
        begun.put(body)
        await release.wait()

    async with broker:
        for number in range(2):
            await broker.publish(number, stream=name)
        assert await begun.take() == 0
        for _ in range(4):
            await cut(redis_client, name)
        pending = await redis_client.xpending_range(name, "g", "-", "+", 10)
        assert [one["times_delivered"] for one in pending] == [1, 1]
        release.set()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lost_connection_shortens_no_delay(
    redis_server: Server, redis_client: Redis, name: str, kind: str
) -> None:
    begun = Inbox()
    broker = RedisBroker(redis_server.url, logger=None, client_name=name)
    moment = asyncio.get_running_loop().time

    @broker.subscriber(stream=target(name, kind))
    async def handle(body: int, message: RedisStreamMessage) -> None:
        begun.put((message.attempt, moment()))
        if message.attempt == 1:
            raise NackMessage(LATER_SECONDS)

    async with broker:
        await broker.publish(0, stream=name)
        attempt, first = await begun.take()
        assert attempt == 1
        await cut(redis_client, name)
        await cut(redis_client, name)
        attempt, second = await begun.take(DEADLINE)
    assert attempt == 2
    assert LATER_SECONDS <= second - first < LATER_SECONDS + 3


@pytest.mark.parametrize("fails", ["before", "after", "while stopping"])
async def test_what_waits_for_its_time_is_handed_back_at_a_stop(
    redis_server: Server, redis_client: Redis, name: str, fails: str
) -> None:
    """Also after the connection that brought it was lost, before or while it ran: the next consumer does not wait."""
    begun, failed, failing = Inbox(), Inbox(), asyncio.Event()
    sub = StreamSub(name, group="g", claim_min_idle_time=30_000)
    first = RedisBroker(redis_server.url, logger=None, client_name=name)
    second = RedisBroker(redis_server.url, logger=None)

    @first.subscriber(stream=sub, max_workers=2)
    async def fail(body: int) -> None:
        begun.put(body)
        await failing.wait()
        if fails == "while stopping":
            await first.stop()
            await until(lambda: first.subscribers[0].status is Status.STOPPED)
        failed.put(body)
        raise NackMessage(3600)

    @second.subscriber(stream=sub)
    async def handle(body: int, message: RedisStreamMessage) -> None:
        begun.put((body, message.attempt))

    if fails == "before":
        failing.set()
    async with first:
        await first.publish(0, stream=name)
        assert await begun.take() == 0
        await cut(redis_client, name)
        failing.set()
        assert await failed.take() == 0
    async with second:
        assert await begun.take() == (0, 2)


@pytest.mark.parametrize("others", [0, 1])
async def test_a_group_that_was_destroyed_knows_again_what_is_open(
    redis_server: Server, redis_client: Redis, name: str, others: int
) -> None:
    """What failed and waits is pending again, also of a consumer that finds the group made anew by another one.

    What is finished is not run again; what one consumer had and the other had not read yet may be.
    """
    begun, failed, left = Inbox(), Inbox(), set(range(1, 10, 2))
    sub = StreamSub(name, group="g", claim_min_idle_time=30_000)
    brokers = [RedisBroker(redis_server.url, logger=None) for _ in range(1 + others)]
    for broker in brokers:

        @broker.subscriber(stream=sub, max_workers=3)
        async def handle(body: int) -> None:
            begun.put(body)
            if body % 2:
                failed.put(body)
                raise NackMessage(3600)

    last, taken = RedisBroker(redis_server.url, logger=None), Inbox()

    @last.subscriber(stream=sub)
    async def again(body: int, message: RedisStreamMessage) -> None:
        taken.put((body, message.attempt))

    for broker in brokers:
        await broker.start()
    for number in range(10):
        await redis_client.xadd(name, {"__data__": b"%d" % number})
    await begun.take_many(10)
    await failed.take_many(5)
    await redis_client.xgroup_destroy(name, "g")

    async def is_known() -> bool:
        groups = await redis_client.xinfo_groups(name)
        return bool(groups) and groups[0]["pending"] >= 5

    await until(is_known)
    await redis_client.xadd(name, {"__data__": b"100"})
    while await begun.take(DEADLINE) != 100:
        assert others
    for broker in brokers:
        await broker.stop()
    async with last:
        while left:
            body, attempt = await taken.take(DEADLINE)
            left.discard(body)
            assert body % 2
            assert attempt == 2 or others
    if not others:
        assert len(begun.all) == 11
        assert len(taken.all) == 5
