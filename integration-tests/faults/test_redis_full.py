"""A server without memory, or with a lower limit for one value, than ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_redis import BrokerUnavailable, PublishError, RedisBroker, StreamSub
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
        assert [int(one) for one in await client.lrange(f"{name}-out", 0, -1)] == [0, 1, 2]  # type: ignore[misc]
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
