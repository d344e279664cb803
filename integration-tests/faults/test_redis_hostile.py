"""What others write to a real server fails as a message of its own, if at all."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_redis import PubSub, RedisBroker, RedisMessage, StreamSub
from redis.asyncio import Redis

from servers import Server

MAGIC = b"\x89BIN\r\n\x1a\n"
VALUES = [
    b"", b"\xff\xfe", MAGIC, MAGIC + b"\x00\x01\x00\x00\x00\x12\x00\x00\x00\x12", MAGIC + b"\xff" * 40,
    MAGIC + b"\x00\x01\x00\x00\x00\x12\xff\xff\xff\xff\xff\xff", b'{"data":1,"headers":{}}',
    b'{"data":"x","headers":{"reply_to":[1],"correlation_id":{}}}', b'{"headers":' + b"[" * 10_000,
    b'{"data":"\\ud800","headers":{"a":1e999}}', b"x" * 200_000, b"\x00",
]  # fmt: skip
LAST = b"the last one"


@pytest.mark.parametrize("kind", ["pattern", "list", "stream", "group", "pending"])
async def test_neighbours_are_handled_and_nothing_starts_again(redis_server: Server, kind: str) -> None:
    name = f"test-{uuid4().hex[:12]}"
    broker, seen = RedisBroker(redis_server.url, logger=None), Inbox()
    place: dict[str, Any] = {
        "pattern": {"channel": PubSub(f"{name}.*")},
        "list": {"list": name},
        "stream": {"stream": StreamSub(name, last_id="0")},
    }.get(kind, {"stream": StreamSub(name, group="g", consumer="c", last_id="0")})

    @broker.subscriber(**place)
    async def handle(message: RedisMessage) -> None:
        seen.put((message.body, len(message.headers), message.correlation_id, message.reply_to, message.position))

    async with Redis.from_url(redis_server.url, protocol=2) as client:
        if kind == "pending":
            for number, value in enumerate(VALUES):
                await client.xadd(name, {b"\xff\xfe": value, b"__data__": value}, id=f"{2**64 - 1}-{number}")
            doomed = await client.xadd(name, {b"a": b"b"}, id=f"{2**64 - 1}-500")
            await client.xgroup_create(name, "g", "0")
            await client.xreadgroup("g", "c", {name: ">"})
            await client.xdel(name, doomed)
        async with broker:
            for number, value in enumerate([*VALUES, LAST]):
                if kind == "pattern":
                    await client.publish(b"%b.\xff\n%d" % (name.encode(), number), value)
                elif kind == "list":
                    await client.rpush(name, value)
                else:
                    fields = [{b"__data__": value}, {b"\xff": value}, {b"a": value, b"__data__": b"1", b"": b""}]
                    last = {b"__data__": LAST}
                    entry_id = f"{2**64 - 1}-{number + 1000}"
                    await client.xadd(name, last if value == LAST else fields[number % 3], id=entry_id)
            count = len(VALUES) * (2 if kind == "pending" else 1) + 1
            handled = await seen.take_many(count)
            assert broker.subscribers[0].running
    assert [body for body, *_ in handled][-1] == LAST
    assert "restarted" not in broker.report.counts
    assert "failed" not in broker.report.counts
