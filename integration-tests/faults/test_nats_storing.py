"""Streams of NATS that do not take a result: they are gone, or full."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import nats
import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import AckPolicy, BrokerUnavailable, JStream, NatsBroker, PublishError, StorageType
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StreamConfig
from nats.js.errors import NotFoundError

from servers import ProcessServer
from waiting import until

DEADLINE = 40.0
FULL_SECONDS = 3.0
"""Time for several tries to publish."""
ANSWER_SECONDS = 3.0
"""Time for one answer of a server that is busy."""
COUNT = 10
LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "messages": ({"max_msgs": 3}, "maximum messages exceeded"),
    "bytes": ({"max_bytes": 500}, "maximum bytes exceeded"),
}


@pytest.fixture
def nats_url(nats_process: ProcessServer) -> str:
    return nats_process.url


async def stored(js: JetStreamContext, stream: str) -> int:
    """Return how many messages a stream has taken; none when it does not exist."""
    try:
        return (await js.stream_info(stream)).state.last_seq
    except (nats.errors.Error, NotFoundError):
        return 0


async def until_stored(js: JetStreamContext, stream: str, count: int) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while await stored(js, stream) < count:
        assert asyncio.get_running_loop().time() < deadline, await stored(js, stream)
        await asyncio.sleep(0.05)


def passing_on(url: str, name: str, out: JStream) -> tuple[NatsBroker, Inbox]:
    broker, seen = NatsBroker(url), Inbox()

    @broker.subscriber(name, stream=JStream(name), durable="d", pull_sub=True)
    @broker.publisher(f"{name}-out", stream=out)
    async def handler(msg: int) -> int:
        seen.put(msg)
        return msg

    return broker, seen


@pytest.mark.parametrize("how", ["deleted", "restarted", "other subjects"])
async def test_a_stream_of_results_that_is_gone(
    nats_process: ProcessServer, js: JetStreamContext, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The app has declared it, and declares it again."""
    out = f"{name}-out"
    broker, seen = passing_on(nats_process.url, name, JStream(out, storage=StorageType.MEMORY))
    with caplog.at_level(logging.WARNING):
        async with broker:
            await broker.publish(0, name, stream=name)
            await seen.take()
            await until_stored(js, out, 1)
            before = 0
            if how == "deleted":
                await js.delete_stream(out)
            elif how == "restarted":
                await asyncio.to_thread(nats_process.restart)
            else:
                before = 1
                config = (await js.stream_info(out)).config
                config.subjects = [f"{out}.else"]
                await js.update_stream(config)
            for number in range(COUNT):
                await broker.publish(number, name, stream=name)
            await until_stored(js, out, before + COUNT)
    counts = broker.report.counts
    assert not {"failed", "rejected"} & set(counts)
    assert caplog.text.count("was gone, and is declared again") == (how != "other subjects")


@pytest.mark.parametrize("declared", [False, None])
async def test_a_stream_that_the_app_does_not_declare(
    nats_url: str, js: JetStreamContext, name: str, declared: bool | None
) -> None:
    """It is not waited for, and not made."""
    broker = NatsBroker(nats_url)
    if declared is not None:
        await js.add_stream(StreamConfig(name=name, subjects=[name]))
        broker.publisher(name, stream=JStream(name, declare=False))
    async with broker:
        if declared is not None:
            await js.delete_stream(name)
        with pytest.raises(PublishError, match="no stream takes this subject"):
            await asyncio.wait_for(broker.publish(1, name, stream=name, timeout=30), 10)
    with pytest.raises(NotFoundError):
        await js.stream_info(name)


async def test_a_declared_stream_that_the_server_refuses(nats_url: str, js: JetStreamContext, name: str) -> None:
    """Another stream took one of its subjects meanwhile: the message is refused, with the server's words."""
    broker = NatsBroker(nats_url)
    publisher = broker.publisher(f"{name}.mine", stream=JStream(name, subjects=[f"{name}.taken"]))
    async with broker:
        await js.delete_stream(name)
        await js.add_stream(StreamConfig(name=f"{name}-other", subjects=[f"{name}.taken"]))
        with pytest.raises(PublishError, match="overlap"):
            await asyncio.wait_for(publisher.publish(1, timeout=30), 10)


@pytest.mark.parametrize("limit", LIMITS)
async def test_a_full_stream_costs_no_message(nats_url: str, js: JetStreamContext, name: str, limit: str) -> None:
    """It is a broker that is away for writing: what should be published waits until there is room."""
    out, (options, said) = f"{name}-out", LIMITS[limit]
    await js.add_stream(StreamConfig(name=out, subjects=[out], discard=DiscardPolicy.NEW, **options))
    broker, seen = passing_on(nats_url, name, JStream(out, declare=False))
    broker.options["publish_timeout"] = 1.0
    async with broker:
        for number in range(COUNT):
            await broker.publish(number, name, stream=name)
        await until(lambda: broker.report.counts.get("paused"), DEADLINE)
        with pytest.raises(BrokerUnavailable, match=said):
            await broker.publish(9, out, stream=out, timeout=ANSWER_SECONDS)
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(FULL_SECONDS, over.set)
        await over.wait()
        full = await stored(js, out)
        while full < COUNT:
            await js.purge_stream(out)
            await until_stored(js, out, min(full + 1, COUNT))
            full = await stored(js, out)
        info = await js.consumer_info(name, "d")
    assert await stored(js, out) == COUNT
    assert set(seen.all) == set(range(COUNT))
    assert not {"failed", "rejected"} & set(broker.report.counts)
    assert info.num_pending == 0


async def test_a_subject_that_is_full_is_the_failure_of_its_message(
    nats_url: str, js: JetStreamContext, name: str
) -> None:
    """The stream takes others: one for a subject that has its message already stops nobody."""
    limits: dict[str, Any] = {"max_msgs_per_subject": 1, "discard_new_per_subject": True}
    await js.add_stream(
        StreamConfig(name=f"{name}-out", subjects=[f"{name}-out.*"], discard=DiscardPolicy.NEW, **limits)
    )
    broker, done = NatsBroker(nats_url), Inbox()

    @broker.subscriber(name, stream=name, durable="d", pull_sub=True, ack_policy=AckPolicy.REJECT_ON_ERROR)
    async def handler(msg: str) -> None:
        await broker.publish(b"x", f"{name}-out.{msg}", stream=f"{name}-out")
        done.put(msg)

    async with broker:
        for msg in ("ann", "ann", "bob"):
            await broker.publish(msg, name, stream=name)
        assert await done.take_many(2) == ["ann", "bob"]
        with pytest.raises(PublishError, match="maximum messages per subject exceeded"):
            await broker.publish(b"x", f"{name}-out.bob", stream=f"{name}-out")
    assert broker.report.counts["rejected"] == 1


async def test_a_message_that_never_fits_is_not_waited_for(nats_url: str, js: JetStreamContext, name: str) -> None:
    await js.add_stream(StreamConfig(name=name, subjects=[name], discard=DiscardPolicy.NEW, max_bytes=500))
    async with NatsBroker(nats_url) as broker:
        await broker.publish(b"x" * 100, name, stream=name)
        with pytest.raises(PublishError, match="maximum bytes exceeded"):
            await asyncio.wait_for(broker.publish(b"x" * 480, name, stream=name, timeout=30), 10)
        with pytest.raises(BrokerUnavailable, match="maximum bytes exceeded"):
            await broker.publish(b"x" * 300, name, stream=name, timeout=ANSWER_SECONDS)
