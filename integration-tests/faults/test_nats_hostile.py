"""What anybody may publish to a NATS server, against subscribers of subjects and streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import ConsumerConfig, NatsBroker, NatsMessage, PublishError, PullSub
from nats.aio.client import Client
from nats.js import JetStreamContext

from proxy import Proxy
from servers import address_of
from waiting import DEADLINE, until

STATUSES = [
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
    b"NATS/1.0 409 Exceeded MaxRequestBatch of \xc2\xb2\r\n\r\n",
    b"NATS/1.0 408 x\r\nNats-Pending-Messages: many\r\n\r\n",
    b"NATS/1.0 999 \xff\r\n\r\n",
    b"NATS/1.0 \xff\r\n\r\n",
    b"NATS/1.0 100 FlowControl Request\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: $JS.FC.x.y.z\r\n\r\n",
    b"NATS/1.0 409 Batch Completed\r\nNats-Pending-Messages: 7\r\nNats-Pending-Bytes: " + b"9" * 500 + b"\r\n\r\n",
    b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\nNats-Pending-Bytes: -1\r\n\r\n",
    b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\nNats-Pending-Bytes: " + b"9" * 500 + b"\r\n\r\n",
    b"NATS/1.0 409 Exceeded MaxRequestMaxBytes of \xc2\xb2\r\n\r\n",
    b"NATS/1.0 409 Exceeded MaxRequestMaxBytes of 0\r\n\r\n",
]
KINDS = {"push": {"durable": "d"}, "pull": {"durable": "d", "pull_sub": PullSub(10)}}


class Sender:
    """A client that sends whatever bytes it likes, and knows that the server read them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def publish(self, subject: bytes, body: bytes = b"", headers: bytes = b"", reply: bytes = b"") -> None:
        sizes = (len(headers), len(headers) + len(body))
        self.writer.write(b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, *sizes, headers, body))
        await self.confirm()

    async def confirm(self) -> None:
        self.writer.write(b"PING\r\n")
        while (line := await asyncio.wait_for(self.reader.readline(), DEADLINE)) != b"PONG\r\n":
            assert line, "the connection is lost"
            assert not line.startswith(b"-ERR"), line


