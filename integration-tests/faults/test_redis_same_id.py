"""A stream that is made again, with the same ids and other contents, while its entries are in hand."""

from __future__ import annotations

import asyncio

import pytest
from fastapi_stream_core.testing.conformance import DEADLINE, Inbox
from fastapi_stream_redis import NackMessage, RedisBroker, StreamSub
from redis.asyncio import Redis

from servers import Server
from waiting import until

OLD, NEW = list(range(4)), list(range(10, 16))


async def remake(redis_client: Redis, name: str, kind: str, bodies: list[int]) -> None:
    """Delete the stream, and make it again with its group, in one step."""
    async with redis_client.pipeline() as both:
        both.delete(name)
        if kind == "group":
            both.xgroup_create(name, "g", "0", mkstream=True)
        for number, body in enumerate(bodies, 1):
            both.xadd(name, {"__data__": b"%d" % body}, id=f"{number}-0")
        await both.execute()


@pytest.mark.parametrize("how", ["runs", "fails", "waits for its time"])
@pytest.mark.parametrize("kind", ["group", "alone"])
async def test_other_contents_with_the_ids_of_what_is_in_hand_are_handled(
    redis_server: Server, redis_client: Redis, name: str, kind: str, how: str
) -> None:
    """All of them, and they are pending until they are: the end of the old ones settles none."""
    begun, ended, old, new = Inbox(), Inbox(), asyncio.Event(), asyncio.Event()
    broker = RedisBroker(redis_server.url, logger=None)

    @broker.subscriber(stream=StreamSub(name, group="g" if kind == "group" else None, last_id="0"), max_workers=20)
    async def handle(body: int) -> None:
        begun.put(body)
        if body in OLD:
            if how == "waits for its time":
                raise NackMessage(3600)
            await old.wait()
            ended.put(body)
            if how == "fails":
                raise NackMessage(3600)
        else:
            await new.wait()

    async def pending() -> int:
        (group,) = await redis_client.xinfo_groups(name)
        return int(group["pending"])

    await remake(redis_client, name, kind, OLD)
    async with broker:
        assert sorted(await begun.take_many(len(OLD), DEADLINE)) == OLD
        await remake(redis_client, name, kind, NEW)
        assert sorted(await begun.take_many(len(NEW), DEADLINE)) == NEW
        old.set()
        if how != "waits for its time":
            await ended.take_many(len(OLD), DEADLINE)
        if how == "runs":
            await until(lambda: kind == "alone" or broker.report.counts.get("late") == len(OLD))
        if kind == "group":
            assert await pending() == len(NEW)
        new.set()

        async def is_settled() -> bool:
            return kind == "alone" or await pending() == 0

        await until(is_settled)
    assert len(begun.all) == len(OLD) + len(NEW)
