"""A user of NATS who may not ask for messages, or acknowledge them, for a while: it is said, and goes on after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from fastapi_stream_core.subscription import Status, Subscription
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import JStream, NatsBroker, NatsMessage
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from faults.nats_users import StrictServer
from servers import running
from waiting import DEADLINE, until

CALM_SECONDS = 12.0
"""Time for two questions for messages."""
DENIED = "permissions violation"
REQUESTS = "$JS.API.CONSUMER.MSG.NEXT.>"


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with running(StrictServer()) as server:
        yield server


@pytest.fixture
def nats_url(server: StrictServer) -> str:
    return server.url_of("operator")


def reading(server: StrictServer, *streams: str) -> tuple[NatsBroker, list[Subscription], Inbox]:
    broker, seen = NatsBroker(server.url_of("app")), Inbox()

    async def handler(msg: str, message: NatsMessage) -> None:
        seen.put((message.raw_message.subject, msg))

    for stream in streams:
        broker.subscriber(stream, stream=JStream(stream, declare=False), durable="d", pull_sub=True)(handler)
    return broker, broker.subscribers, seen


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if text in record.getMessage().lower()]


@pytest.mark.parametrize("when", ["running", "starting"])
async def test_a_user_who_may_not_ask_for_messages_for_a_while(
    server: StrictServer, js: JetStreamContext, name: str, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line of each subscription, however often it asks."""
    streams = [f"{name}-1", f"{name}-2"]
    for stream in streams:
        await js.add_stream(StreamConfig(name=stream, subjects=[stream]))
    if when == "starting":
        server.deny(publish=REQUESTS)
    broker, subscribers, seen = reading(server, *streams)
    with caplog.at_level(logging.INFO):
        async with broker:
            if when == "running":
                for stream in streams:
                    await js.publish(stream, b"1")
                assert set(await seen.take_many(2)) == {(stream, "1") for stream in streams}
                server.deny(publish=REQUESTS)
            await until(lambda: all(one.status is Status.BACKING_OFF for one in subscribers), 2 * DEADLINE)
            for stream in streams:
                await js.publish(stream, b"2")
            over = asyncio.Event()
            asyncio.get_running_loop().call_later(CALM_SECONDS, over.set)
            await over.wait()
            assert all(one.status is Status.BACKING_OFF for one in subscribers)
            said = lines(caplog, DENIED)
            assert len(said) <= 2 * len(streams), said
            for one in subscribers:
                assert any(line.startswith(f"{one.label}: the server gives no messages") for line in said)
            server.deny()
            found = await seen.take_many(2, DEADLINE)
            assert set(found) == {(stream, "2") for stream in streams}
            await until(lambda: all(one.running for one in subscribers))
            assert len(lines(caplog, "gives messages of the consumer")) == len(subscribers)
    assert "restarted" not in broker.report.counts


async def test_a_user_who_may_not_ask_for_a_consumer(
    server: StrictServer, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A question that only looks for changes may have no answer: messages come, and are settled meanwhile."""
    await js.add_stream(StreamConfig(name=name, subjects=[name]))
    broker, (subscriber,), seen = reading(server, name)
    async with broker:
        server.deny(publish=f"$JS.API.CONSUMER.INFO.{name}.d")
        await until(lambda: lines(caplog, DENIED))
        assert lines(caplog, DENIED)[0].startswith(f"{subscriber.label}: whether the consumer 'd' is paused")
        assert subscriber.running
        await js.publish(name, b"1")
        assert await seen.take() == (name, "1")
        deadline = asyncio.get_running_loop().time() + 3.0
        while not (floor := (await js.consumer_info(name, "d")).ack_floor) or not floor.stream_seq:
            assert asyncio.get_running_loop().time() < deadline, "it is not settled"
            await asyncio.sleep(0.01)
        assert subscriber.running
        await js.publish(name, b"2")
        assert await seen.take() == (name, "2")
        assert len(lines(caplog, DENIED)) == 1
    assert "restarted" not in broker.report.counts


async def test_a_user_who_may_not_acknowledge_for_a_while(
    server: StrictServer, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and not for each message."""
    await js.add_stream(StreamConfig(name=name, subjects=[name]))
    broker, _, seen = reading(server, name)
    with caplog.at_level(logging.INFO):
        async with broker:
            await js.publish(name, b"0")
            await seen.take()
            server.deny(publish="$JS.ACK.>")
            number = 1
            while not lines(caplog, DENIED):
                await js.publish(name, b"%d" % number)
                assert await seen.take() == (name, f"{number}")
                number += 1
            for more in range(20):
                await js.publish(name, b"x%d" % more)
                assert await seen.take() == (name, f"x{more}")
            (line,) = lines(caplog, DENIED)
            assert line.startswith("subscriber(")
            server.deny()
