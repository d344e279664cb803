"""The stream takes the deliveries of its consumers, and hands on every other byte, however the bytes arrive."""

from __future__ import annotations

import asyncio
import inspect
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, cast

import aiormq
import pytest
from aio_pika import IncomingMessage
from aiormq import spec
from fastapi_stream_rabbit import RabbitMessage
from fastapi_stream_rabbit.delivery import Delivery
from fastapi_stream_rabbit.foreign import read_foreign_text
from fastapi_stream_rabbit.stream import ALIVE, Deliveries, streams
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

PROPERTIES = spec.Basic.Properties(
    content_type="application/json",
    headers={"n": 5, "name": "größe"},
    correlation_id="c-1",
    reply_to="answers",
    message_id="m-1",
    timestamp=datetime(2030, 1, 1, tzinfo=timezone.utc),
)


class Library(asyncio.Protocol):
    """Notes what the client library gets."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Wire(asyncio.Transport):
    """A transport that nothing is written to."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.closed = False

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closed


class Stream:
    """A stream with consumers on two channels."""

    def __init__(self) -> None:
        self.library = Library()
        self.taken: list[Delivery] = []
        self.wire = Wire(self.library)
        self.deliveries = Deliveries(self.wire, asyncio.get_running_loop())
        self.expect(1, "one")
        self.expect(2, "two")

    def expect(self, number: int, tag: str) -> None:
        self.deliveries.expect(cast("Any", SimpleNamespace(number=number)), tag, self.taken.append)

    def receive(self, data: bytes, step: int | None = None) -> None:
        for begin in range(0, len(data), step or len(data)):
            cast("asyncio.Protocol", self.wire.protocol).data_received(data[begin : begin + (step or len(data))])


def frames(*values: Any, channel: int = 1) -> bytes:
    return b"".join(marshal(value, channel) for value in values)


def delivery(
    tag: int,
    *bodies: bytes,
    channel: int = 1,
    consumer: str = "one",
    redelivered: bool = False,
    properties: spec.Basic.Properties | None = None,
) -> bytes:
    return frames(
        spec.Basic.Deliver(consumer, tag, redelivered, "orders", "new.é"),
        ContentHeader(0, sum(map(len, bodies)), properties),
        *map(ContentBody, bodies),
        channel=channel,
    )


async def test_the_bytes_may_arrive_in_any_pieces() -> None:
    ours = [
        delivery(1, b"whole"),
        delivery(2, b"in ", b"two"),
        delivery(3),
        delivery(7, b"other", channel=2, consumer="two", redelivered=True),
        delivery(4, b"\xce" * 300),
    ]
    theirs = [
        frames(spec.Basic.QosOk()),
        frames(Heartbeat(), channel=0),
        frames(spec.Basic.Ack(5), channel=3),
        delivery(9, b"theirs", channel=3, consumer="three"),
        delivery(9, b"of another consumer", consumer="another"),
    ]
    data = b"".join(piece for pair in zip(ours, theirs, strict=True) for piece in pair)
    for step in (None, *range(1, 50), 1000):
        stream = Stream()
        stream.receive(data, step)
        assert stream.library.data == b"".join(theirs), step
        seen = [(one.consumer, one.tag, one.body, one.redelivered) for one in stream.taken]
        assert seen == [
            ("one", 1, b"whole", False),
            ("one", 2, b"in two", False),
            ("one", 3, b"", False),
            ("two", 7, b"other", True),
            ("one", 4, b"\xce" * 300, False),
        ], step
        assert {(one.exchange, one.routing_key) for one in stream.taken} == {("orders", "new.é")}


async def test_frames_of_other_channels_may_come_within_a_delivery() -> None:
    stream = Stream()
    first = [frames(value) for value in (spec.Basic.Deliver("one", 1, False, "", "a"), ContentHeader(0, 4))]
    first += [frames(ContentBody(b"ab")), frames(ContentBody(b"cd"))]
    second = delivery(5, b"second", channel=2, consumer="two")
    other = frames(spec.Basic.Ack(5), channel=3)
    for piece in (first[0], second, first[1], other, first[2], other, first[3]):
        stream.receive(piece)
    assert [(one.tag, one.body) for one in stream.taken] == [(5, b"second"), (1, b"abcd")]
    assert stream.library.data == other * 2


@pytest.mark.parametrize("end", [spec.Channel.Close(404, "gone", 0, 0), spec.Channel.CloseOk()])
async def test_a_channel_that_is_closed_has_no_consumer(end: Any) -> None:
    stream = Stream()
    begun = frames(spec.Basic.Deliver("one", 1, False, "", "a"))
    late = delivery(2, b"late")
    stream.receive(begun + frames(end) + late)
    assert stream.taken == []
    assert stream.library.data == frames(end) + late
    stream.expect(1, "again")
    stream.receive(delivery(1, b"new", consumer="again"))
    assert [one.body for one in stream.taken] == [b"new"]


