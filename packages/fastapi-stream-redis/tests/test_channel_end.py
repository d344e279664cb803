"""What a channel loses when its subscription stops is said."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fastapi_stream_redis import PubSub, RedisBroker, StreamMessage

DEADLINE = 20.0


@pytest.mark.parametrize("kind", ["channel", "pattern"])
async def test_messages_that_were_not_started_are_counted_at_the_end(
    wire: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = [b"message", b"c"] if kind == "channel" else [b"pmessage", b"c*", b"c"]
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in (*head, b"x"))
    one = b"*%d\r\n%b" % (len(head) + 1, parts)
    greeting = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    name = "SUBSCRIBE" if kind == "channel" else "PSUBSCRIBE"
    wire.answers[name] = lambda words: bytearray(greeting + one * 300)
    broker = RedisBroker(wire.url)
    started, go = asyncio.Event(), asyncio.Event()

    @broker.subscriber(PubSub("c") if kind == "channel" else PubSub("c*", pattern=True), max_workers=1)
    async def handle(msg: StreamMessage) -> None:
        started.set()
        await go.wait()

    with caplog.at_level(logging.WARNING):
        await broker.start()
        await asyncio.wait_for(started.wait(), DEADLINE)
        ending = asyncio.ensure_future(broker.stop())
        asyncio.get_running_loop().call_later(0.05, go.set)
        await asyncio.wait_for(ending, DEADLINE)
    lines = [record.getMessage() for record in caplog.records if "not handled" in record.getMessage()]
    assert len(lines) == 1, lines
    assert "stopped with 299 messages received and not handled" in lines[0]
