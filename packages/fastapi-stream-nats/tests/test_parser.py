"""What comes off the wire in any pieces is given to the sinks, and to the client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi_stream_nats.message import NatsMessage, Origin
from fastapi_stream_nats.parser import STREAK, Parser, Wire
from nats.errors import ProtocolError

HEADERS = b"NATS/1.0\r\ncontent-type: text/plain\r\n\r\n"
STREAM = b"".join(
    [
        b"MSG a.b 1 5\r\nhello\r\n",
        b"MSG a.b 1 5\r\nMSG a\r\n",
        b"PING\r\n",
        b"HMSG a.c 1 back %d %d\r\n%bx\r\n\r\n" % (len(HEADERS), len(HEADERS) + 3, HEADERS),
        b"MSG foreign 7 answer 4\r\n\r\n\r\n\r\n",
        b"MSG\ta.d  2   back 0\r\n\r\n",
        b'INFO {"max_payload": 5, "a": 1}\r\n',
        b"PONG\r\n",
        b"+OK\r\n",
        b"-ERR 'Permissions Violation for 1 MSG'\r\n",
        b"HMSG a.c 1 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    ]
)


class Client:
    """Takes what the client's parser hands to its client."""

    def __init__(self) -> None:
        self.stats = {"in_msgs": 0, "in_bytes": 0}
        self.seen: list[Any] = []
        self.lost: Parser | None = None

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.seen.append((sid, bytes(subject), bytes(reply), data, headers))

    async def _process_ping(self) -> None:
        self.seen.append("ping")

    async def _process_pong(self) -> None:
        self.seen.append("pong")
        if self.lost is not None:
            self.lost.reset()

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.seen.append(info)

    async def _process_err(self, text: str) -> None:
        self.seen.append(text)

    async def _error_cb(self, error: Exception) -> None:
        self.seen.append(error)


def made() -> tuple[Client, Parser, dict[int, list[Wire]]]:
    client = Client()
    parser = Parser(client)
    taken: dict[int, list[Wire]] = {1: [], 2: []}
    for number, messages in taken.items():
        parser.sinks[b"%d" % number] = lambda run, messages=messages: messages.extend(run)  # type: ignore[misc]
    return client, parser, taken


FIRST = [
    (b"a.b", b"", b"hello", None),
    (b"a.b", b"", b"MSG a", None),
    (b"a.c", b"back", b"x\r\n", HEADERS),
    (b"a.c", b"", b"", b"NATS/1.0\r\n\r\n"),
]
SECOND = [(b"a.d", b"back", b"", None)]
FOREIGN = [
    "ping",
    (7, b"foreign", b"answer", b"\r\n\r\n", None),
    {"max_payload": 5, "a": 1},
    "pong",
    "'Permissions Violation for 1 MSG'",
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 19, 64, len(STREAM)])
async def test_pieces_of_a_size(size: int) -> None:
    client, parser, taken = made()
    for begin in range(0, len(STREAM), size):
        await parser.parse(STREAM[begin : begin + size])
    assert taken == {1: FIRST, 2: SECOND}
    assert client.seen == FOREIGN
    assert client.stats == {"in_msgs": 5, "in_bytes": 13}


async def test_two_pieces_cut_anywhere() -> None:
    for cut in range(len(STREAM)):
        client, parser, taken = made()
        await parser.parse(STREAM[:cut])
        await parser.parse(STREAM[cut:] + b"PONG\r\n")
        assert taken == {1: FIRST, 2: SECOND}, cut
        assert client.seen == [*FOREIGN, "pong"], cut


@pytest.mark.parametrize("wrong", [b"MSG a.b 1 five\r\n", b"MSG\r\n", b"\r\n", b"HELLO 1 2\r\n", b"MSG a 1 -5\r\n"])
async def test_what_is_no_protocol(wrong: bytes) -> None:
    _, parser, taken = made()
    with pytest.raises(ProtocolError):
        await parser.parse(b"MSG a.b 1 5\r\nhello\r\n" + wrong)
    assert taken[1] == FIRST[:1]


async def test_a_connection_that_is_lost_in_the_middle_of_a_buffer() -> None:
    client, parser, taken = made()
    client.lost = parser
    await parser.parse(b"MSG a.b 1 5\r\nhello\r\nPONG\r\nMSG a.b 1 5\r\nnever\r\nMSG a.b 1 9\r\nhalf")
    await parser.parse(b"MSG a.b 1 5\r\nMSG a\r\n")
    assert taken[1] == FIRST[:2]


async def test_a_big_message_in_many_pieces() -> None:
    _, parser, taken = made()
    body = b"0123456789" * 100_000
    data = b"MSG a.b 1 %d\r\n%b\r\n" % (len(body), body)
    for begin in range(0, len(data), 4096):
        await parser.parse(data[begin : begin + 4096])
    assert taken[1] == [(b"a.b", b"", body, None)]


async def test_the_loop_gets_its_turn_while_messages_come() -> None:
    _, parser, taken = made()
    seen: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: seen.append(len(taken[1])))
    for _ in range(3):
        await parser.parse(b"MSG a.b 1 0\r\n\r\n" * STREAK)
    assert seen == [STREAK]


@pytest.mark.parametrize(
    ("block", "content_type", "reply_to"),
    [
        (b"NATS/1.0\r\nContent-Type: application/json\r\nReply_To: a\r\n\r\n", "application/json", "a"),
        (b"NATS/1.0\r\ncontent-type:text/plain \r\ncontent-type: a/b\r\n\r\n", "a/b", None),
        (b"NATS/1.0\r\nx-content-type: a/b\r\nx: content-type: a/b\r\n\r\n", None, None),
        (b"NATS/1.0\r\ncontent-type: \xff\r\nreply_to: \r\n\r\n", None, None),
        (None, None, None),
    ],
)
def test_what_every_message_is_asked_for(block: bytes | None, content_type: str | None, reply_to: str | None) -> None:
    message = NatsMessage((b"a", b"", b"", block), "a", Origin())
    assert (message.content_type, message.reply_to) == (content_type, reply_to)
    assert message.headers.text("content-type") in (content_type, None)


def test_an_address_for_acknowledgements_with_domain_and_account() -> None:
    for reply, expected in (
        (b"$JS.ACK.tea.cup.1.17.5.1700000000000000000.3", ("tea", "cup", 17, 1, False)),
        (b"$JS.ACK.hub.Ab12.tea.cup.4.18.6.1700000000000000000.2.xyz", ("tea", "cup", 18, 4, True)),
    ):
        one = NatsMessage((b"a", reply, b"", None), "a", Origin(stream="tea", consumer="cup"))
        assert (one.stream, one.consumer, one.sequence, one.attempt, one.redelivered) == expected
        assert one.raw_message.metadata.sequence.stream == expected[2]