async def test_what_is_not_amqp_is_the_client_librarys() -> None:
    no_end = frames(ContentBody(b"a"))[:-1] + b"!"
    for strange in (b"AMQP\x00\x00\x09\x01", b"HTTP/1.1 400 Bad Request\r\n\r\n", no_end):
        for step in (1, 3, None):
            stream = Stream()
            stream.receive(strange + delivery(1, b"a"), step)
            assert stream.library.data == strange + delivery(1, b"a")
            assert stream.taken == []


async def test_the_end_reaches_the_client_library_with_what_was_begun() -> None:
    stream = Stream()
    begun = frames(spec.Channel.OpenOk())[:-3]
    stream.receive(begun)
    assert stream.library.data == b""
    stream.deliveries.eof_received()
    assert (stream.library.data, stream.library.ended) == (begun, True)
    assert not stream.deliveries.closing
    stream.wire.closed = True
    assert stream.deliveries.closing
    stream.deliveries.connection_lost(None)
    assert stream.library.lost


async def test_the_client_library_hears_of_a_connection_that_carries_deliveries_only() -> None:
    stream = Stream()
    stream.receive(delivery(1, b"a") * 1000)
    assert stream.library.data == b""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not stream.library.data and loop.time() < began + 5:
        stream.receive(delivery(1, b"a"))
        await asyncio.sleep(0)
    assert stream.library.data == ALIVE == marshal(Heartbeat(), 0)


async def test_a_delivery_is_read_when_it_is_asked_for() -> None:
    stream = Stream()
    data = delivery(3, b"{}", properties=PROPERTIES, redelivered=True)
    stream.receive(data)
    message = RabbitMessage(stream.taken[0], "queue")
    assert (message.content_type, message.reply_to) == ("application/json", "answers")
    assert (message.message_id, message.correlation_id) == ("m-1", "c-1")
    assert message.headers["name"] == "größe"
    assert (message.exchange, message.routing_key, message.address) == ("orders", "new.é", "new.é")
    raw = message.raw_message
    assert isinstance(raw, IncomingMessage)
    assert raw is message.raw_message
    assert (raw.body, raw.headers, raw.delivery_tag, raw.redelivered) == (b"{}", {"n": 5, "name": "größe"}, 3, True)
    assert (raw.consumer_tag, raw.exchange, raw.routing_key) == ("one", "orders", "new.é")
    assert raw.timestamp == PROPERTIES.timestamp
    bare = Stream()
    bare.receive(delivery(1, b"x"))
    message = RabbitMessage(bare.taken[0], "queue")
    assert (message.content_type, message.reply_to, dict(message.headers)) == (None, None, {})


async def test_a_delivery_of_the_client_library_is_the_same() -> None:
    stream = Stream()
    stream.receive(delivery(3, b"{}", properties=PROPERTIES, redelivered=True))
    read = stream.taken[0]
    given = Delivery.of(read.delivered)
    for name in ("consumer", "tag", "redelivered", "exchange", "routing_key", "body", "content_type", "reply_to"):
        assert getattr(given, name) == getattr(read, name), name
    assert given.delivered is read.delivered
    assert given.properties is read.properties


async def test_properties_that_cannot_be_read_spoil_one_message_only() -> None:
    read_foreign_text()
    stream = Stream()
    nested = b"\x01a?"  # a field of a type that does not exist
    table = len(nested).to_bytes(4, "big") + nested
    head = bytes(4) + (1).to_bytes(8, "big") + (0xA000).to_bytes(2, "big") + b"\x01t" + table
    frame = b"\x02\x00\x01" + len(head).to_bytes(4, "big") + head + b"\xce"
    stream.receive(frames(spec.Basic.Deliver("one", 1, True, "", "a")) + frame + frames(ContentBody(b"x")))
    stream.receive(delivery(2, b"y"))
    first, second = (RabbitMessage(one, "queue") for one in stream.taken)
    assert (first.body, second.body) == (b"x", b"y")
    assert (first.content_type, first.attempt, dict(first.headers)) == ("t", 2, {"content-type": "t"})
    assert isinstance(first.raw_message, IncomingMessage)


async def test_the_stream_is_read_where_the_client_library_lets_us() -> None:
    assert (streams() is not None) is ("transport_factory" in inspect.signature(aiormq.Connection).parameters)


@pytest.mark.parametrize("name", ["TCPTransportFactory", "TLSTransportFactory"])
async def test_a_client_library_without_a_way_in_reads_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(aiormq.connection, name, raising=False)
    assert streams() is None
