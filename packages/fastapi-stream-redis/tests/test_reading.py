"""Values that take long to read: each is read once, when its message is handled, not when a hundred of them come."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_redis import RedisBroker, StreamSub, history
from fastapi_stream_redis.message import RedisListMessage, RedisMessage, RedisStreamMessage
from fastapi_stream_redis.schema import ListSub
from fastapi_stream_redis.wire import DATA_FIELD, entry_data

COUNT = 20
OLD = json.dumps({"headers": {"correlation_id": "c", "reply_to": "r"}, "data": "1", "x": [[]] * 100}).encode()
READERS = {"validate_json", "to_json"}


@contextmanager
def watched(note: Callable[[], None]) -> Iterator[None]:
    """Call `note` whenever a value is read."""

    def look(frame: Any, event: str, what: Any) -> None:
        if event == "c_call" and what.__name__ in READERS and frame.f_globals["__name__"] == entry_data.__module__:
            note()

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(None)


def made() -> dict[str, Callable[[], RedisMessage]]:
    odd = [b"a", b"1", b"b", b"2"]
    return {
        "fields": lambda: RedisStreamMessage(b"1-1", odd, "s"),
        "old envelope": lambda: RedisListMessage.received(OLD, "l"),
        "old envelope among fields": lambda: RedisStreamMessage(b"1-1", [*odd, DATA_FIELD, OLD], "s"),
    }


@pytest.mark.parametrize("kind", made())
@pytest.mark.parametrize("first", ["body", "content_type", "reply_to", "headers", "correlation_id", "decoded"])
def test_a_value_is_read_once(kind: str, first: str) -> None:
    reads: list[None] = []
    with watched(lambda: reads.append(None)):
        message = made()[kind]()
        size = message.size
        assert not reads
        found = getattr(message, first)
        if callable(found):
            found()
        assert message.headers.text("correlation_id") == ("c" if "old" in kind else None)
        assert message.reply_to == ("r" if "old" in kind else None)
        assert message.body == (b"1" if "old" in kind else b'{"a":"1","b":"2"}')
        assert message.content_type is None
        assert isinstance(message.correlation_id, str)
    assert len(reads) == 1
    assert len(message.body) < message.size <= size


@pytest.mark.parametrize("kind", made())
def test_what_is_given_back_is_not_read(kind: str) -> None:
    reads: list[None] = []
    with watched(lambda: reads.append(None)):
        message = made()[kind]()
        assert message.data if "fields" not in kind else message.size
    assert not reads


def test_a_message_has_nothing_else() -> None:
    message = RedisListMessage.received(OLD, "l")
    with pytest.raises(AttributeError, match="'RedisListMessage' object has no attribute 'nothing'"):
        message.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert message.body == b"1"


@pytest.mark.parametrize("kind", ["stream", "group", "fields", "list", "channel"])
async def test_values_that_come_together_are_read_one_by_one(wire: Any, kind: str) -> None:
    data, handled, over = OLD, 0, asyncio.Event()
    fields = [b"a", b"1", b"b", b"2"] if kind == "fields" else [DATA_FIELD, data]
    replies = [[[b"s", [[b"1-%d" % (number + 1), fields] for number in range(COUNT)]]]]

    def read(words: list[bytes]) -> Any:
        if words[0] == b"XREADGROUP" and words[-1] != b">":
            return [[b"s", []]]
        return replies.pop() if replies else wire.never

    wire.answers |= {"XREAD": read, "XREADGROUP": read}
    lists = [[b"l", [data] * COUNT]]
    wire.answers["BLMPOP"] = lambda words: lists.pop() if lists else wire.never
    pushed = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n%b\r\n" % (len(data), data) * COUNT
    wire.answers["SUBSCRIBE"] = bytearray(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" + pushed)
    places: dict[str, Any] = {
        "stream": {"stream": StreamSub("s", last_id="0")},
        "group": {"stream": StreamSub("s", group="g")},
        "fields": {"stream": StreamSub("s", group="g")},
        "list": {"list": ListSub("l")},
        "channel": {"channel": "c"},
    }
    broker, early = RedisBroker(wire.url, logger=None), 0
    reads = 0

    def note() -> None:
        nonlocal reads, early
        reads += 1
        early = max(early, reads - handled)

    @broker.subscriber(**places[kind], replies="off")
    async def handle(message: StreamMessage) -> None:
        nonlocal handled
        assert message.body
        handled += 1
        if handled == COUNT:
            over.set()

    with watched(note):
        async with broker:
            await asyncio.wait_for(over.wait(), 60)
    assert early <= 1
    assert reads == COUNT


@pytest.mark.parametrize("kind", ["stream", "group"])
async def test_an_idle_stream_is_looked_at_a_fiftieth_of_the_time(
    wire: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis answers with the entries at both ends, however large they are."""
    monkeypatch.setattr(history, "LOOK_SECONDS", 0.0)
    looks: list[float] = []
    seconds, count, over = 0.02, 2, asyncio.Event()

    def look(words: list[bytes]) -> Any:
        if words[1] != b"STREAM":
            return [[b"name", b"g", b"last-delivered-id", b"1-0"]] if words[1] == b"GROUPS" else []
        time.sleep(seconds)
        looks.append(time.perf_counter())
        if len(looks) >= count + 2:  # a start has its own
            over.set()
        return [b"length", 1, b"last-generated-id", b"1-0", b"first-entry", [b"1-0", [DATA_FIELD, b"1"]]]

    entries = [[b"s", [[b"1-0", [DATA_FIELD, b"1"]]]]]
    once = wire.once(entries)

    def read(words: list[bytes]) -> Any:
        if words[0] == b"XREADGROUP" and words[-1] != b">":
            return [[b"s", []]]
        found = once(words)
        return None if found is wire.never else found

    wire.answers |= {"XINFO": look, "XREAD": read, "XREADGROUP": read}
    wire.answers["XRANGE"] = lambda words: [[b"1-0", [DATA_FIELD, b"1"]]]
    broker = RedisBroker(wire.url, logger=None)

    @broker.subscriber(stream=StreamSub("s", group="g" if kind == "group" else None))
    async def handle(body: int) -> None: ...

    async with broker:
        await asyncio.wait_for(over.wait(), 60)  # a look that a busy machine makes long is long waited for
    assert looks[-1] - looks[-count] >= (count - 1) * seconds * 50


