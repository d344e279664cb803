"""A server without memory, or with a lower limit for one value, than ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_redis import BrokerUnavailable, ListSub, PublishError, RedisBroker, SASLPlaintext, StreamSub
from redis.asyncio import Redis

from servers import Server

DEADLINE = 30.0
FULL_SECONDS = 5.0
"""Time for several runs of a handler whose result waits a second for room."""


@asynccontextmanager
async def configured(client: Redis, name: str, value: str) -> AsyncIterator[None]:
    before = (await client.config_get(name))[name]
    await client.config_set(name, value)
    try:
        yield
    finally:
        await client.config_set(name, before)


async def tick() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, event.set)
    await event.wait()


async def test_a_server_without_memory_costs_no_message(redis_server: Server) -> None:
    name = f"test-{uuid4().hex[:12]}"
    broker, begun = RedisBroker(redis_server.url, logger=None, publish_timeout=1.0, message_format="raw"), Inbox()
    go = asyncio.Event()

    @broker.subscriber(stream=StreamSub(name, group="g"), max_workers=1)
    @broker.publisher(list=f"{name}-out")
    async def handle(body: int) -> int:
        begun.put(body)
        await go.wait()
        return body

    async with broker, Redis.from_url(redis_server.url, protocol=2) as client:
        loop = asyncio.get_running_loop()
        for number in range(3):
            await broker.publish(number, stream=name)
        await begun.take()
        async with configured(client, "maxmemory", "1"):
            go.set()
            deadline = loop.time() + DEADLINE
            while not broker.report.counts.get("paused"):
                assert loop.time() < deadline
                await tick()
            end = loop.time() + FULL_SECONDS
            while loop.time() < end:
                await tick()
            assert begun.all == [0]  # another run would be in vain
            with pytest.raises(BrokerUnavailable, match="maxmemory"):
                await broker.publish(9, list=f"{name}-out")
        deadline = loop.time() + DEADLINE
        pending: Any = None
        while pending is None or pending["pending"]:
            assert loop.time() < deadline, (pending, broker.report.counts)
            await tick()
            pending = await client.xpending(name, "g")
        outputs = [int(one) for one in await client.lrange(f"{name}-out", 0, -1)]  # type: ignore[misc]
        # The last try of what was given up may still have been on its way when there was room again.
        assert [one for one in outputs if one != 9] == [0, 1, 2]
    assert "failed" not in broker.report.counts


@pytest.mark.parametrize("neighbours", [0, 20])
async def test_a_value_that_is_too_long_for_the_server_fails_alone(redis_server: Server, neighbours: int) -> None:
    name = f"test-{uuid4().hex[:12]}"
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        async with (
            configured(client, "proto-max-bulk-len", "1mb"),
            RedisBroker(redis_server.url, logger=None, publish_timeout=60.0) as broker,
        ):
            values = [b"x"] * neighbours
            values.insert(neighbours // 2, b"x" * 3_000_000)
            results = await asyncio.wait_for(
                asyncio.gather(*(broker.publish(one, list=name) for one in values), return_exceptions=True), DEADLINE
            )
        assert [isinstance(one, PublishError) for one in results] == [len(one) > 1 for one in values]
        assert await client.llen(name) >= neighbours  # type: ignore[misc]
        await client.delete(name)


@pytest.mark.parametrize("may_script", [True, False], ids=["scripts", "no scripts"])
async def test_items_of_a_list_go_back_to_a_server_that_stays_full(
    redis_server: Server, may_script: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In the order they had, unless the user may run no script: then it is said what is gone."""
    name, logger = f"test-{uuid4().hex[:12]}", logging.getLogger("test.redis.full")
    rules = ["on", ">sesame", "allkeys", "allchannels", "+@all", *([] if may_script else ["-@scripting"])]
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        await client.execute_command("ACL", "SETUSER", name, *rules)
        broker = RedisBroker(
            redis_server.url, logger=logger, publish_timeout=0.2, message_format="raw",
            security=SASLPlaintext(name, "sesame"),
        )  # fmt: skip
        begun, go = Inbox(), asyncio.Event()

        @broker.subscriber(list=ListSub(name, batch=True, max_records=3))
        async def handle(bodies: list[int]) -> None:
            begun.put(bodies)
            await go.wait()
            await broker.publish(bodies[0], list=f"{name}-out")

        await client.rpush(name, 1, 2, 3, 4)  # type: ignore[misc]
        caplog.set_level(logging.WARNING, logger.name)
        try:
            async with configured(client, "maxmemory", "1"):
                async with broker:
                    assert await begun.take(DEADLINE) == [1, 2, 3]
                    go.set()
                    while not broker.report.counts.get("paused"):
                        await tick()
                assert bool(await client.lrange(name, 0, -1) == [b"1", b"2", b"3", b"4"]) is may_script  # type: ignore[misc]
        finally:
            await client.execute_command("ACL", "DELUSER", name)
            await client.delete(name)
    gone = [record.getMessage() for record in caplog.records if "are gone" in record.getMessage()]
    assert len(gone) == (not may_script)
    assert all("3 items" in one and "maxmemory" in one for one in gone)
