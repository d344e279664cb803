"""One message of Redis."""

from __future__ import annotations

from typing import Any

from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import UNSET, StreamMessage

from .wire import DATA_FIELD, entry_data, headers_of, joined, opened

__all__ = ("RedisChannelMessage", "RedisListMessage", "RedisMessage", "RedisStreamMessage")

FIELD_BYTES = 40
"""What Python needs for a name or a value of an entry, however short it is."""


class RedisMessage(StreamMessage):
    """One message that came from a channel, a list or a stream.

    Attributes:
        content_type: the declared content type; None when there is none, or it is no text.
        reply_to: where an answer is expected.
        size: bytes of the value in Redis, the envelope included, and of what else the sender chose.
    """

    __slots__ = ("_head", "content_type", "reply_to", "size")

    content_type: str | None
    reply_to: str | None
    size: int

    def __init__(self, data: bytes, address: str, redelivered: bool = False, attempt: int = 1) -> None:
        # What `StreamMessage.__init__` does, without its call: this runs for every message.
        self._head, self.body, (self.content_type, self.reply_to) = opened(data)  # pyright: ignore
        self.size = len(data)  # pyright: ignore
        if self._head is data:  # an old envelope is kept whole, beside its body
            self.size += len(self.body)  # pyright: ignore
        self.address = address
        self.redelivered = redelivered
        self.attempt = attempt
        self._decoded = UNSET
        self.background = self.lane = self._source = self._verdict = None
        self._headers = self._path = self._correlation_id = None

    @property
    def data(self) -> bytes:
        """The value as Redis has it, the envelope with the headers included; put together anew each time."""
        return joined(self._head, self.body)

    @property
    def raw_message(self) -> dict[str, Any]:
        """A dictionary of what the client received, made anew each time.

        `type` (`message`, `pmessage`, `list`, `stream`), `channel` (or the key), `data`, and what else that kind has.
        """
        return {"channel": self.address, "data": self.data}

    def read_headers(self) -> Headers:
        return headers_of(self._head)


class RedisChannelMessage(RedisMessage):
    """One message of a channel: at most once, settling it does nothing.

    Attributes:
        pattern: the pattern that it was received by; None for the channel's own name.
    """

    __slots__ = ("pattern",)

    pattern: str | None

    @classmethod
    def received(cls, data: bytes, channel: str, pattern: str | None) -> RedisChannelMessage:
        """Make one from what a subscription received."""
        message = cls(data, channel)
        message.pattern = pattern
        if pattern is not None:
            message.size += len(channel)  # pyright: ignore
        return message

    @property
    def raw_message(self) -> dict[str, Any]:
        kind = "message" if self.pattern is None else "pmessage"
        return {"type": kind, "pattern": self.pattern, "channel": self.address, "data": self.data}


class RedisListMessage(RedisMessage):
    """One message of a list: at most once, settling it does nothing."""

    __slots__ = ()

    @classmethod
    def received(cls, data: bytes, key: str) -> RedisListMessage:
        """Make one from what was taken off a list."""
        return cls(data, key)

    @property
    def raw_message(self) -> dict[str, Any]:
        return {"type": "list", "channel": self.address, "data": self.data}


class RedisStreamMessage(RedisMessage):
    """One entry of a stream.

    Attributes:
        identity: the id of the entry, as Redis has it.
        group: the consumer group, if there is one.
        consumer: the name in the group.
    """

    __slots__ = ("_fields", "consumer", "group", "identity")

    identity: bytes

    def __init__(
        self,
        entry_id: bytes,
        fields: list[bytes],
        stream: str,
        group: str | None = None,
        consumer: str | None = None,
        attempt: int = 1,
        redelivered: bool = False,
    ) -> None:
        # Of an entry as this package writes it the value is all there is to keep.
        if len(fields) == 2 and fields[0] == DATA_FIELD:
            data = fields[1]
            self._fields = None
        else:
            data = entry_data(fields)
            self._fields = fields
        # What `RedisMessage.__init__` does, without its call: this runs for every message.
        self._head, self.body, (self.content_type, self.reply_to) = opened(data)  # pyright: ignore
        self.size = len(self._head) + len(self.body)  # pyright: ignore
        if self._fields is not None:
            self.size += sum(map(len, fields)) + FIELD_BYTES * len(fields)  # pyright: ignore
        self.address = stream
        self.redelivered = redelivered
        self.attempt = attempt
        self._decoded = UNSET
        self.background = self.lane = self._source = self._verdict = None
        self._headers = self._path = self._correlation_id = None
        self.identity = entry_id  # pyright: ignore
        self.group = group
        self.consumer = consumer

    @property
    def entry_id(self) -> str:
        """The id of the entry."""
        return self.identity.decode()

    @property
    def position(self) -> str:
        return self.identity.decode()

    @property
    def raw_message(self) -> dict[str, Any]:
        fields = self._fields or [DATA_FIELD, self.data]
        return {
            "type": "stream",
            "channel": self.address,
            "message_ids": [self.identity],
            "data": dict(zip(fields[::2], fields[1::2], strict=False)),
        }
