"""A message of NATS."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from fastapi_stream_core.codec import JSON
from fastapi_stream_core.errors import StreamError, shorten
from fastapi_stream_core.headers import MOST_HEADERS, Headers, HeaderValue, text_or_bytes
from fastapi_stream_core.message import UNSET, StreamMessage
from nats.aio.msg import Msg

from .parser import Wire
from .subject import readable

__all__ = ("Foreign", "NatsMessage", "Origin", "WireMsg", "read_headers", "wire_size", "wire_sizes")


def wire_size(wire: Wire) -> int:
    """Return how many bytes of a message its sender chose."""
    subject, reply, body, headers = wire
    return len(subject) + len(reply) + len(body) + (0 if headers is None else len(headers))


def wire_sizes(run: list[Wire]) -> list[int]:
    """Return the same for each of several messages; for every message that comes, so without a call for each."""
    return [
        len(subject) + len(reply) + len(body) + (0 if headers is None else len(headers))
        for subject, reply, body, headers in run
    ]


def read_headers(wire: bytes | None) -> list[tuple[str, HeaderValue]]:
    """Read the header block of the protocol: repeated names are kept, values that are not UTF-8 stay bytes.

    What follows the first 1,000 lines is left out: reading all that a message can hold would stop everybody else.
    """
    if not wire:
        return []
    pairs: list[tuple[str, HeaderValue]] = []
    for line in wire.split(b"\r\n", MOST_HEADERS + 1)[1 : MOST_HEADERS + 1]:
        name, colon, value = line.partition(b":")
        if colon:
            pairs.append((name.strip().decode("latin-1"), text_or_bytes(value.strip())))
    return pairs


def technical(wire: bytes) -> tuple[str | None, str | None]:
    """Return what every message is asked for, content type and reply address, without reading all headers."""
    lower = wire.lower()
    at = lower.rfind(b"\r\ncontent-type:")
    content_type = _value(wire, at + 15) if at >= 0 else None
    at = lower.rfind(b"\r\nreply_to:")
    return content_type, (_value(wire, at + 11) if at >= 0 else None)


def _value(wire: bytes, begin: int) -> str | None:
    value = wire[begin : wire.find(b"\r\n", begin)].strip()
    if value == b"application/json":  # nearly always
        return JSON
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        return None


class WireMsg(Msg):
    """nats-py's message; its headers are read when somebody asks for them.

    Attributes:
        wire_headers: the header block as it came, None for none.
    """

    wire_headers: bytes | None
    _read: dict[str, str] | None

    def __init__(self, client: Any, subject: str, reply: str, data: bytes, headers: bytes | None, sid: int) -> None:
        self._client = client
        self.subject = subject
        self.reply = reply
        self.data = data
        self.wire_headers = headers
        self._sid = sid
        self._metadata = None
        self._ackd = False
        self._read = None

    @property
    def headers(self) -> dict[str, str] | None:  # type: ignore[override]
        """The headers as nats-py gives them: text, the last value of a repeated name."""
        if self._read is None and self.wire_headers:
            pairs = read_headers(self.wire_headers)
            self._read = {name: one if isinstance(one, str) else one.decode("utf-8", "replace") for name, one in pairs}
        return self._read


class Foreign(StreamError, ValueError):
    """A message among those of a stream that did not come from it: somebody published it to where they go.

    Attributes:
        reply: its address for acknowledgements.
    """

    def __init__(self, reply: bytes) -> None:
        super().__init__(f"{shorten(readable(reply))} is no address for acknowledgements of the stream's consumer.")
        self.reply = reply


class Origin:
    """What the messages of one subscription have in common.

    Args:
        client: nats-py's client, None in memory.
        number: of the subscription in the client.
        stream: the name of the stream; None on NATS core.
        consumer: the name of the stream's consumer.
        life: when the stream was created, which tells it from one of the same name.

    Attributes:
        prefix: how the addresses for acknowledgements begin, as the last message said it.
    """

    __slots__ = ("client", "consumer", "life", "number", "prefix", "stream")

    def __init__(
        self, client: Any = None, number: int = 0, stream: str | None = None, consumer: str = "", life: Hashable = None
    ) -> None:
        self.client = client
        self.number = number
        self.stream = stream
        self.consumer = consumer
        self.life = life
        self.prefix = b"-"

    def learn(self, reply: bytes) -> None:
        """Learn from an address for acknowledgements how they begin.

        `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>. ...`, with domain and account after ACK on new servers.

        Raises:
            Foreign: it is no address of this stream and this consumer.
        """
        tokens = reply.split(b".")
        first = 2 if len(tokens) == 9 else 4
        names = [f"{self.stream}".encode(), self.consumer.encode()]
        if tokens[:2] != [b"$JS", b"ACK"] or tokens[first : first + 2] != names:
            raise Foreign(reply)
        self.prefix = b".".join(tokens[: first + 2]) + b"."

    def owns(self, reply: bytes) -> bool:
        """Tell whether an address for acknowledgements is one of this stream and this consumer."""
        try:
            if not reply.startswith(self.prefix):
                self.learn(reply)
        except Foreign:
            return False
        return True


class NatsMessage(StreamMessage):
    """One message of NATS core or JetStream.

    Raises:
        Foreign: it should come from a stream, and its address for acknowledgements is none of that stream's.

    Attributes:
        stream: the stream that it came from; None on NATS core.
        consumer: name of the stream's consumer; None on NATS core.
        sequence: its number in the stream, from 1; 0 on NATS core.
        delivery: the number of this delivery among all of the consumer, from 1; 0 on NATS core.
        content_type: the declared content type; None when there is none, or it is no text.
        reply_to: where an answer is expected: the message's own reply subject, or with JetStream the header.
    """

    __slots__ = ("_origin", "_wire", "consumer", "content_type", "delivery", "reply_to", "sequence", "stream")

    consumer: str | None
    content_type: str | None
    reply_to: str | None

    def __init__(self, wire: Wire, address: str, origin: Origin) -> None:
        # What `StreamMessage.__init__` does, without its call: this runs for every message.
        _, reply, self.body, headers = self._wire = wire
        self.address = address
        self._origin = origin
        self._decoded = UNSET
        self.background = self.lane = self._source = self._verdict = None
        self._headers = self._path = self._correlation_id = None
        content_type, reply_to = (None, None) if headers is None else technical(headers)
        self.stream = origin.stream
        if self.stream is not None:
            if not reply.startswith(origin.prefix):
                origin.learn(reply)
            try:
                delivered, sequence, delivery, _ = reply[len(origin.prefix) :].split(b".", 3)
                self.sequence = number = int(sequence)
                self.delivery = int(delivery)
                self.attempt = attempt = int(delivered)
            except ValueError:
                raise Foreign(reply) from None
            if attempt < 1 or number < 1:
                raise Foreign(reply)
            self.consumer = origin.consumer
            self.redelivered = attempt > 1
        else:
            self.consumer = None
            self.sequence = self.delivery = 0
            self.attempt = 1
            self.redelivered = False
            if reply:
                reply_to = reply.decode("utf-8", "surrogateescape")
        self.content_type = content_type  # pyright: ignore
        self.reply_to = reply_to  # pyright: ignore

    @property
    def raw_message(self) -> WireMsg:
        """nats-py's `Msg`, made anew each time."""
        subject, reply, data, headers = self._wire
        origin = self._origin
        return WireMsg(
            origin.client, readable(subject), reply.decode("utf-8", "surrogateescape"), data, headers, origin.number
        )

    @property
    def wire_reply(self) -> bytes:
        """The reply subject as it is on the wire: with JetStream the address for acknowledgements."""
        return self._wire[1]

    def read_headers(self) -> Headers:
        return Headers(read_headers(self._wire[3]))

    @property
    def identity(self) -> Hashable:
        return (self.stream, self._origin.life, self.sequence) if self.stream is not None else None

    @property
    def size(self) -> int:
        return wire_size(self._wire)

    def is_copy_of(self, other: StreamMessage) -> bool:
        # A stream that was made again counts anew, and what somebody publishes to where the messages of a stream go can
        # bear any number: a copy is the same in all that it holds.
        if not isinstance(other, NatsMessage) or self.sequence != other.sequence or self.identity != other.identity:
            return False
        (subject, _, body, headers), known = self._wire, other._wire
        return self.stream is not None and (subject, body, headers) == (known[0], known[2], known[3])

    @property
    def position(self) -> str:
        return f"{self.stream}:{self.sequence}" if self.stream is not None else self.message_id
