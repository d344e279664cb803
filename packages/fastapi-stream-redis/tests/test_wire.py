"""The envelope, byte by byte: what FastStream 0.7.8 sends is read, and what is sent looks the same."""

import pytest
from fastapi_stream_core.response import Outgoing
from fastapi_stream_redis import ListSub, PublishError, RedisBroker, RedisListMessage, RedisMessage, TestRedisBroker
from fastapi_stream_redis.wire import MessageFormat, entry_data, pack

HEAD = b"\x89BIN\r\n\x1a\n\x00\x01\x00\x00\x00\x12\x00\x00\x00"
PEER = (
    HEAD + b"e\x00\x05\x00\x0ecorrelation_id\x00\x02c1\x00\x0ccontent-type\x00\x10application/json"
    b'\x00\x08reply_to\x00\x02rr\x00\x01x\x00\x01y\x00\x03uni\x00\x01\xc3\xa9{"a":1}'
)
"""As captured. It counts characters, so the last header is one byte short and the body is not."""


def received(data: bytes) -> RedisMessage:
    return RedisListMessage.received(data, "key")


def test_what_the_peer_sends() -> None:
    message = received(HEAD + b"B\x00\x02\x00\x0ecorrelation_id\x00\x02c1\x00\x0ccontent-type\x00\ntext/plainhi")
    assert (message.body, message.content_type, message.correlation_id) == (b"hi", "text/plain", "c1")
    assert message.reply_to is None
    assert message.decoded() == "hi"


def test_a_message_with_everything() -> None:
    message = received(PEER)
    assert message.correlation_id == "c1"
    assert message.content_type == "application/json"
    assert message.reply_to == "rr"
    assert message.headers["X"] == "y"
    assert message.headers["uni"] == b"\xc3"
    assert message.decoded() == {"a": 1}


def test_the_same_bytes_as_the_peer() -> None:
    outgoing = Outgoing("key", b"hi", "c1", content_type="text/plain")
    expected = HEAD + b"B\x00\x02\x00\x0ecorrelation_id\x00\x02c1\x00\x0ccontent-type\x00\ntext/plainhi"
    assert pack(outgoing, MessageFormat.BINARY) == expected


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"x" * 100_000, b"\x89BIN\r\n\x1a\n"])
def test_there_and_back(body: bytes) -> None:
    headers: list[tuple[str, str | bytes]] = [
        ("many", "1"),
        ("many", "2"),
        ("raw", b"\xff"),
        ("empty", ""),
        ("long", "é" * 1000),
    ]
    message = received(pack(Outgoing("key", body, "c1", headers, None, "back"), MessageFormat.BINARY))
    assert message.body == body
    assert message.headers.multi_items() == [("correlation_id", "c1"), ("reply_to", "back"), *headers]
    assert message.headers.getlist("many") == ["1", "2"]
    assert (message.content_type, message.reply_to) == (None, "back")


def test_the_users_headers_win() -> None:
    outgoing = Outgoing("key", b"{}", "c1", [("Content-Type", "text/plain"), ("correlation_id", "own")], "x/y")
    message = received(pack(outgoing, MessageFormat.BINARY))
    assert (message.content_type, message.correlation_id) == ("text/plain", "own")


def test_the_basics_are_those_of_each_message() -> None:
    """They are remembered by the headers behind the correlation id; a look-alike must not be taken for them."""
    kinds = [None, "text/plain", "application/json", "a\x00\x08reply_to\x00\x01b"]
    for correlation in ("c", "c" * 36, "\x00\x0ccontent-type\x00\x01x"):
        for kind in kinds:
            for reply in (None, "back", "content-type"):
                data = pack(Outgoing("key", b"body", correlation, [], kind, reply), MessageFormat.BINARY)
                for _ in range(2):
                    message = received(data)
                    assert (message.content_type, message.reply_to) == (kind, reply)
                    assert message.headers.text("content-type") == kind


def test_the_older_envelope() -> None:
    message = received(b'{"data":"{\\"a\\":1}","headers":{"content-type":"application/json","correlation_id":"q"}}')
    assert (message.decoded(), message.correlation_id) == ({"a": 1}, "q")


