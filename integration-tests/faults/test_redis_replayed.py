"""Entries that were handled and acknowledged, and are delivered once more, because somebody wants that."""

from __future__ import annotations

import pytest
from fastapi_stream_core.testing.conformance import DEADLINE, Inbox
from fastapi_stream_redis import RedisBroker, StreamSub
from redis.asyncio import Redis

from servers import Server
from waiting import until

COUNT = 20
BODIES = list(range(COUNT))


@pytest.mark.parametrize("idle", [300, 1000])
@pytest.mark.parametrize("how", ["set back", "made again"])
async def test_what_is_delivered_anew_to_a_consumer_that_dies_is_handled_by_another(
    redis_server: Server, redis_client: Redis, name: str, how: str, idle: int
) -> None:
    """Also by one that handled the entries of these ids before; and again when the group is set back once more."""
    broker, seen = RedisBroker(redis_server.url, logger=None), Inbox()

    @broker.subscriber(stream=StreamSub(name, group="g", claim_min_idle_time=idle))
    async def handle(body: int) -> None:
        seen.put(body)

    async def is_acknowledged() -> bool:
        (group,) = await redis_client.xinfo_groups(name)
        return group["pending"] == 0 and group["last-delivered-id"] == b"%d-0" % COUNT

    async def add(client: Redis) -> None:
        for number in BODIES:
            await client.xadd(name, {"__data__": b"%d" % number}, id=f"{number + 1}-0")

    async with broker:
        await add(redis_client)
        assert await seen.take_many(COUNT, DEADLINE) == BODIES
        await until(is_acknowledged)
        async with redis_client.pipeline() as both:
            if how == "set back":
                both.xgroup_setid(name, "g", "0")
            else:
                both.delete(name)
                await add(both)
                both.xgroup_create(name, "g", "0")
            both.xreadgroup("g", "other", {name: ">"}, count=COUNT)
            await both.execute()
        assert sorted(await seen.take_many(COUNT, DEADLINE)) == BODIES
        await until(is_acknowledged)
        await redis_client.xgroup_setid(name, "g", "0")
        assert await seen.take_many(COUNT, DEADLINE) == BODIES
        await until(is_acknowledged)
    assert len(seen.all) == 3 * COUNT
