"""Whatever a sender writes is at most that message's own failure: it is read, its neighbours are handled."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi_stream_core.headers import MOST_HEADERS
from fastapi_stream_core.message import BatchMessage, StreamMessage
from fastapi_stream_redis import (
    ListSub,
    PubSub,
    RedisBroker,
    RedisListMessage,
    RedisMessage,
    RedisStreamMessage,
    StreamSub,
)
from fastapi_stream_redis.wire import DATA_FIELD, LONGEST_KNOWN, entry_data, opened

MAGIC = b"\x89BIN\r\n\x1a\n"
NAMES = [
    b"correlation_id", b"content-type", b"reply_to", b"message_id", b"", b"\xff", b"x" * 400, b"\x00\x0ecorrelation_id",
    "\u202e".encode(), b"a\r\nb", b"Content-Type", b"REPLY_TO",
]  # fmt: skip
VALUES = [
    b"", b"1", b"\xff\xfe", b"application/json", b"text/plain; charset=nothing", b"x" * 60_000, b"\x00", b"*", b"{x}",
    b"__keyspace@0__:x", b"\x1b[31m\n", b"application/json\x00", "\u2028".encode(), b"-1", b"1e999",
]  # fmt: skip
BODIES = [
    b"",
    b"\xff",
    b"{",
    b"null",
    b'{"a":1}',
    b"[" * 5000,
    MAGIC,
    b'"\\ud800"',
    b"1" * 5000,
    b"NaN",
    b"x" * 100_000,
]


def enveloped(headers: list[tuple[bytes, bytes]], body: bytes, at: int = 18, count: int | None = None) -> bytes:
    table = (len(headers) if count is None else count).to_bytes(2, "big")
    for name, value in headers:
        table += len(name).to_bytes(2, "big") + name + len(value).to_bytes(2, "big") + value
    return MAGIC + b"\x00\x01" + at.to_bytes(4, "big") + (18 + len(table)).to_bytes(4, "big") + table + body


def hostile(seed: int) -> Iterator[bytes]:
    """Give values that no honest sender writes: broken at every byte, of odd types, or random."""
    chance = random.Random(seed)
    whole = enveloped([(b"correlation_id", b"c1"), (b"content-type", b"text/plain"), (b"reply_to", b"r")], b"hello")
    yield from (whole[:cut] for cut in range(len(whole)))
    for at in range(len(whole)):
        yield whole[:at] + bytes([chance.randrange(256)]) + whole[at + 1 :]
        yield whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :]
    for number in range(300):
        pairs = [(chance.choice(NAMES), chance.choice(VALUES)) for _ in range(chance.randrange(5))]
        at = chance.choice([18, 18, 0, 17, 19, 2**32 - 1])
        yield enveloped(pairs, chance.choice(BODIES), at, chance.choice([None, None, 0, 65_535]))
        if number % 10 == 0:
            yield chance.randbytes(chance.randrange(200))
    odd: list[Any] = [None, True, 1, -(10**30), 1.5, "", "x" * 70_000, "é\u202e\x00", [], [[1]], {"a": {"b": None}}]
    for name in ("correlation_id", "content-type", "reply_to", "message_id", "", "x" * 1000):
        for value in odd:
            yield json.dumps({"data": "1", "headers": {name: value}}, ensure_ascii=bool(len(name) % 2)).encode()
    old = b'{"data":"\\u00e9","headers":{"reply_to":"r","correlation_id":"c"}}'
    yield from (old[:cut] for cut in range(len(old)))
    yield b'{"headers":' + b"[" * 100_000
    yield b'{"data":"x","headers":{"a":' + b"9" * 6000 + b"}}"
    yield b'{"data":"\\ud800","headers":{"reply_to":"\\udc00"}}'
    yield b'{"data":"x","headers":{"a":1e999}}'
    yield from BODIES


ODD_FIELDS: list[list[bytes]] = [
    [b"a", b"1"],
    [b"\xff", b"\xfe", b"\xfe", b"\xff"],
    [DATA_FIELD, b"1", b"more", b"x"],
    [b"more", b"x", DATA_FIELD, b"1"],
    [DATA_FIELD, b"1", DATA_FIELD, b"2"],
    [b"data", b"1", b"headers", b"{}"],
    [b"", b""],
    [b"__data__\x00", b"1"],
    [b"f%d" % number for number in range(2000)],
]


def look(message: RedisMessage) -> None:
    """Ask a message for everything that it has."""
    assert isinstance(message.headers.multi_items(), list)
    assert message.content_type is None or isinstance(message.content_type, str)
    assert message.reply_to is None or isinstance(message.reply_to, str)
    assert isinstance(message.correlation_id, str)
    assert isinstance(message.message_id, str)
    assert isinstance(message.position, str)
    assert message.size >= len(message.body)
    assert message.raw_message["channel"] == message.address
    str(message.headers)
    repr(message)
    try:
        message.decoded()
    except ValueError:
        return


@pytest.mark.parametrize("seed", range(3))
def test_every_value_can_be_read(seed: int) -> None:
    for data in hostile(seed):
        message = RedisListMessage.received(data, "key")
        look(message)
        assert message.data == data, "what was taken apart is put together again"
        assert message.content_type == message.headers.text("content-type")
        assert message.reply_to == message.headers.text("reply_to")


@pytest.mark.parametrize("fields", ODD_FIELDS, ids=range(len(ODD_FIELDS)))
def test_every_entry_can_be_read(fields: list[bytes]) -> None:
    message = RedisStreamMessage(b"18446744073709551615-18446744073709551615", fields, "stream")
    look(message)
    assert message.data == entry_data(fields)


def a_channel(broker: RedisBroker, wire: Any, values: list[bytes]) -> Any:
    # With "channels" that are no text, and a pattern that takes them all.
    names = [b"c.\xff", b"c.1\n\x1b[31m", b"c." + b"x" * 60_000, b"c.{x}", b"c."]
    records = [[b"pmessage", b"c.*", names[at % len(names)], value] for at, value in enumerate(values)]
    pushed = b"".join(wire.encoded(one) for one in records)
    wire.server.answers["PSUBSCRIBE"] = lambda words: bytearray(wire.encoded([b"psubscribe", words[1], 1]) + pushed)
    return broker.subscriber(PubSub("c.*"))


def a_list(broker: RedisBroker, wire: Any, values: list[bytes]) -> Any:
    wire.server.answers["BLMPOP"] = wire.server.once(*([b"l", [one]] for one in values))
    return broker.subscriber(list="l")


def entries(values: list[bytes]) -> list[Any]:
    fields = [[DATA_FIELD, one] for one in values[:-1]] + ODD_FIELDS + [[DATA_FIELD, values[-1]]]
    ids = [b"%d-%d" % (2**64 - 1, 2**64 - len(fields) + at - 1) for at in range(len(fields))]
    return [[one, pairs] for one, pairs in zip(ids, fields, strict=True)]


def a_stream(broker: RedisBroker, wire: Any, values: list[bytes]) -> Any:
    wire.server.answers["XREAD"] = wire.server.once([[b"s", entries(values)]])
    return broker.subscriber(stream=StreamSub("s", last_id="0"))


def a_group(broker: RedisBroker, wire: Any, values: list[bytes]) -> Any:
    """New entries, pending ones, claimed ones: with those that were deleted among them."""
    new = wire.server.once([[b"s", entries(values)]])
    old: list[Any] = [[b"1-%d" % at, [DATA_FIELD, one]] for at, one in enumerate(values[:50])]
    old[3:3] = [[b"1-1000", None], [b"1-1001", None]]
    pending = iter([[[b"s", old]]])
    wire.server.answers["XREADGROUP"] = lambda words: new(words) if words[-1] == b">" else next(pending, [[b"s", []]])
    wire.server.answers["XPENDING"] = lambda words: [[words[3], b"c", 0, 2**62]] if words[3] == b"1-5" else []
    wire.server.answers["XAUTOCLAIM"] = [b"0-0", [None, [b"2-1", None], [b"2-2", [b"\xff", b"\xff"]]], [b"2-3"]]
    return broker.subscriber(stream=StreamSub("s", group="g", consumer="c", claim_min_idle_time=300))


class Wire:
    """The server of the fixture, and how it writes."""

    def __init__(self, server: Any) -> None:
        self.server = server

    @staticmethod
    def encoded(value: Any) -> bytes:
        if isinstance(value, bytes):
            return b"$%d\r\n%b\r\n" % (len(value), value)
        if isinstance(value, int):
            return b":%d\r\n" % value
        return b"*%d\r\n" % len(value) + b"".join(map(Wire.encoded, value))


@pytest.mark.parametrize("declare", [a_channel, a_list, a_stream, a_group])
async def test_nothing_of_it_fails_anywhere_else(wire: Any, declare: Callable[..., Any]) -> None:
    values = [*hostile(1), b"the last one"]
    broker = RedisBroker(wire.url, logger=None, message_format="raw")
    last = asyncio.Event()
    failures: list[BaseException] = []

    @declare(broker, Wire(wire), values)
    async def handle(message: RedisMessage) -> None:
        try:
            look(message)
        except Exception as error:
            failures.append(error)
        if message.body == b"the last one":
            last.set()

    async with broker:
        await asyncio.wait_for(last.wait(), 30)
        assert broker.subscribers[0].running
    assert not failures
    assert "restarted" not in broker.report.counts
    assert "failed" not in broker.report.counts


async def test_a_refusal_of_the_server_takes_no_neighbours_along(wire: Any) -> None:
    """What a channel brought before an error of the server is handled."""
    encoded = Wire.encoded
    pushed = [encoded([b"message", b"c", b"%d" % number]) for number in range(5)] + [b"-ERR gone wrong\r\n"]
    first = iter([b"".join(pushed)])
    wire.answers["SUBSCRIBE"] = lambda words: bytearray(encoded([b"subscribe", words[1], 1]) + next(first, b""))
    broker, seen, over = RedisBroker(wire.url, logger=None), [], asyncio.Event()

    @broker.subscriber("c")
    async def handle(body: int) -> None:
        seen.append(body)
        if body == 4:
            over.set()

    async with broker:
        await asyncio.wait_for(over.wait(), 10)
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("old", [False, True])
def test_a_large_header_table_costs_little(old: bool) -> None:
    """However many headers somebody packs into a message, no more of them are read than of a small one."""

    def calls(count: int) -> int:
        names = [b"%05x" % number for number in range(count)]
        if old:
            data = json.dumps({"data": "x", "headers": {name.decode(): 1 for name in names}}).encode()
        else:
            data = enveloped([(name, b"\xff") for name in names], b"x")
        events = 0

        def note(*event: Any) -> None:
            nonlocal events
            events += 1

        sys.setprofile(note)
        try:
            message = RedisListMessage.received(data, "key")
            found = len(message.headers)
        finally:
            sys.setprofile(None)
        assert found == min(count, MOST_HEADERS)
        assert message.body == b"x"
        return events

    assert calls(65_535) <= calls(MOST_HEADERS) + 10


def test_what_is_remembered_is_bounded_in_bytes() -> None:
    pairs = [(b"correlation_id", b"1"), (b"x", b"y" * (LONGEST_KNOWN - 20))]
    opened(enveloped([*pairs[:1], (b"x", b"z" * (LONGEST_KNOWN - 20))], b""))
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(5_000):
            opened(enveloped([(b"correlation_id", b"1" * (number % 400)), (b"n%d" % number, pairs[1][1][:450])], b""))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


@pytest.mark.parametrize("old", [False, True])
def test_one_copy_is_kept_of_a_message(old: bool) -> None:
    """The body, and not the value that it came in as well; where that is not to be had, both are counted."""
    body = b"x" * 4_000_000
    data = json.dumps({"data": body.decode(), "headers": {}}).encode() if old else enveloped([(b"a", b"b")], body)
    fields = [DATA_FIELD, data]
    message = RedisStreamMessage(b"1-1", fields, "s")
    assert message.size >= len(data) + (len(body) if old else 0)
    assert message.body == body
    assert message.size == len(data) + (len(body) if old else 0)
    if not old:
        assert not any(len(one) > len(body) for one in gc.get_referents(message) if isinstance(one, bytes))


@pytest.mark.parametrize("kind", ["stream", "channel", "list", "group"])
async def test_what_is_fetched_is_bounded_in_bytes(wire: Any, kind: str) -> None:
    """A handler that stands still: as much is fetched as there is room for, and goes on when there is room again."""
    size, total, most = 100_000, 150, 1_000_000
    fetched, numbers = 0, iter(range(total))

    def read(words: list[bytes]) -> Any:
        nonlocal fetched
        if words[-1] != b">" and words[0] == b"XREADGROUP":
            return [[b"s", []]]
        count = int(words[words.index(b"COUNT") + 1])
        found = [
            [b"1-%d" % (number + 1), [DATA_FIELD, b"x" * size]]
            for _, number in zip(range(count), numbers, strict=False)
        ]
        fetched += len(found)
        if kind == "list":
            return [b"l", [pairs[1] for _, pairs in found]] if found else wire.never
        return [[b"s", found]] if found else wire.never

    wire.answers |= {"XREAD": read, "XREADGROUP": read, "BLMPOP": read}
    pushed = b"".join(Wire.encoded([b"message", b"c", b"x" * size]) for _ in range(total))
    wire.answers["SUBSCRIBE"] = lambda words: bytearray(Wire.encoded([b"subscribe", words[1], 1]) + pushed)
    places: dict[str, Any] = {
        "stream": {"stream": StreamSub("s", last_id="0")},
        "channel": {"channel": "c"},
        "list": {"list": ListSub("l", batch=True, max_records=100)},
        "group": {"stream": StreamSub("s", group="g", batch=True, max_records=100)},
    }
    broker = RedisBroker(wire.url, logger=None)
    begun, go, over, handled = asyncio.Event(), asyncio.Event(), asyncio.Event(), 0

    async def handle(message: StreamMessage) -> None:
        nonlocal handled
        begun.set()
        await go.wait()
        handled += len(message.messages) if isinstance(message, BatchMessage) else 1
        if handled == total:
            over.set()

    subscription = broker.subscriber(**places[kind], prefetch_bytes=most)
    subscription(handle)
    async with broker:
        await asyncio.wait_for(begun.wait(), 10)
        settled = asyncio.Event()
        asyncio.get_running_loop().call_later(1.5, settled.set)
        await settled.wait()
        gc.collect()
        held = [one for one in gc.get_objects() if isinstance(one, RedisMessage) and one.subscription is subscription]
        assert sum(message.size for message in held) <= most + size
        if kind != "channel":
            assert fetched <= most // size + 1
        go.set()
        await asyncio.wait_for(over.wait(), 20)


async def test_large_entries_among_small_ones_are_expected_again(wire: Any) -> None:
    """After a large one a read asks for as many as fit if all are like that, and then for more with every read."""
    asked: list[int] = []
    numbers = iter(range(10_000))

    def read(words: list[bytes]) -> Any:
        asked.append(int(words[words.index(b"COUNT") + 1]))
        found = [
            [b"1-%d" % (number + 1), [DATA_FIELD, b"x" * (1_000_000 if number == 30 else 10)]]
            for _, number in zip(range(asked[-1]), numbers, strict=False)
        ]
        return [[b"s", found]] if len(asked) <= 40 else wire.never

    wire.answers |= {"XREAD": read, "XLEN": 10_000, "MEMORY": 200_000}
    broker = RedisBroker(wire.url, logger=None)
    handled = asyncio.Event()

    @broker.subscriber(stream=StreamSub("s", last_id="0"), max_workers=100, prefetch_bytes=4_000_000)
    async def handle(message: StreamMessage) -> None:
        if len(asked) >= 40:
            handled.set()

    async with broker:
        await asyncio.wait_for(handled.wait(), 20)
    after = asked[1 + next(number for number in range(40) if sum(asked[: number + 1]) > 30) :]
    assert after[0] <= 4
    assert 4 < after[6] < after[12]
    assert max(after) == 100
