"""What a sender chose hurts nobody but its own message: over a socket, next to good neighbours."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import NatsBroker, NatsMessage, PublishError, SetupError
from fastapi_stream_nats.client import Connection
from fastapi_stream_nats.message import Foreign, Origin, read_headers
from fastapi_stream_nats.wire import Limits, publication
from toy_nats import ToyServer, message

SEEDS = range(6)
ODD = [
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x85",
    b"\xa0",
    b"\xc2\xa0",
    b"\xff",
    b"\x00",
    b"\xed\xa0\x80",
    b"*",
    b">",
    b"..",
    b"$",
]
HEADERS = [
    b"",
    b"NATS/1.0",
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0 \xff\xfe\r\n\r\n",
    b"NATS/1.0 100\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0 409 Exceeded MaxRequestBatch of \xc2\xb2\r\n\r\n",
    b"NATS/1.0 404 x\r\nNats-Pending-Messages: \xff\r\n\r\n",
    b"N",
    b"\r\n\r\n\r\n",
    b"NATS/1.0\r\n\xff\xfe: \xff\r\n: \r\n:\r\nno colon\r\ncontent-type: \xff\r\nreply_to: \xff\r\n\r\n",
    b"NATS/1.0\r\ncontent-type: " + b"x" * 5000 + b"\r\ncorrelation_id: \x00\r\n\r\n",
]


def hostile(number: int, dice: random.Random) -> bytes:
    """A message that the real server would deliver, with all that its sender may choose."""
    token = b"".join(dice.choice([*ODD, b"a", b"7"]) for _ in range(dice.randint(1, 6)))
    reply = dice.choice([b"", b"_INBOX.\xff", b"$JS.API.STREAM.DELETE.x", b"\x0b1", b"x" * 3000, token])
    body = dice.choice([b"", b"{", b"\xff", b"PING\r\nMSG hostile 1 1\r\n", dice.randbytes(50)])
    return message(b"hostile." + token, number, body, dice.choice(HEADERS), reply)


@pytest.mark.parametrize("seed", SEEDS)
async def test_good_neighbours_are_handled_and_the_connection_stays(seed: int) -> None:
    dice = random.Random(seed)
    seen = Inbox()
    async with ToyServer() as server:
        broker = NatsBroker(server.url, logger=None)

        @broker.subscriber("hostile.>")
        async def any_of_them(message: NatsMessage) -> None:
            repr((message.raw_message, message.headers, message))

        @broker.subscriber("good")
        async def good(msg: int) -> None:
            seen.put(msg)

        async with broker:
            numbers = server.subscriptions
            foreign = [999, *(number for subject, number in numbers.items() if subject != "good")]
            data = b""
            for neighbour in range(60):
                for _ in range(dice.randint(0, 3)):
                    data += hostile(dice.choice(foreign), dice)
                data += message(b"good", numbers["good"], b"%d" % neighbour)
            cuts = sorted(dice.sample(range(1, len(data)), dice.randint(0, 40)))
            await server.send(data, *cuts)
            assert await seen.take_many(60) == list(range(60))
            assert await broker.ping()
    assert server.connections == 1
    assert "restarted" not in broker.report.counts


@pytest.mark.parametrize("seed", SEEDS)
async def test_after_garbage_the_connection_is_made_again(seed: int) -> None:
    """Only a broken server sends it; whoever reads on as if nothing had happened is deaf."""
    dice = random.Random(seed)
    seen = Inbox()
    garbage = [
        b"MSG good %d five\r\n",
        b"HMSG good %d 9 3\r\nabc\r\n",
        b"MSG good %d 99999999999999999999999\r\n",
        b"INFO {\xff\r\n",
        b"\xff\xfe\r\n",
        dice.randbytes(100).replace(b"%", b"") + b"\r\nHELLO\r\n",
    ]
    async with ToyServer() as server:
        broker = NatsBroker(server.url, logger=None, reconnect_time_wait=0.01)

        @broker.subscriber("good")
        async def good(msg: int) -> None:
            seen.put(msg)

        async with broker:
            number = server.subscriptions["good"]
            wrong = garbage[seed]
            await server.send(message(b"good", number, b"1") + (wrong % number if b"%d" in wrong else wrong))
            assert await seen.take() == 1
            await server.until(b"CONNECT", times=2)
            await server.until(b"SUB good", times=2)
            await server.send(message(b"good", number, b"2"))
            assert await seen.take() == 2


async def test_a_confirmation_that_is_none_is_waited_over() -> None:
    """A subscriber of the same subject may answer before the stream does."""
    async with ToyServer() as server, NatsBroker(server.url) as broker:
        sending = asyncio.ensure_future(broker.publish("hi", "a", stream="s"))
        await server.until(b"HPUB a ")
        line = bytes(server.got).split(b"HPUB a ")[1].split(b"\r\n")[0]
        inbox = line.split(b" ")[0]
        (subject, number), *_ = server.subscriptions.items()
        wrong = [b"", b"{", b"\xff", b"{}", b"[1]", b'{"stream": 7, "seq": "x"}', b'{"error": 5}']
        junk = [message(inbox, number, body) for body in wrong]
        junk += [message(subject.encode()[:-1] + token, number, b"1") for token in (b"x", b"", b"\xff", b"-1")]
        await server.send(b"".join(junk))
        await server.send(message(inbox, number, b'{"stream": "s", "seq": 4}'))
        assert (await asyncio.wait_for(sending, 10)).seq == 4


REAL = b"$JS.ACK.tea.cup.1.17.5.1700000000000000000.3"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\xff",
        b"$JS.ACK",
        b"$JS.ACK.tea.cup",
        b"$JS.ACK.tea.cup.1",
        b"$JS.ACK.tea.cup.one.17.5.1.3",
        b"$JS.ACK.tea.cup.-4611686018427387904.17.5.1.3",
        b"$JS.ACK.tea.cup.0.17.5.1.3",
        b"$JS.ACK.tea.cup.1.-17.5.1.3",
        b"$JS.ACK.tea.cup.1." + b"9" * 5000 + b".5.1.3",
        b"$JS.ACK.other.cup.1.17.5.1.3",
        b"$JS.ACK.tea.other.1.17.5.1.3",
        b"$JS.API.STREAM.DELETE.tea.1.2.3.4",
        b"orders.ACK.tea.cup.1.17.5.1.3",
    ],
)
@pytest.mark.parametrize("before", [False, True])
def test_an_address_for_acknowledgements_that_is_none(reply: bytes, before: bool) -> None:
    origin = Origin(stream="tea", consumer="cup")
    if before:
        NatsMessage((b"a", REAL, b"", None), "a", origin)
    with pytest.raises(Foreign):
        NatsMessage((b"a", reply, b"", None), "a", origin)
    one = NatsMessage((b"a", REAL, b"", None), "a", origin)
    assert (one.stream, one.consumer, one.sequence, one.attempt) == ("tea", "cup", 17, 1)


FORBIDDEN = [
    "",
    " ",
    "a b",
    "a\tb",
    "a\rb",
    "a\nb",
    "a\x00b",
    "a\x0bb",
    "a\x0cb",
    "a\x1cb",
    ".",
    "a.",
    ".a",
    "a..b",
    "a\ud800",
]


@pytest.mark.parametrize("subject", [*FORBIDDEN, "a.*", ">", "a.>"])
async def test_what_is_no_subject_is_not_published(subject: str) -> None:
    async with ToyServer() as server, NatsBroker(server.url) as broker:
        publish: Any = broker.publish
        calls = [((1, subject), {}), ((1, subject), {"stream": "s"})]
        if subject:
            calls += [((1, "a"), {"reply_to": subject})]
        for given, options in calls:
            with pytest.raises(PublishError, match="is no subject"):
                await publish(*given, **options)
        assert await broker.ping()
        assert b"PUB" not in server.got
        with pytest.raises(SetupError):
            broker.publisher(subject)


@pytest.mark.parametrize("subject", FORBIDDEN)
def test_what_is_no_subject_is_not_subscribed_to(subject: str) -> None:
    with pytest.raises(SetupError, match="subject"):
        NatsBroker().subscriber(subject)


@pytest.mark.parametrize("token", ["\x85", "\xa0", "\u2028", "\u3000", "é"])
async def test_what_only_other_grammars_forbid(token: str) -> None:
    """White space of Unicode is part of a token for the server, and so here, in both directions."""
    seen = Inbox()
    subject = f"a.{token}.b"
    async with ToyServer() as server:
        broker = NatsBroker(server.url)

        @broker.subscriber(subject)
        async def handler(message: NatsMessage) -> None:
            seen.put((message.address, message.reply_to))

        async with broker:
            await broker.publish("x", subject)
            await server.until(b"HPUB %b  " % subject.encode())
            await server.send(message(subject.encode(), server.subscriptions[subject], reply=subject.encode()))
            assert await seen.take() == (subject, subject)


def sized(size: int, **headers: str) -> Outgoing:
    return Outgoing("subject", b"x" * size, "c", list(headers.items()))


def test_a_frame_is_measured_whole() -> None:
    limits = Limits(1000, 100)
    small = publication(sized(0), limits)
    block = len(small.partition(b"\r\n")[2]) - 2
    assert publication(sized(1000 - block), limits)
    for wrong in (sized(1001 - block), sized(1000), sized(0, header="v" * 1000)):
        with pytest.raises(PublishError, match="of headers are more than the server takes, 1000"):
            publication(wrong, limits)
    for wrong in (Outgoing("s" * 100, b"", ""), Outgoing("s", b"", "", reply_to="r" * 100)):
        with pytest.raises(PublishError, match="too long for one line: the server takes 100"):
            publication(wrong, limits)
    with pytest.raises(PublishError, match="too long for one line"):
        publication(Outgoing("s", b"", ""), limits, b"r" * 100, "stream")


async def test_what_waited_is_measured_by_the_server_that_it_goes_to() -> None:
    """A message that was taken for the first server and is too large for the next one is left out, and said."""
    errors, lost = Inbox(), asyncio.Event()

    async def on_error(error: Exception) -> None:
        if "left out" in str(error):
            errors.put(str(error))

    async def on_lost() -> None:
        lost.set()

    async with ToyServer() as server:
        connection = Connection()
        await connection.connect(
            [server.url],
            error_cb=on_error,
            disconnected_cb=on_lost,
            reconnect_time_wait=0.05,  # type: ignore[arg-type]
        )
        try:
            taken = connection.limits
            server.info["max_payload"] = 500
            server.cut()
            await asyncio.wait_for(lost.wait(), 10)
            connection.write(publication(Outgoing("large", b"x" * 600, ""), taken))
            connection.write(publication(Outgoing("small", b"x", ""), taken))
            await server.until(b"PUB small")
            assert "1 messages" in await errors.take()
            assert b"PUB large" not in server.got
            with pytest.raises(PublishError, match="more than the server takes, 500"):
                publication(Outgoing("large", b"x" * 600, ""), connection.limits)
        finally:
            await connection.close()


async def test_the_server_says_what_it_takes_in_the_middle_of_a_connection() -> None:
    async with ToyServer() as server, NatsBroker(server.url) as broker:
        await broker.publish(b"x" * 600, "a")
        await server.send(b'INFO {"max_payload": 500}\r\n')
        assert await broker.ping()
        with pytest.raises(PublishError, match="more than the server takes, 500"):
            await broker.publish(b"x" * 600, "a")


def test_headers_without_end_are_not_all_read() -> None:
    """As many as the largest message holds would take all other messages' turn for a fifth of a second."""
    lines = b"".join(b"a: %d\r\n" % number for number in range(100_000))
    pairs = read_headers(b"NATS/1.0\r\n" + lines + b"\r\n")
    assert pairs == [("a", f"{number}") for number in range(1000)]
    no_headers = read_headers(b"NATS/1.0\r\n" + b"\r\n" * 100_000 + b"a: 1\r\n\r\n")
    assert no_headers == []
    assert read_headers(b"NATS/1.0\r\na: 1\r\nb: \xff\r\n\r\n") == [("a", "1"), ("b", b"\xff")]
