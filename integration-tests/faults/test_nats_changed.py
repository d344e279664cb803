"""A consumer of NATS whose settings somebody changes while it is read: it is said, and done what a start does."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from fastapi_stream_core.subscription import Status
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import ConsumerConfig, JStream, NatsBroker
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from waiting import DEADLINE, until

SOON = 45.0
"""A consumer is asked for every 15 to 30 seconds."""
KINDS: dict[str, dict[str, Any]] = {
    "pull": {"durable": "d", "pull_sub": True},
    "push": {"durable": "d"},
    "queue": {"queue": "d"},
    "own": {},
}
CHANGED = "was changed at the server"


async def edit(client: Client, stream: str, **settings: Any) -> None:
    """Change the consumer of a stream, as an operator does; None takes a setting away."""
    (info,) = await client.jetstream().consumers_info(stream)
    answer = await client.request(f"$JS.API.CONSUMER.INFO.{stream}.{info.name}", b"", timeout=10)
    config = {**json.loads(answer.data)["config"], **settings}
    config = {name: value for name, value in config.items() if value is not None}
    request = json.dumps({"stream_name": stream, "config": {**config, "name": info.name}, "action": "update"}).encode()
    end = f".{config['filter_subject']}" if config.get("filter_subject") else ""
    answer = await client.request(f"$JS.API.CONSUMER.CREATE.{stream}.{info.name}{end}", request, timeout=10)
    assert "error" not in json.loads(answer.data), answer.data


async def filters(js: JetStreamContext, stream: str) -> list[str]:
    (info,) = await js.consumers_info(stream)
    return [info.config.filter_subject] if info.config.filter_subject else info.config.filter_subjects or []


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


def read(broker: NatsBroker, stream: str, subject: str, seen: Inbox, **options: Any) -> None:
    @broker.subscriber(subject, stream=JStream(stream, declare=False), **options)
    async def handler(msg: str) -> None:
        seen.put(msg)


async def test_other_filters(
    nats_url: str, nats_client: Client, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The subscriber's own are set again; also where some of the messages still come."""
    broker, seen = NatsBroker(nats_url), Inbox()
    streams = [f"{name}-{kind}" for kind in KINDS]
    for stream, options in zip(streams, KINDS.values(), strict=True):
        await js.add_stream(StreamConfig(name=stream, subjects=[f"{stream}.*"]))
        read(broker, stream, f"{stream}.a", seen, **options)
    busy, kept = f"{name}-busy", Inbox()
    await js.add_stream(StreamConfig(name=busy, subjects=[f"{busy}.*"]))
    read(broker, busy, f"{busy}.*", kept, durable="d", pull_sub=True)
    with caplog.at_level(logging.WARNING):
        async with broker:
            for stream in streams:
                await edit(nats_client, stream, filter_subject=f"{stream}.b")
            await edit(nats_client, busy, filter_subject=f"{busy}.a")
            told = {*streams, busy}
            deadline = asyncio.get_running_loop().time() + SOON
            number = 0
            while told - {one for one in told if any(f"'{one}." in line for line in lines(caplog, CHANGED))}:
                assert asyncio.get_running_loop().time() < deadline, "it is not noticed"
                await js.publish(f"{busy}.a", b"%d" % number)
                assert await kept.take() == f"{number}"
                number += 1
                await asyncio.sleep(0.1)
            for stream in streams:
                await until(lambda: all(one.status is Status.RUNNING for one in broker.subscribers))
                assert await filters(js, stream) == [f"{stream}.a"]
                await js.publish(f"{stream}.a", stream.encode())
                assert await seen.take() == stream
            await js.publish(f"{busy}.b", b"b")
            assert await kept.take() == "b"
    said = lines(caplog, CHANGED)
    assert len(said) == len(told)
    assert all(f"filter_subjects=\"['{one}." in "".join(said) for one in told)


async def test_another_queue_group(
    nats_url: str, nats_client: Client, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A start refuses it: the subscription is not running, and says why, until the operator takes it back."""
    broker, seen = NatsBroker(nats_url), Inbox()
    await js.add_stream(StreamConfig(name=name, subjects=[name]))
    read(broker, name, name, seen, queue="q", durable="d")
    (subscriber,) = broker.subscribers
    with caplog.at_level(logging.WARNING):
        async with broker:
            await edit(nats_client, name, deliver_group="x")
            await until(lambda: lines(caplog, "has the queue group 'x'"), SOON)
            assert len(lines(caplog, CHANGED)) == 1
            assert subscriber.status is Status.BACKING_OFF
            await edit(nats_client, name, deliver_group="q")
            await until(lambda: subscriber.running)
            await js.publish(name, b"1")
            assert await seen.take() == "1"


async def test_another_version_of_the_app_declares_other_filters(
    nats_url: str, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Two that run side by side for a while do not take the consumer from each other again and again."""
    await js.add_stream(StreamConfig(name=name, subjects=[f"{name}.*"]))
    old, new, seen = NatsBroker(nats_url), NatsBroker(nats_url), Inbox()
    read(old, name, f"{name}.a", seen, durable="d", pull_sub=True)
    read(new, name, f"{name}.*", seen, durable="d", pull_sub=True)
    with caplog.at_level(logging.WARNING):
        async with old, new:
            await until(lambda: lines(caplog, CHANGED), SOON)
            (line,) = lines(caplog, CHANGED)
            assert "it is read on as it is" in line
            assert f"{name}.*" in line
            assert await filters(js, name) == [f"{name}.*"]
            await js.publish(f"{name}.b", b"1")
            assert await seen.take() == "1"
    assert "restarted" not in {*old.report.counts, *new.report.counts}


async def test_fewer_deliveries(
    nats_url: str, nats_client: Client, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The last one is still known as such: its failure rejects the message, and that is said."""
    broker, failed = NatsBroker(nats_url), Inbox()

    @broker.subscriber(name, stream=name, durable="d", pull_sub=True)
    async def handler(msg: str) -> None:
        failed.put(msg)
        raise RuntimeError(msg)

    with caplog.at_level(logging.WARNING):
        async with broker:
            await edit(nats_client, name, max_deliver=2)
            await until(lambda: lines(caplog, CHANGED), SOON)
            assert "max_deliver='2'" in lines(caplog, CHANGED)[0]
            await js.publish(name, b"1")
            assert await failed.take_many(2, DEADLINE) == ["1", "1"]
            await until(lambda: lines(caplog, "rejected"))
    assert "restarted" not in broker.report.counts


async def test_settings_that_were_given(
    nats_url: str, nats_client: Client, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are set again."""
    broker, seen = NatsBroker(nats_url), Inbox()
    await js.add_stream(StreamConfig(name=name, subjects=[name]))
    read(broker, name, name, seen, durable="d", config=ConsumerConfig(max_deliver=7))
    with caplog.at_level(logging.WARNING):
        async with broker:
            await edit(nats_client, name, max_deliver=2)
            await until(lambda: lines(caplog, CHANGED), SOON)
            await until(lambda: broker.subscribers[0].running)
            await js.publish(name, b"1")
            assert await seen.take() == "1"
            assert (await js.consumer_info(name, "d")).config.max_deliver == 7
