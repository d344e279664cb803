"""One message of Redis."""

from __future__ import annotations

from typing import Any

from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import StreamMessage

from .wire import DATA_FIELD, basics_of, body_of, entry_data, headers_of

__all__ = ("RedisChannelMessage", "RedisListMessage", "RedisMessage", "RedisStreamMessage")


class RedisMessage(StreamMessage):
    """One message that came from a channel, a list or a stream.

    Attributes:
        raw_message: a dictionary of what the client received: `type` (`message`, `pmessage`, `list`, `stream`),
            `channel` (or the key), `data`, and what else that kind has.
        data: the value as Redis has it, the envelope with the headers included.
    """

    __slots__ = ("_basics", "data")

    def __init__(
        self,
        data: bytes,
        raw_message: dict[str, Any],
        address: str,
        redelivered: bool = False,
        attempt: int = 1,
    ) -> None:
        super().__init__(body_of(data), raw_message, address, None, redelivered, attempt)
        self.data = data
        self._basics: tuple[str | None, str | None] | None = None

    @property
    def content_type(self) -> str | None:
        if self._basics is None:
            self._basics = basics_of(self.data)
        return self._basics[0]

    @property
    def reply_to(self) -> str | None:
        if self._basics is None:
            self._basics = basics_of(self.data)
        return self._basics[1]

    def read_headers(self) -> Headers:
        return headers_of(self.data)


class RedisChannelMessage(RedisMessage):
    """One message of a channel: at most once, settling it does nothing."""

    __slots__ = ()

    @classmethod
    def received(cls, data: bytes, channel: str, pattern: str | None) -> RedisChannelMessage:
        """Make one from what a subscription received."""
        kind = "message" if pattern is None else "pmessage"
        return cls(data, {"type": kind, "pattern": pattern, "channel": channel, "data": data}, channel)


class RedisListMessage(RedisMessage):
    """One message of a list: at most once, settling it does nothing."""

    __slots__ = ()

    @classmethod
    def received(cls, data: bytes, key: str) -> RedisListMessage:
        """Make one from what was taken off a list."""
        return cls(data, {"type": "list", "channel": key, "data": data}, key)


class RedisStreamMessage(RedisMessage):
    """One entry of a stream.

    Attributes:
        entry_id: the id of the entry.
        group: the consumer group, if there is one.
        consumer: the name in the group.
    """

    __slots__ = ("_id", "consumer", "group")

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
        raw = {"type": "stream", "channel": stream, "message_ids": [entry_id], "data": _pairs(fields)}
        data = fields[1] if len(fields) == 2 and fields[0] == DATA_FIELD else entry_data(fields)
        super().__init__(data, raw, stream, redelivered, attempt)
        self._id = entry_id
        self.group = group
        self.consumer = consumer

    @property
    def entry_id(self) -> str:
        return self._id.decode()

    @property
    def identity(self) -> bytes:
        return self._id

    @property
    def position(self) -> str:
        return self._id.decode()


def _pairs(fields: list[bytes]) -> dict[bytes, bytes]:
    if len(fields) == 2:
        return {fields[0]: fields[1]}
    return dict(zip(fields[::2], fields[1::2], strict=False))
