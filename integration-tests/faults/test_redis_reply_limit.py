"""A server that ends a connection whose reply is larger than it allows (`client-output-buffer-limit normal`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import DEADLINE, Inbox
from fastapi_stream_redis import ListSub, RedisBroker, StreamSub
from redis.asyncio import Redis

from servers import Server
from waiting import until

COUNT = 300
SIZE = 20_000
MOST_BYTES = 512 * 1024
"""A reply of more ends the connection; 100 entries are 2 MB."""
AT_ONCE = 100


@pytest.fixture(autouse=True)
async def limit(redis_client: Redis) -> AsyncIterator[None]:
    await redis_client.config_set("client-output-buffer-limit", f"normal {MOST_BYTES} 0 0")
    yield
    await redis_client.config_set("client-output-buffer-limit", "normal 0 0 0")


def places(name: str) -> dict[str, dict[str, Any]]:
    return {
        "group": {"stream": StreamSub(name, group="g", last_id="0")},
        "alone": {"stream": StreamSub(name, last_id="0")},
        "list": {"list": ListSub(name), "max_workers": AT_ONCE},
    }


@pytest.mark.parametrize("small", [0, 3000], ids=["all alike", "many small ones too"])
@pytest.mark.parametrize("kind", ["group", "alone", "list"])
async def test_a_backlog_that_no_reply_may_hold_is_read_in_parts(
    redis_server: Server, redis_client: Redis, name: str, kind: str, small: int
) -> None:
    """Of a list at most one read is lost for each size that the server does not allow."""
    broker, seen = RedisBroker(redis_server.url, logger=None), Inbox()

    @broker.subscriber(**places(name)[kind])
    async def handle(body: str) -> None:
        seen.put(int(body[:10]))

    async with redis_client.pipeline(transaction=False) as all_of_them:
        for number in range(COUNT + small):
            body = b"%010d" % number + b"x" * (SIZE if number < COUNT else 0)
            if kind == "list":
                all_of_them.rpush(name, body)
            else:
                all_of_them.xadd(name, {"__data__": body})
        await all_of_them.execute()

    async def is_over() -> bool:
        last = {"list": AT_ONCE + MOST_BYTES // SIZE * 2}.get(kind, 0)
        return len(set(seen.all)) >= COUNT + small - last and (kind != "list" or not await redis_client.llen(name))

    async with broker:
        await until(is_over, DEADLINE)
        if kind == "group":
            await until(lambda: is_acknowledged(redis_client, name), DEADLINE)
    assert len(seen.all) == len(set(seen.all))


async def is_acknowledged(redis_client: Redis, name: str) -> bool:
    return not (await redis_client.xpending(name, "g"))["pending"]