async def test_a_group_is_not_set_back_for_what_another_process_got_between_two_questions(
    wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one question to the next, an entry is added and delivered to somebody else."""
    monkeypatch.setattr(history, "LOOK_SECONDS", 0.0)
    newest, looks, over = 1, 0, asyncio.Event()

    def info(words: list[bytes]) -> Any:
        nonlocal newest, looks
        newest += 1
        if words[1] == b"GROUPS":
            return [[b"name", b"g", b"last-delivered-id", b"%d-0" % newest]]
        if words[1] != b"STREAM":
            return []
        looks += 1
        if looks > 2:
            over.set()
        found = b"%d-0" % (newest + 10 * (looks == 1))  # at first the stream is seen to be as far as the group
        return [b"length", 1, b"last-generated-id", found, b"first-entry", [found, [DATA_FIELD, b"1"]]]

    wire.answers |= {"XINFO": info, "EVAL": 1}
    wire.answers["XREADGROUP"] = lambda words: None if words[-1] == b">" else [[b"s", []]]
    broker = RedisBroker(wire.url, logger=None)

    @broker.subscriber(stream=StreamSub("s", group="g"))
    async def handle(body: int) -> None: ...

    async with broker:
        await asyncio.wait_for(over.wait(), 60)
    set_back = [words for words in wire.commands if words[0] == b"EVAL" or words[:2] == [b"XGROUP", b"SETID"]]
    assert not set_back


async def test_an_entry_that_is_deleted_between_two_questions_was_there(
    wire: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its deletion does not make the stream another one."""
    monkeypatch.setattr(history, "LOOK_SECONDS", 0.0)
    entry, was_read, questions, over = [b"1-0", [DATA_FIELD, b"1"]], False, 0, asyncio.Event()
    once = wire.once([[b"s", [entry]]])

    def look(words: list[bytes]) -> Any:
        nonlocal questions
        is_there = questions == 0
        questions += was_read
        if questions > 6:
            over.set()
        if words[0] == b"XRANGE":
            return [entry] if is_there else []
        if not was_read:
            return Exception("ERR no such key")
        first, deleted = (entry, b"0-0") if is_there else (None, b"1-0")
        return [
            *(b"length", int(is_there), b"last-generated-id", b"1-0", b"first-entry", first),
            *(b"entries-added", 1, b"max-deleted-entry-id", deleted),
        ]  # fmt: skip

    def read(_: list[bytes]) -> Any:
        nonlocal was_read
        found = once([])
        was_read = True
        return None if found is wire.never else found

    wire.answers |= {"XINFO": look, "XRANGE": look, "XREAD": read}
    broker = RedisBroker(wire.url)

    @broker.subscriber(stream=StreamSub("s"))
    async def handle(body: int) -> None: ...

    async with broker:
        await asyncio.wait_for(over.wait(), 60)
    assert not [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("replies", ["plain", "off"])
@pytest.mark.parametrize("kind", ["envelopes", "fields", "list"])
async def test_a_batch_is_read_few_messages_a_turn(wire: Any, kind: str, replies: Any) -> None:
    """Envelopes with many headers and tiny bodies: of a batch of them none was read before."""
    headers = ",".join(f'"h{number}":{number}' for number in range(8000))
    old = f'{{"data":"1","headers":{{{headers}}}}}'.encode()
    odd = [b"%d" % number for number in range(16_000)]
    entries = [[b"1-%d" % (number + 1), odd if kind == "fields" else [DATA_FIELD, old]] for number in range(COUNT)]
    new, items = wire.once([[b"s", entries]]), wire.once([b"l", [old] * COUNT])
    wire.answers["XREADGROUP"] = lambda words: new(words) if words[-1] == b">" else [[b"s", []]]
    wire.answers["BLMPOP"] = items
    target = {"list": ListSub("l", batch=True)} if kind == "list" else {"stream": StreamSub("s", group="g", batch=True)}
    broker, loop, over = RedisBroker(wire.url, logger=None), asyncio.get_running_loop(), asyncio.Event()
    counts, reads, handled = [0], 0, 0

    def note() -> None:
        nonlocal reads
        reads += 1

    def turn() -> None:
        nonlocal reads, handle
        counts.append(reads)
        reads = 0
        handle = loop.call_soon(turn)

    @broker.subscriber(**target, replies=replies)
    async def take(bodies: list[Any]) -> int:
        nonlocal handled
        handled += len(bodies)
        if handled == COUNT:
            over.set()
        return 0

    handle = loop.call_soon(turn)
    with watched(note):
        async with broker:
            await asyncio.wait_for(over.wait(), 60)
    handle.cancel()
    assert sum(counts) + reads == COUNT
    assert max(counts) <= 3
