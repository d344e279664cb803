"""The server is away for longer than all attempts of a message would take."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_redis import RedisBroker, RedisStreamMessage, StreamSub
from redis.asyncio import Redis

from servers import Server

AWAY_SECONDS = 25.0
"""Five runs, each of which gives up publishing after a second, end long before."""


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_no_input_is_acknowledged_without_its_output(redis_server: Server, how: str) -> None:
    name = f"test-{uuid4().hex[:12]}"
    broker, begun = RedisBroker(redis_server.url, logger=None, publish_timeout=1.0, message_format="raw"), Inbox()
    go = asyncio.Event()

    @broker.subscriber(stream=StreamSub(name, group="g"), max_workers=2)
    @broker.publisher(list=f"{name}-out")
    async def handle(body: int, message: RedisStreamMessage) -> int:
        begun.put((body, message.attempt))
        await go.wait()
        return body

    async def outputs() -> list[int]:
        async with Redis.from_url(redis_server.url, protocol=2) as client:
            return sorted({int(one) for one in await client.lrange(f"{name}-out", 0, -1)})  # type: ignore[misc]

    async with broker:
        for number in range(6):
            await broker.publish(number, stream=name)
        await begun.take_many(2)
        await asyncio.to_thread(redis_server.stop if how == "stopped" else redis_server.pause)
        try:
            go.set()
            over = asyncio.Event()
            asyncio.get_running_loop().call_later(AWAY_SECONDS, over.set)
            await over.wait()
            assert not await broker.ping(0.5)
        finally:
            await asyncio.to_thread(redis_server.start if how == "stopped" else redis_server.unpause)
        deadline = asyncio.get_running_loop().time() + 30
        while await outputs() != [0, 1, 2, 3, 4, 5]:
            assert asyncio.get_running_loop().time() < deadline, (await outputs(), begun.all, broker.report.counts)
            tick = asyncio.Event()
            asyncio.get_running_loop().call_later(0.1, tick.set)
            await tick.wait()
        pending: Any = None
        async with Redis.from_url(redis_server.url, protocol=2) as client:
            while pending is None or pending["pending"]:
                assert asyncio.get_running_loop().time() < deadline
                pending = await client.xpending(name, "g")
    assert "rejected" not in broker.report.counts
