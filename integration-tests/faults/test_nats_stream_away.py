"""Nobody takes what is published to a stream of somebody else: JetStream knows whether it is worth waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import nats
import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import BrokerUnavailable, NatsBroker, PublishError
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from faults.nats_cluster import Node, cluster, led_by
from faults.nats_plain import CONFIG, INFO, SILENCE, PlainServer, answering
from faults.nats_users import StrictServer
from servers import running
from waiting import DEADLINE, until

OFFLINE = {"error": {"code": 500, "err_code": 10118, "description": "stream is offline"}}
NO_LEADER = {"error": {"code": 503, "err_code": 10008, "description": "JetStream system temporarily unavailable"}}
NOT_ENABLED = {"error": {"code": 503, "err_code": 10039, "description": "JetStream not enabled for account"}}
MISSING = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
AWAY = "the stream 'out' does not answer"
NONE = "no stream takes this subject, and 'out' should"
COUNT = 10
MANY = 100


@pytest.fixture(scope="module")
def plain_server() -> Iterator[PlainServer]:
    with running(PlainServer()) as server:
        yield server


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    with cluster() as servers:
        yield servers


@pytest.mark.parametrize(
    ("answer", "subject", "error", "words"),
    [
        (INFO, "out.a", BrokerUnavailable, AWAY),
        (OFFLINE, "out.a", BrokerUnavailable, f"{AWAY}: .*stream is offline"),
        (NO_LEADER, "out.a", BrokerUnavailable, f"{AWAY}: .*temporarily unavailable"),
        (SILENCE, "out.a", BrokerUnavailable, AWAY),
        ({"config": 7}, "out.a", BrokerUnavailable, AWAY),
        ({**INFO, "config": {**CONFIG, "subjects": [7, "out.*"]}}, "out.a", BrokerUnavailable, AWAY),
        (None, "out.a", PublishError, NONE),
        (NOT_ENABLED, "out.a", PublishError, NONE),
        (MISSING, "out.a", PublishError, NONE),
        (INFO, "other", PublishError, NONE),
    ],
    ids=[
        "there",
        "offline",
        "no leader",
        "silent",
        "nonsense",
        "wrong subjects",
        "no jetstream",
        "not for the account",
        "missing",
        "other subjects",
    ],
)
async def test_a_stream_that_does_not_answer(
    plain_server: PlainServer, answer: Any, subject: str, error: type[Exception], words: str
) -> None:
    """The server has no JetStream, and a client answers for one that has lost the server of the stream."""
    client = await nats.connect(plain_server.url)
    try:
        asked = await answering(client, answer)
        async with NatsBroker(plain_server.url) as broker:
            with pytest.raises(error, match=words):
                await broker.publish(b"x", subject, stream="out", timeout=3)
            with pytest.raises(PublishError, match="no stream takes this subject"):
                await broker.publish(b"x", subject, stream="o u.t", timeout=3)
    finally:
        await client.close()
    assert bool(asked.all) == (answer is not None)


async def test_no_jetstream_any_more(plain_server: PlainServer) -> None:
    """The servers that have it are away, of a cluster whose others have none: the stream was there."""
    client = await nats.connect(plain_server.url)

    async def store(message: Msg) -> None:
        await message.respond(b'{"stream": "out", "seq": 1}')

    try:
        storing = await client.subscribe("out.a", cb=store)
        await client.flush()
        async with NatsBroker(plain_server.url) as broker:
            await broker.publish(b"x", "out.a", stream="out")
            await storing.unsubscribe()
            await client.flush()
            with pytest.raises(BrokerUnavailable, match=AWAY):
                await broker.publish(b"x", "out.a", stream="out", timeout=6)
    finally:
        await client.close()


async def test_what_is_known_is_said_when_the_time_is_over(plain_server: PlainServer) -> None:
    """The last attempt is not answered at all: the reason is why those before it were refused."""
    client = await nats.connect(plain_server.url)

    async def respond(question: Msg) -> None:
        await client.subscribe("out.a")
        await question.respond(json.dumps(OFFLINE).encode())

    try:
        await client.subscribe("$JS.API.STREAM.INFO.out", cb=respond)
        await client.flush()
        async with NatsBroker(plain_server.url) as broker:
            with pytest.raises(BrokerUnavailable, match=f"{AWAY}: .*stream is offline.*; it may have been stored"):
                await broker.publish(b"x", "out.a", stream="out", timeout=3)
    finally:
        await client.close()


async def test_an_outage_is_one_question(plain_server: PlainServer) -> None:
    """However many messages wait; and a stream that is missing is not one for each of them."""
    client = await nats.connect(plain_server.url)
    try:
        # That a stream is missing is no news to a message that was published after the question.
        for answer, error, most in ((OFFLINE, BrokerUnavailable, 1), (MISSING, PublishError, MANY // 2)):
            asked = await answering(client, answer)
            async with NatsBroker(plain_server.url) as broker:
                publishing = [broker.publish(b"x", "out.a", stream="out", timeout=3) for _ in range(MANY)]
                results = await asyncio.gather(*publishing, return_exceptions=True)
            assert {type(one) for one in results} == {error}
            assert 1 <= len(asked.all) <= most
            for subscription in list(client._subs.values()):
                await subscription.unsubscribe()
    finally:
        await client.close()


@pytest.mark.parametrize("was_there", [True, False])
async def test_nobody_may_ask_for_the_stream(was_there: bool) -> None:
    """What is known is whether it has ever stored something."""
    with running(StrictServer()) as server:
        client = await nats.connect(server.url_of("operator"))
        js = client.jetstream()
        try:
            await js.add_stream(name="out", subjects=["out.*"])
            server.deny(publish="$JS.API.STREAM.INFO.out")
            async with NatsBroker(server.url_of("app")) as broker:
                if was_there:
                    await broker.publish(b"x", "out.a", stream="out")
                await js.delete_stream("out")
                error, words = (BrokerUnavailable, AWAY) if was_there else (PublishError, NONE)
                with pytest.raises(error, match=words):
                    await broker.publish(b"x", "out.a", stream="out", timeout=3)
        finally:
            await client.close()


async def test_the_server_of_a_stream_is_away(
    nats_url: str, name: str, js: JetStreamContext, nodes: list[Node]
) -> None:
    """The message that is handled waits, and no attempt is counted."""
    out = f"{name}-out"
    leader, other = await led_by(nodes, out, replicas=1)
    broker, cluster_broker, seen = NatsBroker(nats_url), NatsBroker(other.url), Inbox()

    @broker.subscriber(name, stream=name, durable="d", pull_sub=True)
    async def handler(msg: int) -> None:
        await cluster_broker.publish(msg, f"{out}.a", stream=out, timeout=3)
        seen.put(msg)

    async with cluster_broker, broker:
        leader.kill()
        for number in range(COUNT):
            await broker.publish(number, name, stream=name)
        await until(lambda: broker.report.counts.get("paused"))
        leader.start()
        await until(lambda: set(seen.all) == set(range(COUNT)))
        with pytest.raises(PublishError, match="no stream takes this subject"):
            await cluster_broker.publish(b"x", f"{name}-none", stream=f"{name}-none", timeout=30)
    assert not {"failed", "rejected"} & set(broker.report.counts)
    assert (await js.consumer_info(name, "d")).num_ack_pending == 0


async def test_the_servers_of_a_stream_elect_who_leads_it(name: str, nodes: list[Node]) -> None:
    leader, other = await led_by(nodes, name, replicas=3)
    async with NatsBroker(other.url) as broker:
        leader.kill()
        try:
            await broker.publish(b"x", f"{name}.a", stream=name, timeout=DEADLINE)
        finally:
            leader.start()
