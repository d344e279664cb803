"""One message of Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import UNSET, StreamMessage

from .reading import digest
from .wire import DATA_FIELD, at_a_glance, entry_data, headers_of, joined, opened

__all__ = ("RedisChannelMessage", "RedisListMessage", "RedisMessage", "RedisStreamMessage")

FIELD_BYTES = 40
"""What Python needs for a name or a value of an entry, however short it is."""
LATER = frozenset(("_head", "body", "content_type", "reply_to"))
"""What a message does not have until it is read."""


def _fields_size(fields: Sequence[bytes]) -> int:
    return len(b"".join(fields)) + FIELD_BYTES * len(fields)


class RedisMessage(StreamMessage):
    """One message that came from a channel, a list or a stream.

    Attributes:
        content_type: the declared content type; None when there is none, or it is no text.
        reply_to: where an answer is expected.
        size: bytes of the value in Redis, the envelope included, and of what else the sender chose. As long as it is
            not known how much that is, it is taken to be the value once more.
    """

    __slots__ = ("_head", "_unread", "content_type", "reply_to", "size")

    is_measured = True
    content_type: str | None
    reply_to: str | None
    size: int

    def __init__(self, data: bytes, address: str, redelivered: bool = False, attempt: int = 1) -> None:
        # What `StreamMessage.__init__` does, without its call: this runs for every message.
        known = at_a_glance(data)
        if known is None:
            self._unread: bytes | Sequence[bytes] | None = data
            self.size = 2 * len(data)  # pyright: ignore
        else:
            self._unread = None
            self._head, self.body, (self.content_type, self.reply_to) = known  # pyright: ignore
            self.size = len(data)  # pyright: ignore
        self.address = address
        self.redelivered = redelivered
        self.attempt = attempt
        self._decoded = UNSET
        self.background = self.lane = self._source = self._verdict = None
        self._headers = self._path = self._correlation_id = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Read the value when the first of `LATER` is asked for: within the handling of this message.

            A hundred values that take long to read may come at once, and the event loop would stand for all of them.
            """
            if name not in LATER:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            self._open()
            return getattr(self, name)

    def _open(self) -> None:
        unread = self._unread
        if unread is None:  # another thread was quicker
            return
        data, besides = (unread, 0) if isinstance(unread, bytes) else (entry_data(unread), _fields_size(unread))
        self._head, self.body, self._headers = opened(data)
        self.content_type = self._headers.text("content-type")  # pyright: ignore
        self.reply_to = self._headers.text("reply_to")  # pyright: ignore
        self.size = len(data) + besides  # pyright: ignore
        if self._head is data:  # an old envelope is kept whole, beside its body
            self.size += len(self.body)  # pyright: ignore
        self._unread = None

    @property
    def data(self) -> bytes:
        """The value as Redis has it, the envelope with the headers included; put together anew each time."""
        unread = self._unread
        return unread if isinstance(unread, bytes) else joined(self._head, self.body)

    @property
    def raw_message(self) -> dict[str, Any]:
        """A dictionary of what the client received, made anew each time.

        `type` (`message`, `pmessage`, `list`, `stream`), `channel` (or the key), `data`, and what else that kind has.
        """
        return {"channel": self.address, "data": self.data}

    def read_headers(self) -> Headers:
        head = self._head
        return headers_of(head) if self._headers is None else self._headers


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
        is_replaced: whether its id is that of another entry by now, which settling this one would settle.
    """

    __slots__ = ("_fields", "consumer", "group", "identity", "is_replaced")

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
        # What `RedisMessage.__init__` does, without its call: this runs for every message.
        # Of an entry as this package writes it the value is all there is to keep.
        self._fields = self._unread = None
        if len(fields) == 2 and fields[0] == DATA_FIELD:
            data = fields[1]
            known = at_a_glance(data)
            if known is None:
                self._unread = data
                self.size = 2 * len(data)  # pyright: ignore
            else:
                self._head, self.body, (self.content_type, self.reply_to) = known  # pyright: ignore
                self.size = len(data)  # pyright: ignore
        else:
            self._fields = self._unread = fields
            self.size = 2 * _fields_size(fields)  # pyright: ignore
        self.address = stream
        self.redelivered = redelivered
        self.attempt = attempt
        self._decoded = UNSET
        self.background = self.lane = self._source = self._verdict = None
        self._headers = self._path = self._correlation_id = None
        self.identity = entry_id  # pyright: ignore
        self.group = group
        self.consumer = consumer
        self.is_replaced = False

    @property
    def digest(self) -> int:
        """What tells it from another entry of the same id; of all that it holds, so it is for few messages."""
        return digest(self._fields or [DATA_FIELD, self.data])

    def is_copy_of(self, other: StreamMessage) -> bool:
        # A stream that was made again, or whose server was restored, gives ids of before to other entries.
        if not isinstance(other, RedisStreamMessage) or self.identity != other.identity:
            return False
        return self.digest == other.digest

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
