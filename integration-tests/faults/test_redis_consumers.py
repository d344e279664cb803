"""Consumers of a group: each process has a name of its own, and leaves none behind."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_redis import RedisBroker, RedisStreamMessage, StreamSub
from fastapi_stream_redis.consumer import own_name
from redis.asyncio import Redis

from servers import Server
from waiting import until


def worker(server: Server, seen: Inbox, sub: StreamSub, go: asyncio.Event | None = None, **options: Any) -> RedisBroker:
    broker = RedisBroker(server.url, **{"logger": None, **options})

    @broker.subscriber(stream=sub)
    async def handle(body: int, message: RedisStreamMessage) -> None:
        seen.put((body, message.consumer))
        if go is not None:
            await go.wait()

    return broker


async def names(redis_client: Redis, stream: str) -> list[str]:
    return [one["name"].decode() for one in await redis_client.xinfo_consumers(stream, "g")]


async def test_names_are_unique_and_gone_after_a_clean_stop(
    redis_server: Server, redis_client: Redis, name: str
) -> None:
    seen, sub = Inbox(), StreamSub(name, group="g")
    first, second = worker(redis_server, seen, sub), worker(redis_server, seen, sub)
    async with first, second:
        for number in range(40):
            await first.publish(number, stream=name)
        handled = await seen.take_many(40)
        assert sorted(body for body, _ in handled) == list(range(40))
        assert len(set(await names(redis_client, name))) == 2
    assert await names(redis_client, name) == []


async def test_a_consumer_that_leaves_work_behind_stays_until_it_is_done(
    redis_server: Server, redis_client: Redis, name: str
) -> None:
    seen, go = Inbox(), asyncio.Event()
    sub = StreamSub(name, group="g", claim_min_idle_time=500)
    async with worker(redis_server, seen, sub, go, graceful_timeout=0.1) as broker:
        await broker.publish(1, stream=name)
        body, dead = await seen.take()
    assert await names(redis_client, name) == [dead], "its entry was cancelled, so it is pending"
    async with worker(redis_server, seen, sub):
        body, alive = await seen.take()
        assert (body, alive != dead) == (1, True)
    assert await names(redis_client, name) == [dead]


@pytest.mark.parametrize("pending", [0, 1])
async def test_what_crashes_left_is_deleted_when_it_has_nothing_pending(
    redis_server: Server, redis_client: Redis, name: str, pending: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_stream_redis.consumer.LEFTOVER_MILLISECONDS", 100)
    crashed, named = own_name(), "a-name-of-the-user"
    await redis_client.xgroup_create(name, "g", "0", mkstream=True)
    for one in (crashed, named):
        await redis_client.xgroup_createconsumer(name, "g", one)
    if pending:
        await redis_client.xadd(name, {"__data__": b"1"})
        await redis_client.xreadgroup("g", crashed, {name: ">"})

    async def is_idle() -> bool:
        return all(one["idle"] > 100 for one in await redis_client.xinfo_consumers(name, "g"))

    await until(is_idle)
    async with worker(redis_server, Inbox(), StreamSub(name, group="g")):
        left = await names(redis_client, name)
        assert named in left
        assert (crashed in left) is bool(pending)


async def test_a_second_process_with_a_fixed_name_runs_nothing_twice(
    redis_server: Server, redis_client: Redis, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await redis_client.xgroup_create(name, "g", "0", mkstream=True)
    for number in range(20):
        await redis_client.xadd(name, {"__data__": b"%d" % number})
    await redis_client.xreadgroup("g", "host", {name: ">"})
    seen, sub = Inbox(), StreamSub(name, group="g", consumer="host")
    logger = logging.getLogger("test.redis.consumers")
    brokers = [worker(redis_server, seen, sub, logger=logger, log_level=logging.DEBUG) for _ in range(3)]
    with caplog.at_level(logging.WARNING, "test.redis.consumers"):
        await asyncio.gather(*(broker.start() for broker in brokers))
    try:
        handled = await seen.take_many(20)
        await brokers[0].publish(99, stream=name)
        handled.append(await seen.take())
        assert sorted(body for body, _ in handled) == [*range(20), 99]
    finally:
        await asyncio.gather(*(broker.stop() for broker in brokers))
    assert sum("runs already" in record.getMessage() for record in caplog.records) == 2
    assert await names(redis_client, name) == ["host"]


async def test_a_fixed_name_goes_on_after_its_connection_was_lost(
    redis_server: Server, redis_client: Redis, name: str
) -> None:
    seen, sub = Inbox(), StreamSub(name, group="g", consumer="host")
    async with worker(redis_server, seen, sub, client_name=name) as broker:
        await broker.publish(1, stream=name)
        assert await seen.take() == (1, "host")
        for one in await redis_client.client_list():
            if one["name"] == name:
                await redis_client.client_kill_filter(_id=one["id"])
        await broker.publish(2, stream=name)
        assert await seen.take() == (2, "host")
