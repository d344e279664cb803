"""Whatever a sender writes into a message is that message's own matter: reading it neither fails nor takes long."""

from __future__ import annotations

import asyncio
import random
import struct
import sys
import time
from datetime import datetime, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import aio_pika
import pytest
from aiormq import spec
from aiormq.abc import DeliveredMessage
from fastapi_stream_core.response import Outgoing
from fastapi_stream_rabbit import PublishError, RabbitExchange, RabbitMessage, RabbitRouter, TestRabbitBroker
from fastapi_stream_rabbit.delivery import Delivery
from fastapi_stream_rabbit.foreign import read_foreign_text
from fastapi_stream_rabbit.properties import ORDER, client_properties, read_properties
from fastapi_stream_rabbit.settlement import Ledger
from fastapi_stream_rabbit.stream import Deliveries
from fastapi_stream_rabbit.table import DEPTH, find_integer, read_table, write_table
from fastapi_stream_rabbit.wire import FRAME_MAX, content_header, properties_of
from pamqp.body import ContentBody
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader

SEEDS = range(60)
GOOD = spec.Basic.Properties(content_type="text/plain", correlation_id="good", headers={"n": 5})
NUMBERS = [*((b"b", 1), (b"B", 1), (b"s", 2), (b"u", 2), (b"I", 4), (b"i", 4)), *((b"l", 8), (b"L", 8), (b"d", 8))]
MOST_SECONDS = 2.0
"""For what takes 50 ms on a machine that does nothing else; what is quadratic takes many times as long."""


class Wire(asyncio.Transport):
    """A transport that nothing is written to."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.get_protocol = lambda: protocol  # type: ignore[method-assign]

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...


def field(name: bytes, kind: bytes, data: bytes = b"") -> bytes:
    return bytes([len(name)]) + name + kind + data


def long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def head(headers: bytes | None = None, body: int = 1, flags: int = 0, rest: bytes = b"") -> bytes:
    """A content header with a header table, or with flags and bytes of the test's own."""
    if headers is not None:
        flags, rest = flags | 0x2000, long(headers) + rest
    return struct.pack(">HHQH", 60, 0, body, flags) + rest


def frame(kind: int, data: bytes) -> bytes:
    return struct.pack(">BHI", kind, 1, len(data)) + data + b"\xce"


def deliver(tag: int, content: bytes, body: bytes = b"x", key: bytes = b"key") -> bytes:
    method = struct.pack(">HH", 60, 60) + b"\x03one" + struct.pack(">QB", tag, tag % 2)
    method += b"\x00" + bytes([len(key)]) + key
    return frame(1, method) + frame(2, content) + frame(3, body)


def good(tag: int) -> bytes:
    deliver = spec.Basic.Deliver("one", tag, False, "", "key")
    return b"".join(marshal(one, 1) for one in (deliver, ContentHeader(0, 4, GOOD), ContentBody(b"good")))


def receive(data: bytes) -> list[RabbitMessage]:
    taken: list[Delivery] = []
    deliveries = Deliveries(Wire(asyncio.Protocol()), asyncio.get_running_loop())
    deliveries.expect(cast("Any", SimpleNamespace(number=1)), "one", taken.append)
    deliveries.data_received(data)
    return [RabbitMessage(delivery, "queue", counted=True) for delivery in taken]


def read_all(message: RabbitMessage) -> None:
    """Read everything that the core or a user may ask of a message."""
    for value in (message.content_type, message.reply_to, message.correlation_id, message.message_id):
        assert value is None or isinstance(value, str)
    assert isinstance(message.address, str)
    assert all(isinstance(value, (str, bytes)) for _, value in message.headers.multi_items())
    assert isinstance(message.raw_message, aio_pika.IncomingMessage)
    assert isinstance(message.properties, spec.Basic.Properties)
    assert 1 <= message.attempt < 1 << 64
    assert message.size >= len(message.body)
    assert repr(message).startswith("RabbitMessage(")
    assert isinstance(message.position, str)
    assert str(message.raw_message)


