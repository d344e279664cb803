"""What is published to a stream and never confirmed, though the server is there: it is the failure of its message."""

from __future__ import annotations

import asyncio
import logging

import nats
import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import BrokerUnavailable, JStream, NatsBroker, PublishError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from faults.nats_plain import INFO, PlainServer, answering
from faults.nats_users import StrictServer
from servers import ProcessServer, running
from waiting import until

PATIENT_SECONDS = 30.0
"""How long a publication may take that is to be refused long before."""
PUBLISH_SECONDS = 4.0
"""How long a confirmation is waited for; JetStream is asked before that is over."""
COUNT = 10


@pytest.fixture
def nats_url(nats_process: ProcessServer) -> str:
    return nats_process.url


async def listen(client: Client) -> Inbox:
    """Subscribe to everything, as who watches does: then no publication is without a listener."""
    heard = Inbox()

    async def hear(message: Msg) -> None:
        if not message.subject.startswith(("$", "_")):
            heard.put(message.subject)

    await client.subscribe(">", cb=hear)
    await client.flush()
    return heard


def forwarding(url: str, name: str) -> tuple[NatsBroker, Inbox]:
    """An app whose senders choose where it publishes."""
    broker, done = NatsBroker(url, publish_timeout=PUBLISH_SECONDS), Inbox()

    @broker.subscriber(name, stream=JStream(name), durable="d", pull_sub=True)
    async def forward(msg: str) -> None:
        await broker.publish(msg, f"{name}-out.{msg}", stream=f"{name}-out")
        done.put(msg)

    return broker, done


async def refuse_only(broker: NatsBroker, done: Inbox, name: str, wrong: str) -> None:
    """Have one message published to where it is not taken, and others behind it: only that one fails."""
    names = [str(number) for number in range(COUNT)]
    async with broker:
        for msg in (wrong, *names):
            await broker.publish(msg, name, stream=name)
        await until(lambda: set(done.all) == set(names))
        await until(lambda: broker.report.counts.get("rejected"))
    assert set(broker.report.counts) == {"failed", "retried", "rejected"}


@pytest.mark.parametrize("token", ["Secret", 'say-"x\\y"', "join\u200ded"])
async def test_a_subject_that_is_not_permitted(name: str, token: str) -> None:
    """The server says so, and not to whom; it never confirms."""
    with running(StrictServer()) as server:
        operator = await nats.connect(server.url_of("operator"))
        broker, done = forwarding(server.url_of("app"), name)
        try:
            await operator.jetstream().add_stream(StreamConfig(name=f"{name}-out", subjects=[f"{name}-out.*"]))
            server.deny(publish=f"{name}-out.{token}")
            await refuse_only(broker, done, name, token)
            async with broker:
                with pytest.raises(PublishError, match="permissions violation"):
                    await broker.publish(b"x", f"{name}-out.{token}", stream=f"{name}-out", timeout=PATIENT_SECONDS)
        finally:
            await operator.close()


async def test_a_subject_that_somebody_else_hears(
    nats_url: str, nats_client: Client, js: JetStreamContext, name: str
) -> None:
    """The server does not say that no stream takes it: there is somebody who does."""
    await js.add_stream(StreamConfig(name=f"{name}-out", subjects=[f"{name}-out.*"]))
    heard = await listen(nats_client)
    broker, done = forwarding(nats_url, name)
    await refuse_only(broker, done, name, "other.subject")
    assert f"{name}-out.other.subject" in heard.all


@pytest.mark.parametrize("declared", [False, True])
async def test_a_stream_that_is_gone_and_whose_subject_somebody_hears(
    nats_url: str,
    nats_client: Client,
    js: JetStreamContext,
    name: str,
    declared: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the app declares itself it declares again; what it does not is missed."""
    await js.add_stream(StreamConfig(name=name, subjects=[name]))
    await listen(nats_client)
    broker = NatsBroker(nats_url)
    broker.publisher(name, stream=JStream(name, declare=declared))
    async with broker:
        await js.delete_stream(name)
        publishing = broker.publish(b"x", name, stream=name, timeout=PATIENT_SECONDS)
        if declared:
            with caplog.at_level(logging.WARNING):
                assert (await publishing).seq == 1
            assert "was gone, and is declared again" in caplog.text
        else:
            with pytest.raises(PublishError, match="no stream takes this subject"):
                await publishing


async def test_a_stream_that_confirms_nothing(nats_url: str, js: JetStreamContext, name: str) -> None:
    """Nobody would ever know whether a message is stored, and it would be stored again and again."""
    await js.add_stream(StreamConfig(name=name, subjects=[name], no_ack=True))
    async with NatsBroker(nats_url) as broker:
        with pytest.raises(PublishError, match="no_ack"):
            await broker.publish(b"x", name, stream=name, timeout=PATIENT_SECONDS)
    assert (await js.stream_info(name)).state.messages == 1


@pytest.mark.parametrize("is_late", [True, False])
async def test_a_stream_that_is_slow(is_late: bool) -> None:
    """It takes the subject, so it is waited for, and nothing is published twice."""
    stored, confirming = Inbox(), asyncio.Event()
    with running(PlainServer()) as server:
        client = await nats.connect(server.url)

        async def store(message: Msg) -> None:
            stored.put(message.data)
            await confirming.wait()
            await message.respond(b'{"stream": "out", "seq": 7}')

        try:
            asked = await answering(client, INFO)
            await client.subscribe("out.a", cb=store)
            await client.flush()
            async with NatsBroker(server.url) as broker:
                publishing = asyncio.create_task(broker.publish(b"x", "out.a", stream="out", timeout=4))
                await asked.take()
                if is_late:
                    confirming.set()
                    assert (await publishing).seq == 7
                else:
                    with pytest.raises(BrokerUnavailable, match="no confirmation; it may have been stored"):
                        await publishing
        finally:
            confirming.set()
            await client.close()
    assert stored.all == [b"x"]


async def test_a_subject_that_the_account_maps_to_another() -> None:
    """The stream does not list what was published, and takes it all the same, though late."""
    confirming = asyncio.Event()
    with running(PlainServer()) as server:
        client = await nats.connect(server.url)

        async def store(message: Msg) -> None:
            await confirming.wait()
            await message.respond(b'{"stream": "out", "seq": 7}')

        try:
            asked = await answering(client, INFO)
            await client.subscribe("mapped.a", cb=store)
            await client.flush()
            async with NatsBroker(server.url) as broker:
                publishing = asyncio.create_task(broker.publish(b"x", "mapped.a", stream="out"))
                await asked.take()
                await client.flush()
                confirming.set()
                assert (await publishing).seq == 7
        finally:
            confirming.set()
            await client.close()
