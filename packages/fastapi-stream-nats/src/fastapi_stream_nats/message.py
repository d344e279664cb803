"""A message of NATS."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from fastapi_stream_core.headers import Headers, HeaderValue, text_or_bytes
from fastapi_stream_core.message import StreamMessage
from nats.aio.msg import Msg

__all__ = ("NatsMessage", "WireMsg", "read_headers")


def read_headers(wire: bytes | None) -> list[tuple[str, HeaderValue]]:
    """Read the header block of the protocol: repeated names are kept, values that are not UTF-8 stay bytes."""
    if not wire:
        return []
    pairs: list[tuple[str, HeaderValue]] = []
    for line in wire.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            pairs.append((name.strip().decode("latin-1"), text_or_bytes(value.strip())))
    return pairs


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


class NatsMessage(StreamMessage):
    """One message of NATS core or JetStream.

    Attributes:
        raw_message: nats-py's `Msg`.
        stream: the stream that it came from; None on NATS core.
        consumer: name of the stream's consumer; None on NATS core.
        sequence: its number in the stream, from 1; 0 on NATS core.
    """

    __slots__ = ("consumer", "sequence", "stream")

    raw_message: WireMsg

    def __init__(
        self, raw: WireMsg, stream: str | None = None, consumer: str | None = None, sequence: int = 0, attempt: int = 1
    ) -> None:
        super().__init__(raw.data, raw, raw.subject, None, attempt > 1, attempt)
        self.stream = stream
        self.consumer = consumer
        self.sequence = sequence

    @classmethod
    def of_stream(cls, raw: WireMsg) -> NatsMessage:
        """Make a message of JetStream; what the server says of it is in the subject for the acknowledgement.

        `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>. ...`, with domain and account after ACK on new servers.
        """
        tokens = raw.reply.split(".")
        first = 2 if len(tokens) == 9 else 4
        return cls(raw, tokens[first], tokens[first + 1], int(tokens[first + 3]), int(tokens[first + 2]))

    def read_headers(self) -> Headers:
        return Headers(read_headers(self.raw_message.wire_headers))

    @property
    def reply_to(self) -> str | None:
        """Where an answer is expected: the message's own reply subject, or with JetStream the header."""
        if self.stream is None and self.raw_message.reply:
            return self.raw_message.reply
        return self.headers.text("reply_to")

    @property
    def identity(self) -> Hashable:
        return (self.stream, self.sequence) if self.stream is not None else None

    @property
    def position(self) -> str:
        return f"{self.stream}:{self.sequence}" if self.stream is not None else self.message_id
