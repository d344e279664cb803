"""A consumer of NATS that an operator pauses: it is said, and what comes after the pause comes at once."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from fastapi_stream_core.subscription import Status, Subscription
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import ConsumerConfig, NatsBroker
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy as ConsumerAckPolicy

from waiting import DEADLINE, until

KINDS: dict[str, dict[str, Any]] = {
    "pull": {"durable": "d", "pull_sub": True},
    "pull-own": {"pull_sub": True},
    "push": {"durable": "d"},
    "push-own": {},
    "push-none": {"config": ConsumerConfig(ack_policy=ConsumerAckPolicy.NONE)},
    "queue": {"queue": "d"},
}
AT_ONCE = 2.0
ASKED = 8.0
"""A consumer that is paused is asked for every 5 seconds."""
CALM_SECONDS = 7.0
"""Time for a question about a consumer that is paused."""
PAUSED = "is paused at the server"
RESUMED = "is not paused any more"


def streams_of(name: str) -> list[str]:
    return [f"{name}-{kind}" for kind in KINDS]


def reading(url: str, name: str) -> tuple[NatsBroker, Inbox]:
    """Every kind of consumer, each of a stream of its own; what is handled is told with the stream's name."""
    broker, seen = NatsBroker(url), Inbox()

    async def handler(msg: str) -> None:
        seen.put(msg)

    for stream, options in zip(streams_of(name), KINDS.values(), strict=True):
        broker.subscriber(stream, stream=stream, **options)(handler)
    return broker, seen


async def pause(client: Client, streams: list[str], date: str) -> None:
    """Pause the consumer of each stream; a time that is over resumes it."""
    for stream in streams:
        (info,) = await client.jetstream().consumers_info(stream)
        request = json.dumps({"pause_until": date}).encode()
        answer = await client.request(f"$JS.API.CONSUMER.PAUSE.{stream}.{info.name}", request, timeout=10)
        assert "error" not in json.loads(answer.data)


def later(**time: float) -> str:
    return (datetime.now(timezone.utc) + timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%SZ")


async def send(js: JetStreamContext, streams: list[str], text: str) -> set[str]:
    """Publish to each stream, and return what its handler will see."""
    found = [f"{stream} {text}" for stream in streams]
    for stream, message in zip(streams, found, strict=True):
        await js.publish(stream, message.encode())
    return set(found)


def check_lines(caplog: pytest.LogCaptureFixture, subscribers: list[Subscription], text: str, level: int) -> list[str]:
    """Every subscriber has said something once."""
    lines = [(record.levelno, record.getMessage()) for record in caplog.records if text in record.getMessage()]
    assert sorted(line.partition(": ")[0] for _, line in lines) == sorted(one.label for one in subscribers)
    assert {found for found, _ in lines} == {level}
    return [line for _, line in lines]


async def test_consumers_that_are_paused_and_resumed(
    nats_url: str, nats_client: Client, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker, seen = reading(nats_url, name)
    streams, subscribers, date = streams_of(name), broker.subscribers, later(hours=1)
    with caplog.at_level(logging.INFO):
        async with broker:
            first = await send(js, streams, "1")
            assert set(await seen.take_many(len(streams))) == first
            await pause(nats_client, streams, date)
            second = await send(js, streams, "2")
            await until(lambda: all(one.status is Status.BACKING_OFF for one in subscribers))
            assert not any(one.running for one in subscribers)
            over = asyncio.Event()
            asyncio.get_running_loop().call_later(CALM_SECONDS, over.set)
            await over.wait()
            assert all(date in line for line in check_lines(caplog, subscribers, PAUSED, logging.WARNING))
            assert all(one.status is Status.BACKING_OFF for one in subscribers)
            assert len(seen.all) == len(streams), "a consumer gave messages though it is paused"
            await pause(nats_client, streams, "1970-01-01T00:00:00Z")
            resumed = await seen.take_many(len(streams) - 1, AT_ONCE)
            # Without heartbeats the server delivers when it is roused, by who asks for the consumer.
            assert {*resumed, await seen.take(ASKED)} == second
            await until(lambda: all(one.running for one in subscribers))
            check_lines(caplog, subscribers, RESUMED, logging.INFO)
            third = await send(js, streams, "3")
            assert set(await seen.take_many(len(streams), AT_ONCE)) == third
    assert len(seen.all) == 3 * len(streams)
    assert "restarted" not in broker.report.counts
    check_lines(caplog, subscribers, PAUSED, logging.WARNING)


async def test_consumers_that_are_paused_before_the_start_and_whose_time_is_over(
    nats_url: str, nats_client: Client, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said at once; when the time is over nobody publishes, and they are running all the same."""
    streams = [stream for stream in streams_of(name) if "own" not in stream and "none" not in stream]
    broker, _ = reading(nats_url, name)
    async with broker:
        pass
    broker, _ = reading(nats_url, name)
    subscribers = [one for one in broker.subscribers if one.addresses[0] in streams]
    with caplog.at_level(logging.INFO):
        date = later(seconds=8)
        await pause(nats_client, streams, date)
        async with broker:
            assert all(one.status is Status.BACKING_OFF for one in subscribers)
            assert all(date in line for line in check_lines(caplog, subscribers, PAUSED, logging.WARNING))
            assert all(one.running for one in broker.subscribers if one not in subscribers)
            await until(lambda: all(one.running for one in subscribers))
            check_lines(caplog, subscribers, RESUMED, logging.INFO)


async def test_a_consumer_is_asked_for_seldom(
    nats_url: str, nats_client: Client, js: JetStreamContext, name: str
) -> None:
    """Nothing comes of one, messages of the other: only the first is asked for."""
    broker, seen = NatsBroker(nats_url), Inbox()

    async def handler(msg: int) -> None:
        seen.put(msg)

    quiet, busy = f"{name}-quiet", f"{name}-busy"
    broker.subscriber(quiet, stream=quiet, durable="d", pull_sub=True)(handler)
    broker.subscriber(busy, stream=busy, durable="d", pull_sub=True)(handler)

    async with broker:
        questions = await nats_client.subscribe(f"$JS.API.CONSUMER.INFO.{quiet}.d")
        others = await nats_client.subscribe(f"$JS.API.CONSUMER.INFO.{busy}.d")
        await nats_client.flush()
        began = asyncio.get_running_loop().time()
        asking = asyncio.ensure_future(questions.next_msg(DEADLINE))
        number = 0
        while not asking.done():
            await js.publish(busy, b"%d" % number)
            assert await seen.take() == number
            number += 1
            await asyncio.wait([asking], timeout=0.3)
        await asking
        assert asyncio.get_running_loop().time() - began > 10
        assert not questions.pending_msgs
        assert not others.pending_msgs
