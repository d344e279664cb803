"""Acknowledgements of a consumer that is gone reach no message of the one that took its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import DeliverPolicy, NatsBroker, PullSub
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StreamConfig

from proxy import Jam
from waiting import DEADLINE, until

SOON = 15.0
"""Well below the 30 seconds after which JetStream would deliver again by itself."""


async def pending(js: JetStreamContext, name: str, count: int, seconds: float = DEADLINE) -> None:
    """Wait until so many messages are delivered and not acknowledged."""
    deadline = asyncio.get_running_loop().time() + seconds
    while (await js.consumer_info(name, "d")).num_ack_pending != count:
        assert asyncio.get_running_loop().time() < deadline, "the messages are not delivered"
        await asyncio.sleep(0.01)


async def test_what_waits_to_be_sent_when_the_connection_is_lost(
    nats_url: str, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client would send it to whatever is there after the reconnect, before anybody has asked."""
    async with Jam(nats_url) as proxy:
        broker, seen, release = NatsBroker(proxy.url, publish_timeout=5, graceful_timeout=0.5), Inbox(), asyncio.Event()

        @broker.subscriber(name, stream=name, durable="d", pull_sub=PullSub(10), max_workers=10)
        async def handler(msg: int) -> None:
            seen.put(msg)
            await release.wait()

        async with broker:
            for number in range(5):
                await js.publish(name, b"%d" % number)
            await seen.take_many(5, DEADLINE)
            await pending(js, name, 5)
            config = (await js.consumer_info(name, "d")).config
            proxy.clear.clear()
            # More than the sockets in between hold, so that what follows stays with the client.
            filling = [asyncio.create_task(broker.publish(b"x" * 900_000, f"{name}-else")) for _ in range(40)]
            await asyncio.wait(filling, timeout=1)
            release.set()
            await asyncio.wait(filling, timeout=0.2)
            await proxy.cut()
            await js.delete_stream(name)
            await js.add_stream(StreamConfig(name=name, subjects=[name]))
            await js.add_consumer(name, config)
            for number in range(100, 105):
                await js.publish(name, b"%d" % number)
            others = await js.pull_subscribe_bind("d", name)
            assert len(await others.fetch(5, DEADLINE)) == 5
            proxy.clear.set()
            release.clear()
            await proxy.open()
            await until(lambda: "was deleted and made again" in caplog.text)
            assert (await js.consumer_info(name, "d")).num_ack_pending == 5
            await asyncio.gather(*filling, return_exceptions=True)


async def make_again(js: JetStreamContext, name: str, config: ConsumerConfig) -> None:
    """Make stream and consumer, and wait until ten messages are delivered."""
    await js.add_stream(StreamConfig(name=name, subjects=[name]))
    await js.add_consumer(name, config)
    for number in range(100, 110):
        await js.publish(name, b"%d" % number)
    await pending(js, name, 10)


@dataclass
class Deleted:
    """A stream that is deleted while 20 of its messages are with a subscriber that can't say anything more.

    Attributes:
        proxy: between the subscriber and the server; jammed.
        seen: what the handler began.
        release: lets the handler end.
        config: of the consumer that is gone.
    """

    proxy: Jam
    seen: Inbox
    release: asyncio.Event
    config: ConsumerConfig


@asynccontextmanager
async def deleted(url: str, js: JetStreamContext, name: str, **options: Any) -> AsyncIterator[Deleted]:
    async with Jam(url) as proxy:
        broker, seen, release = NatsBroker(proxy.url), Inbox(), asyncio.Event()

        @broker.subscriber(name, stream=name, durable="d", **options)
        async def handler(msg: int) -> None:
            seen.put(msg)
            await release.wait()

        async with broker:
            for number in range(20):
                await js.publish(name, b"%d" % number)
            await pending(js, name, 20)
            config = (await js.consumer_info(name, "d")).config
            # What the server pushes while its last subscriber leaves waits for `ack_wait`: that one stays until then.
            proxy.clear.clear()
            await js.delete_stream(name)
            yield Deleted(proxy, seen, release, config)


