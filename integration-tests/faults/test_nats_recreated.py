"""Streams and consumers of NATS that are deleted and made again while they are read."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import (
    ConsumerConfig,
    DeliverPolicy,
    JStream,
    NatsBroker,
    NatsMessage,
    PullSub,
    StorageType,
)
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from proxy import Jam
from servers import Server
from waiting import DEADLINE, until

KINDS = {
    "push": {},
    "pull": {"pull_sub": PullSub(10)},
    "push-durable": {"durable": "d"},
    "pull-durable": {"durable": "d", "pull_sub": True},
    "push-queue": {"queue": "q"},
}
AGAIN = "was deleted and made again; reading it from its beginning"


@pytest.fixture(params=["process", "container"])
def server(request: pytest.FixtureRequest) -> Server:
    """A server that may lose what it has."""
    fixture = {"container": "nats_server", "process": "nats_process"}[request.param]
    found: Server = request.getfixturevalue(fixture)
    return found


@pytest.fixture
def nats_url(server: Server) -> str:
    return server.url


def reading(url: str, name: str, options: dict[str, Any], **more: Any) -> tuple[NatsBroker, Inbox]:
    broker, seen = NatsBroker(url), Inbox()

    @broker.subscriber(name, stream=name, **{**options, **more})
    async def handler(msg: int) -> None:
        seen.put(msg)

    return broker, seen


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_that_is_made_again(
    server: Server, nats_client: Client, js: JetStreamContext, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The new one has fewer messages than were read of the old one: all of them are handled, each once."""
    broker, seen = reading(server.url, name, KINDS[kind])
    with caplog.at_level(logging.WARNING):
        async with broker:
            for number in range(10):
                await js.publish(name, b"%d" % number)
            assert await seen.take_many(10) == list(range(10))
            await js.delete_stream(name)
            await js.add_stream(StreamConfig(name=name, subjects=[name]))
            for number in range(100, 112):
                await js.publish(name, b"%d" % number)
            assert await seen.take_many(12, DEADLINE) == list(range(100, 112))
            await js.publish(name, b"7")
            assert await seen.take() == 7
    assert len(seen.all) == 23
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("fastapi_stream")]
    assert lines == [f"subscriber('{name}'): {name} {AGAIN}"]


@pytest.mark.parametrize("kind", KINDS)
async def test_only_new_messages_were_wanted_and_the_new_stream_has_nothing_else(
    server: Server, js: JetStreamContext, name: str, kind: str
) -> None:
    broker, seen = reading(server.url, name, KINDS[kind], deliver_policy=DeliverPolicy.NEW)
    async with broker:
        await js.publish(name, b"1")
        assert await seen.take() == 1
        await js.delete_stream(name)
        await js.add_stream(StreamConfig(name=name, subjects=[name]))
        for number in range(2, 12):
            await js.publish(name, b"%d" % number)
        assert await seen.take_many(10, DEADLINE) == list(range(2, 12))