STRANGE: dict[str, bytes] = {
    "names that are not UTF-8": head(field(b"\xff\xfe", b"S", long(b"v")) + field(b"", b"S", long(b"v"))),
    "a value that is not UTF-8": head(field(b"a", b"S", long(b"\xff\x00"))),
    "a time that is no date": head(field(b"a", b"T", b"\xff" * 8), flags=0x0040, rest=b"\xff" * 8),
    "a decimal of scale 255": head(field(b"a", b"D", b"\xff" * 5)),
    "numbers of every size": head(b"".join(field(b"a", kind, b"\xff" * size) for kind, size in NUMBERS)),
    "nothing, bytes and booleans": head(field(b"a", b"V") + field(b"b", b"x", long(b"\xff")) + field(b"c", b"t\x02")),
    "not a number": head(field(b"a", b"d", struct.pack(">d", float("nan"))) + field(b"b", b"f", b"\x7f\x80\0\0")),
    "an unknown type": head(field(b"a", b"S", long(b"v")) + field(b"b", b"?", b"123")),
    "an array that is longer than its table": head(field(b"a", b"A", b"\xff" * 4)),
    "a name that is longer than its table": head(b"\xffa"),
    "a table that is longer than the header": head(flags=0x2000, rest=b"\xff" * 4 + b"abc"),
    "flags without properties": head(flags=0xFFFC),
    "flags without an end": head(flags=0x0001),
    "more flags than there are properties": head(flags=0x8001, rest=b"\x00\x01\x00\x00\x03abc"),
    "a correlation id that is cut": head(flags=0x0400, rest=b"\x09abc"),
    "texts that are not UTF-8": head(flags=0x8680, rest=b"\x02\xff\xfe" * 4),
    "empty texts": head(flags=0x8680, rest=b"\x00" * 4),
    "a count that is not the queue's": head(field(b"x-delivery-count", b"l", struct.pack(">q", -(2**62)))),
    "a count of another type": head(field(b"x-delivery-count", b"S", long(b"5"))),
    "a cluster id": head(flags=0x0004, rest=b"\x01c"),
    "nothing at all": b"",
    "half of a header": head()[:9],
}


@pytest.mark.parametrize("content", STRANGE.values(), ids=STRANGE)
async def test_a_strange_message_leaves_its_neighbours_alone(content: bytes) -> None:
    messages = receive(good(1) + deliver(2, content) + deliver(3, content, key=b"\xff\xfe") + good(4))
    assert [message.tag for message in messages] == ([1, 2, 3, 4] if len(content) >= 12 else [1, 4])
    for message in messages:
        read_all(message)
    for message in (messages[0], messages[-1]):
        assert (message.body, message.correlation_id, message.headers["n"]) == (b"good", "good", "5")


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_bytes_are_read_as_a_header(seed: int) -> None:
    chance = random.Random(seed)
    strange = list(STRANGE.values())
    data, expected = good(1), 1
    for tag in range(2, 12):
        content = bytearray(head(b"", 1, chance.getrandbits(16), chance.randbytes(chance.randrange(60))))
        if chance.random() < 0.5:  # a known one, with some of its bytes changed
            content = bytearray(chance.choice(strange))
            for _ in range(chance.randrange(4)):
                if len(content) > 12:
                    content[chance.randrange(12, len(content))] = chance.randrange(256)
        if len(content) < 12:
            continue
        data += deliver(tag, bytes(content)) + good(tag + 100)
        expected += 2
    messages = receive(data)
    assert len(messages) == expected
    for message in messages:
        read_all(message)
    assert sum(message.correlation_id == "good" for message in messages[::2]) == len(messages[::2])


def test_what_a_table_holds_is_kept() -> None:
    values = {
        "text": "größe",
        "bytes": bytearray(b"\xff"),
        "small": -5,
        "large": 2**63 - 1,
        "unsigned": 2**32 - 1,
        "yes": True,
        "no": False,
        "float": 0.1,
        "nothing": None,
        "time": datetime(2030, 1, 1, tzinfo=timezone.utc),
        "decimal": Decimal("1234.56"),
        "many": [1, "two", [3, {"four": 4}]],
        "table": {"a": {"b": "c"}},
    }
    data = write_table(values)
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert read_table(data[4:]) == (values, None)


@pytest.mark.parametrize(
    "table",
    [
        field(b"a", b"V") * 43_000,
        b"".join(field(b"%05d" % number, b"S", long(b"v")) for number in range(11_000)),
        field(b"a", b"A", long(b"V" * 130_000)),
        field(b"a", b"A", long(b"F\x00\x00\x00\x00" * 26_000)),
        b"\x01aS" + long(b"\xff" * 130_000),
    ],
    ids=["nothings", "texts", "an array", "tables", "one"],
)
async def test_a_large_table_takes_linear_time(table: bytes) -> None:
    began = time.perf_counter()
    (message,) = receive(deliver(1, head(table)))
    assert message.headers is not None
    assert time.perf_counter() - began < MOST_SECONDS