async def test_messages_of_the_new_stream_that_the_old_consumer_got(
    nats_url: str, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A member of a group gets them on the old subscription: it handles them at once, and not when time is up."""
    async with deleted(nats_url, js, name, queue="q", max_workers=1) as stream:
        await make_again(js, name, stream.config)
        stream.proxy.clear.set()
        # An acknowledgement that is sent before they came would settle one of them at the server.
        await until(lambda: "was deleted and made again" in caplog.text)
        stream.release.set()
        await until(lambda: set(range(100, 110)) <= set(stream.seen.all), SOON)
        await pending(js, name, 0)


async def test_messages_of_a_consumer_that_is_not_there_when_it_is_asked_for(
    nats_url: str, js: JetStreamContext, name: str
) -> None:
    """It is made between the question and the end of the old subscription, which gets what it delivers."""
    async with deleted(nats_url, js, name, queue="q", max_workers=1) as stream:
        proxy = stream.proxy
        proxy.heard.clear()
        proxy.last = b"$JS.API.CONSUMER.INFO."
        proxy.clear.set()
        await until(lambda: b"not found" in proxy.heard)
        assert not proxy.clear.is_set()
        await make_again(js, name, stream.config)
        proxy.last = b""
        proxy.clear.set()
        stream.release.set()
        await until(lambda: set(range(100, 110)) <= set(stream.seen.all), SOON)
        await pending(js, name, 0)


@pytest.mark.parametrize("noticed", [False, True], ids=["before", "after"])
async def test_messages_of_the_new_consumer_that_are_finished_before_or_after_it_is_noticed(
    nats_url: str, js: JetStreamContext, name: str, caplog: pytest.LogCaptureFixture, noticed: bool
) -> None:
    """They are acknowledged to the one that delivered them, and handled once."""
    async with deleted(nats_url, js, name, queue="q", max_workers=30) as stream:
        assert len(await stream.seen.take_many(20, DEADLINE)) == 20
        await make_again(js, name, stream.config)
        assert sorted(await stream.seen.take_many(10, DEADLINE)) == list(range(100, 110))
        if noticed:
            stream.proxy.clear.set()
            await until(lambda: "was deleted and made again" in caplog.text)
        stream.release.set()
        stream.proxy.clear.set()
        await pending(js, name, 0, SOON)
        await js.publish(name, b"7")
        assert await stream.seen.take(SOON) == 7


@pytest.mark.parametrize("options", [{"queue": "q"}, {}], ids=["queue", "push"])
async def test_an_old_acknowledgement_that_settles_messages_that_wait(
    nats_url: str,
    nats_client: Client,
    js: JetStreamContext,
    name: str,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server delivers them to nobody again; the app has them, and handles them once."""
    async with deleted(nats_url, js, name, max_workers=1, **options) as stream:
        addresses = await nats_client.subscribe(stream.config.deliver_subject or "")
        await make_again(js, name, stream.config)
        for _ in range(10):
            await nats_client.publish((await addresses.next_msg(DEADLINE)).reply, b"+ACK")
        await addresses.unsubscribe()
        await pending(js, name, 0)
        stream.proxy.clear.set()
        await until(lambda: "was deleted and made again" in caplog.text)
        stream.release.set()
        await until(lambda: set(range(100, 110)) <= set(stream.seen.all), SOON)
    assert all(stream.seen.all.count(number) == 1 for number in range(100, 110))


async def test_numbers_of_deliveries_that_go_back(
    nats_url: str, nats_client: Client, js: JetStreamContext, name: str
) -> None:
    """Of a consumer that was made again the stream's numbers say nothing: they go on."""
    broker, seen = NatsBroker(nats_url), Inbox()

    @broker.subscriber(name, stream=name, durable="d", queue="q")
    async def handler(msg: int) -> None:
        seen.put(msg)

    async with broker:
        for number in range(1, 6):
            await js.publish(name, b"%d" % number)
        assert await seen.take_many(5) == [1, 2, 3, 4, 5]
        await pending(js, name, 0)
        asked = await nats_client.subscribe(f"$JS.API.CONSUMER.INFO.{name}.d")
        config = (await js.consumer_info(name, "d")).config
        await asked.next_msg(DEADLINE)
        await asked.next_msg(DEADLINE)  # it asks, regularly and seldom while it has nothing
        await js.delete_consumer(name, "d")
        await js.add_consumer(name, config.evolve(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=6))
        await js.publish(name, b"6")
        assert await seen.take() == 6
        await asked.next_msg(4)  # the next of those that it asks anyway would come after 5 seconds