@pytest.fixture
async def sender(nats_url: str) -> AsyncIterator[Sender]:
    reader, writer = await asyncio.open_connection(*address_of(nats_url))
    await reader.readline()
    writer.write(b'CONNECT {"verbose": false, "headers": true, "protocol": 1}\r\n')
    try:
        yield Sender(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stored_message_that_looks_like_a_status(
    nats_url: str, name: str, sender: Sender, js: JetStreamContext, kind: str
) -> None:
    """It is a message like any other: handled, acknowledged, and nothing is restarted."""
    broker, seen = NatsBroker(nats_url), Inbox()

    @broker.subscriber(f"{name}.*", stream=name, **KINDS[kind])  # type: ignore[arg-type]
    async def handler(message: NatsMessage) -> None:
        seen.put(message.body or message.raw_message.data)

    async with broker:
        for status in STATUSES:
            await sender.publish(name.encode() + b".a", b"", status)
            await sender.publish(name.encode() + b".b", b"good", b"NATS/1.0\r\n\r\n")
        await until(lambda: len(seen.all) == 2 * len(STATUSES))
        assert seen.all == [b"", b"good"] * len(STATUSES)
    assert "restarted" not in broker.report.counts
    info = await js.consumer_info(name, "d")
    assert (info.num_ack_pending, info.num_redelivered, info.num_pending) == (0, 0, 0)


async def test_subjects_and_replies_that_are_no_text(nats_url: str, name: str, sender: Sender) -> None:
    broker, seen = NatsBroker(nats_url), Inbox()

    @broker.subscriber(f"{name}.core.>")
    async def core(message: NatsMessage) -> str:
        seen.put(message.address)
        return "answer"

    @broker.subscriber(f"{name}.stored.>", stream=name, pull_sub=True)
    async def stored(message: NatsMessage) -> None:
        seen.put(message.address)

    async with broker:
        for kind in (b".core.", b".stored."):
            subject = name.encode() + kind
            for token in (b"\xff", b"\x0b", b"\x0c1\x0c2", b"\xc2\xa0", b"\xed\xa0\x80"):
                await sender.publish(subject + token, b"x", b"NATS/1.0\r\n\r\n", b"back.\xff" + token)
            await sender.publish(subject + b"good", b"x", b"NATS/1.0\r\n\r\n")
            got = await seen.take_many(6)
            assert got[-1] == f"{name}{kind.decode()}good"
            assert got[0] == f"{name}{kind.decode()}\\xff"
        assert await broker.ping()
    assert broker.report.counts["replies_refused"] == 5
    assert "restarted" not in broker.report.counts


async def test_a_subject_is_not_read_as_several_fields(nats_url: str, name: str, sender: Sender) -> None:
    """To who splits lines at any white space, the subject ends before the number of another subscription."""
    broker, seen = NatsBroker(nats_url), Inbox()

    @broker.subscriber(f"{name}.open.>")
    async def open_to_all(message: NatsMessage) -> None:
        seen.put(("open", message.address))

    @broker.subscriber(f"{name}.guarded")
    async def guarded(message: NatsMessage) -> None:
        seen.put(("guarded", message.address))

    async with broker:
        for number in range(5):
            for space in (b"\x0b", b"\x0c"):
                subject = name.encode() + b".open." + space + b"%d" % number + space
                await sender.publish(subject, b"x", b"NATS/1.0\r\n\r\n")
        got = await seen.take_many(10)
    assert {kind for kind, _ in got} == {"open"}


class Forger(Proxy):
    """Puts messages on the wire that the server does not send: it takes no address for acknowledgements of a client."""

    client: asyncio.StreamWriter

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client = writer
        await super()._serve(reader, writer)

    def forge(self, subject: str, body: bytes, reply: bytes, headers: bytes = b"NATS/1.0\r\n\r\n") -> None:
        line = bytes(self.sent).split(f"SUB {subject} ".encode())[1].split(b"\r\n")[0]
        words = (subject.encode(), line.split(b" ")[-1], reply, len(headers), len(headers) + len(body), headers, body)
        self.client.write(b"HMSG %b %b %b %d %d\r\n%b%b\r\n" % words)


async def test_statuses_that_are_forged(nats_url: str, name: str, sender: Sender, nats_client: Client) -> None:
    """Who may publish to where a subscriber gets what it asked for does not keep it from asking."""
    requests = await nats_client.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.{name}.>")
    await nats_client.flush()
    broker, seen = NatsBroker(nats_url), Inbox()

    @broker.subscriber(name, stream=name, pull_sub=True)
    async def handler(message: NatsMessage) -> None:
        seen.put(bytes(message.body))

    async with broker:
        inbox = (await requests.next_msg(DEADLINE)).reply.encode()
        for number, status in enumerate(STATUSES):
            await sender.publish(inbox, b"", status)
            for body in (b"%d a" % number, b"%d b" % number):
                await broker.publish(body, name, stream=name)
                await until(lambda body=body: body in seen.all)
    assert len(seen.all) == 2 * len(STATUSES)
    assert "restarted" not in broker.report.counts


async def test_where_a_consumer_is_told_to_go_on_is_forged(nats_url: str, name: str, sender: Sender) -> None:
    """Where the messages of a group go follows from its name; what stands there is written into no command."""
    seen, inbox = Inbox(), f"_INBOX.{name}.q".encode()
    async with Forger(nats_url) as proxy:
        broker = NatsBroker(proxy.url)

        @broker.subscriber(name, "q", stream=name)
        async def handler(message: NatsMessage) -> None:
            seen.put(bytes(message.body))

        async with broker:
            own = f"$JS.FC.{name}.q.".encode()
            wrong = [
                b"x a b c",
                b"x.y.z",
                b"x 14\nhello",
                own[7:] + b"a b c",
                own[7:] + b"a.b",
                own[7:] + b"*",
                own[7:],
            ]
            wrong += [own[7:] + b"t" * 5000, own[7:] + b"\x00", own[7:] + b"a  0\n\nPUB x 0", b"a b." + own[7:] + b"t"]
            for value in wrong:
                header = b"Nats-Consumer-Stalled: $JS.FC." + value
                await sender.publish(inbox, b"", b"NATS/1.0 100 Idle Heartbeat\r\n%b\r\n\r\n" % header)
            await sender.publish(inbox, b"", b"NATS/1.0 100 Flow\r\n\r\n", b"$JS.FC.other.q.t")
            for value in (own + b"one", b"$JS.FC.domain.hash." + own[7:] + b"two"):
                header = b"Nats-Consumer-Stalled: " + value
                await sender.publish(inbox, b"", b"NATS/1.0 100 Idle Heartbeat\r\n%b\r\n\r\n" % header)
                await until(lambda value=value: b"PUB %b  0\r\n" % value in proxy.sent)
            await broker.publish(b"good", name, stream=name)
            assert await seen.take() == b"good"
            assert await broker.ping()
        assert bytes(proxy.sent).count(b"PUB $JS.FC.") == 2
        assert bytes(proxy.sent).count(b"CONNECT {") == 1


@pytest.mark.parametrize("options", [{"queue": "q"}, {"pull_sub": PullSub(100)}], ids=["push", "pull"])
async def test_what_did_not_come_from_the_stream_waits_for_no_room(
    nats_url: str, name: str, sender: Sender, options: dict[str, Any]
) -> None:
    """Nothing bounds how much anybody publishes to where messages go, so none of it is kept while handlers are busy."""
    release, entered = asyncio.Event(), asyncio.Event()
    async with Forger(nats_url) as proxy:
        broker = NatsBroker(proxy.url)

        @broker.subscriber(name, stream=name, **options)
        async def handler(message: NatsMessage) -> None:
            entered.set()
            await release.wait()

        async with broker:
            for number in range(700):
                await broker.publish(number, name, stream=name)
            await asyncio.wait_for(entered.wait(), DEADLINE)
            inboxes = [one.split(b" ")[0] for one in bytes(proxy.sent).split(b"SUB ") if one.startswith(b"_INBOX.")]
            inboxes = [one for one in inboxes if not one.endswith(b".*")]
            for body in (b"x" * 100_000, b""):
                for inbox in inboxes:
                    for reply in (b"", b"$JS.API.STREAM.DELETE.%b" % name.encode()):
                        await sender.publish(inbox, body, b"NATS/1.0\r\n\r\n", reply)
            await until(lambda: broker.report.counts.get("foreign") == 4 * len(inboxes))
            assert inboxes
            release.set()


async def test_acknowledgements_that_are_forged(nats_url: str, name: str, js: JetStreamContext) -> None:
    """Who may publish to where a consumer delivers chooses neither what is acknowledged nor where reading goes on."""
    other = f"{name}-other"
    await js.add_stream(name=other, subjects=[f"{other}.>"])
    await js.add_consumer(other, ConsumerConfig(durable_name="d", ack_wait=300))
    await js.publish(f"{other}.a", b"theirs")
    (theirs,) = await (await js.pull_subscribe_bind("d", other)).fetch(1)
    seen, entered, release = Inbox(), asyncio.Event(), asyncio.Event()
    deliver = f"{name}.deliver"
    config = ConsumerConfig(deliver_subject=deliver, ack_wait=2)
    async with Forger(nats_url) as proxy:
        broker = NatsBroker(proxy.url)

        @broker.subscriber(f"{name}.a", stream=name, durable="d", config=config, max_workers=5)
        async def handler(message: NatsMessage) -> None:
            seen.put((bytes(message.body), message.attempt))
            if message.body == b"real":
                entered.set()
                await release.wait()

        async with broker:
            await broker.publish(b"real", f"{name}.a", stream=name)
            await asyncio.wait_for(entered.wait(), DEADLINE)
            for reply in (
                theirs.reply.encode(),
                b"$JS.API.STREAM.DELETE.%b" % other.encode(),
                b"$JS.ACK.%b.d.-4611686018427387904.1.1.1.0" % name.encode(),
                b"$JS.ACK.%b.d.1.%b.1.1.0" % (name.encode(), b"9" * 5000),
                b"$JS.ACK.%b.d" % name.encode(),
                b"",
            ):
                proxy.forge(deliver, b"forged", reply)
            await until(lambda: broker.report.counts.get("foreign") == 6)
            # What only the server says.
            proxy.forge(deliver, b"", f"$JS.API.STREAM.DELETE.{other}".encode(), b"NATS/1.0 100 Flow\r\n\r\n")
            # The number of a message that runs: its own acknowledgement must not be the other's.
            proxy.forge(deliver, b"rival", b"$JS.ACK.%b.d.1.1.1.1.0" % name.encode())
            await until(lambda: (b"rival", 1) in seen.all)
            # A number that no message has: what comes before it is read all the same.
            proxy.forge(deliver, b"far", b"$JS.ACK.%b.d.1.999999999999.1.1.0" % name.encode())
            await until(lambda: (b"far", 1) in seen.all)
            await broker.publish(b"next", f"{name}.a", stream=name)
            await until(lambda: (b"next", 1) in seen.all)
            assert (await js.consumer_info(name, "d")).num_ack_pending >= 1
            release.set()
            deadline = asyncio.get_running_loop().time() + DEADLINE
            while (await js.consumer_info(name, "d")).num_ack_pending:
                assert asyncio.get_running_loop().time() < deadline, "the message is not acknowledged"
                await asyncio.sleep(0.05)
        assert (await js.consumer_info(other, "d")).num_ack_pending == 1
        assert b"PUB $JS.API.STREAM.DELETE" not in proxy.sent
        assert "restarted" not in broker.report.counts


async def test_a_forged_number_does_not_move_the_reader_on(nats_url: str, name: str, js: JetStreamContext) -> None:
    """The consumer is lost after a message that claims a number far behind all others."""
    seen = Inbox()
    async with Forger(nats_url) as proxy:
        broker = NatsBroker(proxy.url)

        @broker.subscriber(f"{name}.a", stream=name)
        async def handler(message: NatsMessage) -> None:
            seen.put(bytes(message.body))

        async with broker:
            await broker.publish(b"1", f"{name}.a", stream=name)
            assert await seen.take() == b"1"
            (info,) = await js.consumers_info(name)
            reply = f"$JS.ACK.{name}.{info.name}.1.999999999999.1.1.0"
            proxy.forge(info.config.deliver_subject or "", b"far", reply.encode())
            assert await seen.take() == b"far"
            await js.delete_consumer(name, info.name)
            await broker.publish(b"2", f"{name}.a", stream=name)
            await until(lambda: b"2" in seen.all)


@pytest.mark.parametrize(
    "reply", ["$JS.API.STREAM.DELETE.{}", "$JS.hub.API.STREAM.DELETE.{}", "$SYS.x", "a..b", "a.*", ">"]
)
async def test_an_answer_goes_to_no_address_of_the_server(
    nats_url: str, name: str, sender: Sender, js: JetStreamContext, reply: str
) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.stored"])
    broker, seen = NatsBroker(nats_url), Inbox()

    @broker.subscriber(f"{name}.core")
    async def core() -> None:
        seen.put("core")

    @broker.subscriber(f"{name}.stored", stream=name)
    async def stored() -> None:
        seen.put("stored")

    target = reply.format(name).encode()
    async with broker:
        await sender.publish(f"{name}.core".encode(), b"", b"NATS/1.0\r\n\r\n", target)
        await sender.publish(f"{name}.stored".encode(), b"", b"NATS/1.0\r\nreply_to: %b\r\n\r\n" % target)
        assert sorted(await seen.take_many(2)) == ["core", "stored"]
        await until(lambda: broker.report.counts.get("replies_refused") == 2)
        assert await broker.ping()
    assert len(seen.all) == 2
    assert (await js.stream_info(name)).state.messages == 1


@pytest.mark.parametrize(("replies", "answered"), [("inbox", ["inbox"]), ("plain", ["inbox", "plain"]), ("off", [])])
async def test_who_is_answered(
    nats_url: str, name: str, nats_client: Client, replies: Any, answered: list[str]
) -> None:
    broker, seen, answers = NatsBroker(nats_url, replies=replies, inbox_prefix=f"_MINE.{name}"), Inbox(), Inbox()

    @broker.subscriber(name)
    async def handler(msg: str) -> str:
        seen.put(msg)
        return msg

    async def answer(message: Any) -> None:
        answers.put(message.data.decode())

    for subject in (f"_MINE.{name}.1", f"{name}.plain"):
        await nats_client.subscribe(subject, cb=answer)
    async with broker:
        await nats_client.publish(name, b"inbox", reply=f"_MINE.{name}.1")
        await nats_client.publish(name, b"plain", reply=f"{name}.plain")
        await seen.take_many(2)
        await nats_client.publish(name, b"last", reply=f"{name}.plain")
        await seen.take()
        assert await broker.ping()
        await nats_client.flush()
        await until(lambda: len(answers.all) >= len(answered))
    assert [one for one in answers.all if one != "last"] == answered


async def test_what_is_too_large_breaks_no_connection(nats_url: str, name: str, nats_client: Client) -> None:
    broker, seen, lost = NatsBroker(nats_url), Inbox(), asyncio.Event()

    async def on_lost() -> None:
        lost.set()

    broker.options["disconnected_cb"] = on_lost

    @broker.subscriber(f"{name}.*")
    async def handler(msg: str, message: NatsMessage) -> str:
        seen.put(message.address)
        return msg

    broker.publisher(f"{name}-stored", stream=f"{name}-stored")
    most = nats_client.max_payload
    async with broker:
        for options in ({}, {"stream": f"{name}-stored"}):
            for body, subject, more in (
                (b"x" * most, f"{name}-stored", {}),
                (b"x", f"{name}-stored", {"headers": {"h": "v" * most}}),
                (b"x", f"{name}-stored", {"correlation_id": "c" * most}),
                (b"x", f"{name}-stored." + "s" * 5000, {}),
            ):
                with pytest.raises(PublishError, match=r"more than the server takes|too long for one line"):
                    await broker.publish(body, subject, **more, **options)  # type: ignore[call-overload]
        with pytest.raises(PublishError, match="too long for one line"):
            await broker.publish(b"x", name, reply_to="r" * 5000)
        # What a sender chose, and an answer repeats.
        await nats_client.publish(f"{name}.a", b"x" * (most - 100), reply="back", headers={"correlation_id": "c" * 50})
        await nats_client.publish(f"{name}.b", b"x", reply="r" * 4000)
        await nats_client.publish(f"{name}.c", b"x")
        assert await seen.take_many(3) == [f"{name}.a", f"{name}.b", f"{name}.c"]
        assert await broker.ping()
        assert not lost.is_set()
    assert seen.all == [f"{name}.a", f"{name}.b", f"{name}.c"]


@pytest.mark.parametrize("size", [1, 1000])
async def test_what_waits_is_bounded_with_its_headers(
    nats_url: str, name: str, nats_client: Client, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    broker, entered, release = NatsBroker(nats_url), asyncio.Event(), asyncio.Event()
    most = 200_000

    @broker.subscriber(name, pending_bytes_limit=most, prefetch_bytes=10_000)
    async def handler(message: NatsMessage) -> None:
        held.append(message.size)
        entered.set()
        await release.wait()

    held: list[int] = []
    with caplog.at_level(logging.ERROR):
        async with broker:
            await nats_client.publish(name, b"", headers={"first": "1"})
            await asyncio.wait_for(entered.wait(), DEADLINE)
            for _ in range(400):
                await nats_client.publish(name, b"", headers={"h": "v" * 10 * size})
            for _ in range(2):  # the client sends the first question past what still waits to be sent
                await nats_client.flush(DEADLINE)  # type: ignore[arg-type]
            assert await broker.ping(DEADLINE)  # what was sent before its answer has come
            release.set()
            dropped = broker.report.counts.get("dropped", 0)
            await until(lambda: len(held) + dropped == 401)
    assert sum(held) < most + 600 * (30 + 10 * size)
    assert (dropped > 0) == (size == 1000)