@pytest.mark.parametrize(
    ("table", "kept"),
    [
        (b"".join(field(b"%d" % number, b"V") for number in range(1000)), 1000),
        (b"".join(field(b"%d" % number, b"V") for number in range(20_000)), 1000),
        (field(b"a", b"V") + field(b"b", b"A", long(b"V" * 998)), 2),
        (field(b"a", b"V") + field(b"b", b"A", long(b"V" * 130_000)), 1),
        (field(b"a", b"V") + field(b"b", b"A", long(b"F\x00\x00\x00\x00" * 26_000)) + field(b"c", b"V"), 1),
    ],
    ids=["as many as are read", "names", "a short array", "an array", "tables"],
)
async def test_no_more_values_of_a_table_are_read_than_a_message_may_have_headers(table: bytes, kept: int) -> None:
    """All of a large one would take a tenth of a second, in which nothing else runs."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        values, fault = read_table(table)
    finally:
        sys.setprofile(None)
    assert len(values) == kept
    assert calls < 20_000
    assert (fault is None) == (len(table) < 10_000)
    (message,) = receive(deliver(1, head(table)))
    assert len(message.delivery.headers) == kept


COUNT = b"x-delivery-count"
FIVE = field(COUNT, b"l", struct.pack(">q", 5))
NINE = field(COUNT, b"l", struct.pack(">q", 9))
MANY = b"".join(field(b"h%d" % number, b"V") for number in range(1001))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (FIVE, 5),
        (MANY + FIVE + MANY, 5),
        (field(b"a", b"S", long(FIVE)) + NINE, 9),
        (field(b"a", b"x", long(FIVE * 100)) + NINE, 9),
        (field(b"a", b"F", long(FIVE)) + NINE, 9),
        (field(b"a", b"A", long(b"F" + long(FIVE))) + NINE, 9),
        (field(b"a", b"S", long(FIVE)), None),
        (field(b"a" + COUNT, b"S", long(FIVE)) + field(COUNT + b"a", b"l", b"\0" * 8) + NINE, 9),
        (field(b"", b"l", FIVE[:8]) + NINE, 9),
        (field(b"\xff\xfe", b"T", FIVE[:8]) + field(b"d", b"D", FIVE[:5]) + field(b"t", b"t", b"\x11") + NINE, 9),
        (FIVE + NINE, 5),
        (field(COUNT, b"S", long(b"7")) + NINE, None),
        (field(COUNT, b"d", struct.pack(">d", 7.0)), None),
        (field(COUNT, b"t", b"\x01"), None),
        (field(COUNT, b"b", b"\xff"), -1),
        (field(b"a", b"?", b"") + NINE, None),
        (field(b"a", b"S", b"\xff" * 4) + NINE, None),
        (b"\xff" + NINE, None),
        (b"", None),
    ],
)
async def test_what_the_broker_counts_is_found_whatever_is_before_it(table: bytes, expected: int | None) -> None:
    assert find_integer(table, COUNT.decode()) == expected
    for end in range(len(table)):
        assert find_integer(table[:end], COUNT.decode()) in (expected, None)
    (message,) = receive(deliver(1, head(MANY + table)))
    assert message.attempt == (2 if expected is None or expected < 0 else expected + 1)
    assert message.delivery.number_of_broker(COUNT.decode()) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_any_bytes_have_no_count(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        table = bytearray(chance.randbytes(chance.randrange(40)) + MANY[-200:] + FIVE)
        for _ in range(chance.randrange(4)):
            table[chance.randrange(len(table))] = chance.randrange(256)
        find_integer(bytes(table), COUNT.decode())


def test_the_client_library_finds_the_count_too() -> None:
    """Where it reads the deliveries itself, their bytes are gone."""
    read_foreign_text()
    _, _, header = unmarshal(frame(2, head(MANY + FIVE + field(b"z", b"V"))))
    method = spec.Basic.Deliver("one", 1, True, "", "key")
    channel: Any = None
    delivered = DeliveredMessage(delivery=method, header=cast("Any", header), body=b"x", channel=channel)
    message = RabbitMessage(Delivery.of(delivered), "queue", counted=True)
    assert message.attempt == 6
    assert len(message.delivery.headers) == 1001


def test_a_count_behind_many_names_takes_linear_time() -> None:
    """Twice as many names take twice as long, and 40,000 of them less than an event loop notices."""

    def seconds(count: int) -> float:
        table = field(b"", b"V") * (count - 1) + FIVE
        best = MOST_SECONDS
        for _ in range(10):
            began = time.process_time()
            assert find_integer(table, COUNT.decode()) == 5
            best = min(best, time.process_time() - began)
        return best

    small, large = seconds(10_000), seconds(40_000)
    assert large < 4 * small * 2 + 0.002
    assert large < 0.05


@pytest.mark.parametrize("levels", [DEPTH, DEPTH + 1, 18_000])
async def test_a_deep_table_is_read_as_far_as_it_makes_sense(levels: int) -> None:
    began = time.perf_counter()
    table = field(b"a", b"S", long(b"end"))
    size = len(table)
    prefixes = []
    for _ in range(levels):
        prefixes.append(b"\x01aF" + struct.pack(">I", size))
        size += 7
    data = b"".join(reversed(prefixes)) + table + field(b"next", b"S", long(b"value"))
    (message,) = receive(deliver(1, head(data)))
    read_all(message)
    assert message.headers["next"] == "value"
    value: Any = message.delivery.headers["a"]
    depth = 1
    while isinstance(value, dict):
        value, depth = value["a"], depth + 1
    assert depth == min(levels, DEPTH) + 1
    assert (value == "end") is (levels <= DEPTH)
    assert time.perf_counter() - began < MOST_SECONDS


async def test_a_table_with_a_fault_keeps_what_is_before_it_and_says_so() -> None:
    router = RabbitRouter()
    broken = field(b"a", b"S", long(b"kept")) + field(b"b", b"?")

    @router.subscriber("queue")
    async def handler(msg: str) -> None: ...

    async with TestRabbitBroker(router.broker) as broker:
        (message,) = receive(deliver(1, head(broken, flags=0x0400, rest=b"\x01c")))
        message._source = cast("Any", SimpleNamespace(subscription=broker.subscribers[0]))
        assert message.headers["a"] == "kept"
        assert (message.correlation_id, message.properties.headers) == ("c", {"a": "kept"})
        assert broker.report.counts["unreadable"] == 1


def test_the_client_library_reads_the_same() -> None:
    values = {"headers": {"a": 1}, "timestamp": 2**64 - 1, "content_type": "t"}
    properties = client_properties(values, {"a": 1})
    assert (properties.timestamp, properties.content_type, properties.headers) == (None, "t", {"a": 1})
    given = spec.Basic.Properties(
        **{
            name: "x" if form == "texts" else 1
            for name, _, form in ORDER
            if form in ("texts", "octets") and name != "cluster_id"
        },
        headers={"a": [1, {"b": None}]},
        timestamp=datetime(2030, 1, 1, tzinfo=timezone.utc),
    )
    read, fault = read_properties(ContentHeader(0, 1, given).marshal())
    assert fault is None
    headers, fault = read_table(read["headers"])
    assert fault is None
    assert client_properties(read, headers) == given


# What is published ---------------------------------------------------------------------------------------------------


def outgoing(**options: Any) -> Outgoing:
    given = {"address": "q", "body": b"x", "correlation_id": "c", "headers": [], "content_type": None, **options}
    return Outgoing(
        given["address"],
        given["body"],
        given["correlation_id"],
        given["headers"],
        given["content_type"],
        given.get("reply_to"),
        given.get("options", {}),
    )


def wide(size: int) -> list[tuple[str, Any]]:
    return [("h", "x" * size)]


def test_a_frame_is_measured_whole() -> None:
    around = len(content_header(outgoing(headers=wide(0)), None)) + 8
    fits = FRAME_MAX - around
    assert len(content_header(outgoing(headers=wide(fits)), None)) + 8 == FRAME_MAX
    with pytest.raises(PublishError, match=str(FRAME_MAX + 1)):
        content_header(outgoing(headers=wide(fits + 1)), None)


@pytest.mark.parametrize(
    "options",
    [
        {"headers": wide(140_000)},
        {"headers": [("x" * 129, "v")]},
        {"headers": [("é" * 65, "v")]},
        {"headers": [("n", 2**64)]},
        {"headers": [("n", -(2**63) - 1)]},
        {"headers": [("d", Decimal("1e40"))]},
        {"headers": [("d", Decimal("-1"))]},
        {"headers": [("d", Decimal("NaN"))]},
        {"headers": [("f", float("nan"))]},
        {"headers": [("f", [{"g": float("-inf")}])]},
        {"headers": [("o", object())]},
        {"headers": [("t", datetime(1900, 1, 1, tzinfo=timezone.utc))]},
        {"headers": [("s", "\ud800")]},
        {"address": "é" * 128},
        {"correlation_id": "é" * 128},
        {"correlation_id": "\ud800"},
        {"reply_to": "x" * 256},
        {"content_type": "x" * 256},
        {"options": {"message_type": "x" * 256}},
        {"options": {"message_type": 5}},
        {"options": {"priority": 256}},
        {"options": {"priority": "5"}},
        {"options": {"expiration": float("inf")}},
        {"options": {"expiration": []}},
        {"options": {"timestamp": 1e300}},
        {"options": {"timestamp": -5}},
        {"options": {"timestamp": object()}},
    ],
    ids=lambda options: str(options).partition(" at 0x")[0][:60],
)
def test_what_amqp_can_not_carry_is_refused_before_it_is_sent(options: dict[str, Any]) -> None:
    with pytest.raises(PublishError):
        content_header(outgoing(**options), None)


@pytest.mark.parametrize(
    ("key", "exchange", "place"),
    [
        ("key", RabbitExchange("events"), "key"),
        ("", RabbitExchange("events"), "events"),
        ("", None, "the default exchange"),
    ],
)
def test_an_error_names_a_place(key: str, exchange: RabbitExchange | None, place: str) -> None:
    message = Outgoing(key, b"x", "c", [("n" * 200, "v")], None, None, {"exchange": exchange}, False)
    with pytest.raises(PublishError, match=f"the message to '{place}' was not accepted"):
        properties_of(message, None)


def test_numbers_keep_their_precision_and_names_their_length() -> None:
    read, _ = read_properties(content_header(outgoing(headers=[("n" * 128, 0.1), ("i", 5), ("b", True)]), None))
    assert read_table(read["headers"])[0] == {"n" * 128: 0.1, "i": 5, "b": True}


async def test_an_answer_carries_the_bytes_that_a_sender_wrote() -> None:
    router = RabbitRouter()
    runs = 0

    @router.subscriber("q")
    async def handler(msg: str) -> str:
        nonlocal runs
        runs += 1
        return msg

    async with TestRabbitBroker(router.broker) as broker:
        message = receive(deliver(1, head(flags=0x0600, rest=b"\xff" + b"\xe9" * 255 + b"\x07answers")))[0]
        # In Latin-1 these are 255 characters, and in UTF-8 as many bytes again.
        assert len(message.correlation_id) == 255
        assert b"\xff" + b"\xe9" * 255 in content_header(outgoing(correlation_id=message.correlation_id), None)
        with pytest.raises(PublishError):
            content_header(outgoing(correlation_id="\xe9" * 255), None)
        await broker.publish("hi", "q", reply_to="\x00\x1b[31m" * 20)
        assert runs == 1


# What is remembered --------------------------------------------------------------------------------------------------


def test_the_ledger_does_not_grow_behind_a_delivery_that_is_not_settled() -> None:
    ledger = Ledger()
    ledger.open[1] = 7
    ledger.held = 7
    for tag in range(2, 50_000):
        ledger.open[tag] = 5
        ledger.held += 5
        ledger.ack(tag)
        if tag % 25 == 0:
            settled = ledger.take()
            assert settled.upto is None
            assert settled.single == list(range(tag - 24 if tag > 25 else 2, tag + 1))
    ledger.take()
    assert (ledger.open, ledger.held) == ({1: 7}, 7)
    assert sum(sys.getsizeof(value) for value in vars(ledger).values()) < 20_000
    ledger.ack(1)
    assert ledger.take().upto == 1
    assert ledger.held == 0


def test_the_ledger_takes_together_what_is_settled_from_the_first_on() -> None:
    ledger = Ledger()
    ledger.open.update(dict.fromkeys(range(1, 10), 1))
    ledger.held = 9
    for tag in (3, 1, 2, 6):
        ledger.ack(tag)
    ledger.reject(4)
    settled = ledger.take()
    assert (settled.rejected, settled.upto, settled.single) == ([4], 3, [6])
    ledger.settled_elsewhere(5)
    ledger.ack(7)
    settled = ledger.take()
    assert (settled.rejected, settled.upto, settled.single) == ([], 7, [])
    assert (list(ledger.open), ledger.held) == ([8, 9], 2)