@pytest.mark.parametrize(
    "data",
    [
        b"plain",
        b"",
        b"{",
        b'{"data":{"z":1},"headers":{"h":"q"}}',
        b'{"data":"x"}',
        b'{"headers":{}}',
        b'{"data":"x","headers":[]}',
        b'{"headers"',
        b"\x89BIN\r\n\x1a\n",
        HEAD + b"\xff\x00\x02",
        b"\x89BIN\r\n\x1a\n\x00\x01\x00\x00\x00\x12\x00\x00\x00\x01",
    ],
)
def test_a_bare_body(data: bytes) -> None:
    message = received(data)
    assert message.body == data
    assert not message.headers
    assert message.content_type is None


@pytest.mark.parametrize("cut", range(18, 80))
def test_a_damaged_table_is_no_error(cut: int) -> None:
    data = PEER[:18] + PEER[18:cut] + b"\xff\xff" * 50
    message = received(data)
    assert isinstance(message.headers.multi_items(), list)
    assert isinstance(message.content_type, str | None)


def test_a_header_that_is_too_long() -> None:
    with pytest.raises(PublishError, match="longer than 65535"):
        pack(Outgoing("key", b"", "c1", [("x", "y" * 70_000)]), MessageFormat.BINARY)


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ([b"__data__", b"x"], b"x"),
        ([b"data", b"x"], b"x"),
        ([b"a", b"1", b"__data__", b"x"], b"x"),
        ([b"a", b"1", b"b", b"\xff"], '{"a":"1","b":"�"}'.encode()),
        ([], b"{}"),
    ],
)
def test_fields_of_an_entry(fields: list[bytes], data: bytes) -> None:
    assert entry_data(fields) == data


async def test_bare_bodies_on_request() -> None:
    broker = RedisBroker(message_format="raw", logger=None)
    seen = []

    @broker.subscriber(list=ListSub("key"))
    async def handle(body: dict[str, int], message: RedisListMessage) -> None:
        seen.append((body, message.data, dict(message.headers)))

    async with TestRedisBroker(broker):
        await broker.publish({"a": 1}, list="key", headers={"x": "y"})
    assert seen == [({"a": 1}, b'{"a":1}', {})]


def enveloped(*headers: tuple[bytes, bytes], body: bytes = b"{}") -> bytes:
    table = len(headers).to_bytes(2, "big")
    for name, value in headers:
        table += len(name).to_bytes(2, "big") + name + len(value).to_bytes(2, "big") + value
    return HEAD[:-3] + (18 + len(table)).to_bytes(4, "big") + table + body


ID = b"correlation_id"
KIND = b"content-type"
HIDDEN = b"\x00\x0ecorrelation_id\x00\x02"


@pytest.mark.parametrize("before", [(), ((b"x", b"y"),), ((KIND, b"a/b"),), ((b"x", HIDDEN + b"zz"),)])
def test_messages_after_one_another_say_each_their_own(before: tuple[tuple[bytes, bytes], ...]) -> None:
    """What is known of one message is not said of another that only looks like it."""
    for kind in (b"a/b", b"c/d", b"", b"\xff"):
        for number in (b"1", b"2", b"\xfe", b"\x00\x0ccontent-type"):
            for body in (b"", b"1", b"22"):
                behind = (*before, (ID, number), (b"Content-Type", kind), (b"reply_to", kind))
                message = received(enveloped(*behind, body=body))
                text = None if kind == b"\xff" else kind.decode()
                assert (message.body, message.content_type, message.reply_to) == (body, text, text)
                assert message.headers.text("content-type") == text


def test_a_name_in_a_value_is_no_header() -> None:
    """The bytes of a correlation id within another value hide nothing of what follows."""
    for kind in (b"a/b", b"c/d"):
        hidden = (b"x", HIDDEN), (KIND, kind)
        assert received(enveloped(*hidden)).content_type == kind.decode()
        assert received(enveloped(*hidden, (ID, b"1"))).content_type == kind.decode()


def test_a_table_that_ends_early() -> None:
    for kind in (b"a/b", b"c/d"):
        data = enveloped((ID, b"1"), (KIND, kind))
        for cut in range(18, len(data)):
            message = received(data[:cut])
            assert message.content_type == message.headers.text("content-type")
        assert received(data).content_type == kind.decode()
