"""What is lost at a stop because nothing is acknowledged is said."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fastapi_stream_nats import JStream, NatsBroker
from nats.js import JetStreamContext
from nats.js.api import AckPolicy as ConsumerAckPolicy
from nats.js.api import ConsumerConfig

COUNT = 20
DEADLINE = 60.0


@pytest.mark.parametrize("kind", ["core", "push", "pull"])
async def test_messages_that_were_not_started_are_counted_at_the_end(
    nats_url: str, js: JetStreamContext, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = NatsBroker(nats_url)
    started, go = asyncio.Event(), asyncio.Event()

    async def handle(msg: bytes) -> None:
        started.set()
        await go.wait()

    if kind == "core":
        broker.subscriber(name, max_workers=1)(handle)
    else:
        config = ConsumerConfig(ack_policy=ConsumerAckPolicy.NONE)
        broker.subscriber(name, stream=JStream(name), config=config, pull_sub=kind == "pull", max_workers=1)(handle)
    with caplog.at_level(logging.WARNING):
        await broker.start()
        for _ in range(COUNT):
            await broker.publish(b"x", name)
        await asyncio.wait_for(started.wait(), DEADLINE)
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while kind == "push" and (await js.consumers_info(name))[0].delivered.stream_seq < COUNT:
            assert asyncio.get_running_loop().time() < deadline, "the messages are not delivered"
            await asyncio.sleep(0.01)
        assert await broker.ping()
        ending = asyncio.ensure_future(broker.stop())
        asyncio.get_running_loop().call_later(0.1, go.set)
        await asyncio.wait_for(ending, DEADLINE)
    lines = [record.getMessage() for record in caplog.records if "not handled" in record.getMessage()]
    assert len(lines) == 1, lines
    assert "delivers at most once" in lines[0]