async def test_a_stream_that_is_made_again_while_a_message_of_the_old_one_runs(
    server: Server, js: JetStreamContext, name: str
) -> None:
    """The number of a message says nothing about one of another life of the stream."""
    broker, seen, entered, release = NatsBroker(server.url), Inbox(), asyncio.Event(), asyncio.Event()

    @broker.subscriber(name, stream=name, pull_sub=True, durable="d", max_workers=4)
    async def handler(msg: int) -> None:
        if msg == 0:
            entered.set()
            await release.wait()
        seen.put(msg)

    async with broker:
        await js.publish(name, b"0")
        await asyncio.wait_for(entered.wait(), DEADLINE)
        await js.delete_stream(name)
        await js.add_stream(StreamConfig(name=name, subjects=[name]))
        for number in range(1, 4):
            await js.publish(name, b"%d" % number)
        assert await seen.take_many(3, DEADLINE) == [1, 2, 3]
        release.set()
        assert await seen.take() == 0
    assert (await js.consumer_info(name, "d")).num_ack_pending == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_in_memory_after_a_restart(
    server: Server, js: JetStreamContext, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = JStream(name, storage=StorageType.MEMORY)
    broker, seen = NatsBroker(server.url), Inbox()

    @broker.subscriber(name, stream=stream, **KINDS[kind])  # type: ignore[arg-type]
    async def handler(msg: int) -> None:
        seen.put(msg)

    with caplog.at_level(logging.WARNING):
        async with broker:
            for number in range(40):
                await broker.publish(number, name, stream=name)
            assert await seen.take_many(40) == list(range(40))
            server.restart(kill=True)
            await until(lambda: AGAIN in caplog.text)
            for number in range(40, 80):
                await broker.publish(number, name, stream=name, timeout=DEADLINE)
            assert await seen.take_many(40) == list(range(40, 80))
    assert len(seen.all) == 80


@pytest.mark.parametrize("kind", ["push-durable", "pull-durable"])
async def test_a_durable_consumer_that_is_deleted(
    server: Server, js: JetStreamContext, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was published meanwhile is handled, also by who wanted new messages only; what was done before is not."""
    await js.add_stream(StreamConfig(name=name, subjects=[name]))
    for number in range(1000, 1050):
        await js.publish(name, b"%d" % number)
    broker, seen = reading(server.url, name, KINDS[kind], deliver_policy=DeliverPolicy.NEW)
    async with broker:
        await js.publish(name, b"1")
        assert await seen.take() == 1
        await js.delete_consumer(name, "d")
        for number in range(2, 12):
            await js.publish(name, b"%d" % number)
        await until(lambda: set(range(2, 12)) <= set(seen.all))
    assert set(seen.all) == set(range(1, 12))


async def test_a_durable_consumer_that_somebody_else_made_again(
    server: Server, js: JetStreamContext, name: str
) -> None:
    """Its deliveries go elsewhere, and nothing tells so: it has the same name and another time of creation."""
    broker, seen = reading(server.url, name, {"durable": "d"})
    async with broker:
        await js.publish(name, b"1")
        assert await seen.take() == 1
        await js.delete_consumer(name, "d")
        await js.add_consumer(name, ConsumerConfig(durable_name="d", deliver_subject=f"{name}.elsewhere"))
        await js.publish(name, b"2")
        await until(lambda: 2 in seen.all)


async def test_a_stream_that_was_read_by_two_is_made_again(server: Server, js: JetStreamContext, name: str) -> None:
    """One of them makes the consumer, the other one takes it."""
    first, seen = reading(server.url, name, {"queue": "q"})
    second, others = reading(server.url, name, {"queue": "q"})
    async with first, second:
        for number in range(20):
            await js.publish(name, b"%d" % number)
        await until(lambda: len(seen.all) + len(others.all) == 20)
        await js.delete_stream(name)
        await js.add_stream(StreamConfig(name=name, subjects=[name]))
        for number in range(20, 40):
            await js.publish(name, b"%d" % number)
        # What the server pushes while the last of them leaves the old subscription comes again after 30 seconds.
        await until(lambda: {*seen.all, *others.all} == set(range(40)), 2 * DEADLINE)


async def test_a_start_that_has_left_the_log(server: Server, js: JetStreamContext, name: str) -> None:
    """The consumer is deleted while the stream drops what would have come next: it goes on with what is left."""
    broker, seen = reading(server.url, name, {"pull_sub": True})
    async with broker:
        for number in range(5):
            await js.publish(name, b"%d" % number)
        assert await seen.take_many(5) == [0, 1, 2, 3, 4]
        (info,) = await js.consumers_info(name)
        await js.delete_consumer(name, info.name)
        await js.purge_stream(name)
        for number in range(5, 9):
            await js.publish(name, b"%d" % number)
        await js.purge_stream(name, keep=2)
        await until(lambda: {7, 8} <= set(seen.all))


async def test_a_copy_does_not_start_while_the_first_run_goes_on(
    server: Server, js: JetStreamContext, name: str
) -> None:
    """The consumer that follows begins at the message that still runs."""
    broker, seen, entered, release = NatsBroker(server.url), Inbox(), asyncio.Event(), asyncio.Event()

    @broker.subscriber(name, stream=name, max_workers=4)
    async def handler(msg: int, message: NatsMessage) -> None:
        seen.put(msg)
        if msg == 0:
            entered.set()
            await release.wait()

    async with broker:
        await js.publish(name, b"0")
        await asyncio.wait_for(entered.wait(), DEADLINE)
        (info,) = await js.consumers_info(name)
        await js.delete_consumer(name, info.name)
        await js.publish(name, b"1")
        await until(lambda: 1 in seen.all)
        release.set()
        await js.publish(name, b"2")
        await until(lambda: 2 in seen.all)
    assert seen.all.count(0) == 1


@pytest.mark.parametrize("count", [5, 10])
async def test_an_acknowledgement_of_the_old_stream_settles_nothing_of_the_new_one(
    server: Server, js: JetStreamContext, name: str, count: int
) -> None:
    """One member of a durable consumer has messages of the old one, and another member gets those of the new one.

    With 5 a request stands that the server ends; with 10 none does, and the consumer is asked for regularly.
    """
    async with Jam(server.url) as proxy:
        broker, seen, release = NatsBroker(proxy.url), Inbox(), asyncio.Event()

        @broker.subscriber(name, stream=name, durable="d", pull_sub=PullSub(10))
        async def handler(msg: int) -> None:
            seen.put(msg)
            await release.wait()

        async with broker:
            for number in range(count):
                await js.publish(name, b"%d" % number)
            assert await seen.take() == 0
            deadline = asyncio.get_running_loop().time() + DEADLINE
            while (await js.consumer_info(name, "d")).num_ack_pending < count:
                assert asyncio.get_running_loop().time() < deadline, "the messages are not delivered"
                await asyncio.sleep(0.01)
            config = (await js.consumer_info(name, "d")).config
            proxy.clear.clear()  # it asks for no message of the new consumer before the other member has them
            await js.delete_stream(name)
            await js.add_stream(StreamConfig(name=name, subjects=[name]))
            await js.add_consumer(name, config)
            for number in range(100, 100 + count):
                await js.publish(name, b"%d" % number)
            others = await js.pull_subscribe_bind("d", name)
            assert len(await others.fetch(count, DEADLINE)) == count
            proxy.sent.clear()
            proxy.heard.clear()
            proxy.clear.set()
            await until(lambda: b"$JS.API.CONSUMER.INFO." in proxy.sent and b"consumer_info_response" in proxy.heard)
            await broker.ping()
            release.set()
        assert (await js.consumer_info(name, "d")).num_ack_pending == count
