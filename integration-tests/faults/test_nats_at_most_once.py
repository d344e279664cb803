"""What is lost at a stop because nothing is acknowledged is said, and nothing is asked for the sake of settling."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import JStream, NatsBroker
from nats.aio.client import Client
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


async def test_a_consumer_that_is_deleted_is_asked_for_once(
    nats_url: str, nats_client: Client, js: JetStreamContext, name: str
) -> None:
    """Whose messages came meanwhile is a question only for who acknowledges them."""
    broker, seen = NatsBroker(nats_url), Inbox()
    config = ConsumerConfig(ack_policy=ConsumerAckPolicy.NONE)

    @broker.subscriber(name, stream=JStream(name), config=config, pull_sub=True)
    async def handler(msg: str) -> None:
        seen.put(msg)

    async with broker:
        await broker.publish("1", name, stream=name)
        assert await seen.take() == "1"
        (info,) = await js.consumers_info(name)
        asked = await nats_client.subscribe(f"$JS.API.CONSUMER.INFO.{name}.{info.name}")
        made = await nats_client.subscribe(f"$JS.API.CONSUMER.CREATE.{name}")
        await nats_client.flush()
        await js.delete_consumer(name, info.name)
        await made.next_msg(DEADLINE)
        await broker.publish("2", name, stream=name)
        assert await seen.take(DEADLINE) == "2"
        await nats_client.flush()
        assert asked.pending_msgs == 1
