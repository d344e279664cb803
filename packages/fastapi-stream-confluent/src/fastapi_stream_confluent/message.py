"""One message of Kafka."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import Message
from fastapi_stream_core.codec import JSON
from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import _UNSET, StreamMessage
from fastapi_stream_core.partition import Partition

if TYPE_CHECKING:
    from fastapi_stream_core.partition import Offsets

__all__ = ("KafkaMessage",)


class KafkaMessage(StreamMessage):
    """One record. `raw_message` is the `confluent_kafka.Message`, `lane` its topic and partition.

    A null value, a tombstone, has an empty `body` and decodes to None.

    Attributes:
        offset: its offset in the partition.
    """

    __slots__ = ("_content_type", "_offsets", "_reply_to", "offset")

    raw_message: Message
    _content_type: str | None

    def __init__(
        self, raw: Message, lane: Partition, offset: int, redelivered: bool = False, offsets: Offsets | None = None
    ) -> None:
        # What `StreamMessage.__init__` does, without its call: this runs for every message.
        self.body = raw.value() or b""
        self.raw_message = raw
        self.address = lane[0]
        self.lane = lane
        self.redelivered = redelivered
        self.attempt = 1
        self._decoded = _UNSET
        self.background = self._source = self._verdict = None
        self._headers = self._path = self._correlation_id = None
        self.offset = offset
        self._offsets = offsets
        self._reply_to: str | None = _UNSET

    def _scan(self) -> None:
        """Find what every message is asked for in one pass, and only when it is handled.

        The client makes a list of the headers when it is asked. Those of all messages that wait would be walked
        through by the garbage collector again and again.
        """
        content_type = reply_to = None
        headers: Any = self.raw_message.headers()
        for name, value in headers or ():
            size = len(name)
            if size == 12 and (name == "content-type" or name.lower() == "content-type"):
                content_type = JSON if value == b"application/json" else _text(value, content_type)
            elif size == 8 and name.lower() == "reply_to":
                reply_to = _text(value, reply_to)
        self._content_type, self._reply_to = content_type, reply_to

    @property
    def content_type(self) -> str | None:
        if self._reply_to is _UNSET:
            self._scan()
        return self._content_type

    @property
    def reply_to(self) -> str | None:
        if self._reply_to is _UNSET:
            self._scan()
        return self._reply_to

    @property
    def partition(self) -> int:
        """Number of the partition it came from."""
        return cast("Partition", self.lane)[1]

    @property
    def pairs(self) -> list[tuple[str, bytes | None]]:
        """The headers as they came: names and bytes."""
        return cast("list[tuple[str, bytes | None]]", self.raw_message.headers() or [])

    def read_headers(self) -> Headers:
        return Headers.of_bytes(self.pairs)

    @property
    def key(self) -> bytes | None:
        """The key."""
        key: bytes | None = self.raw_message.key()
        return key

    @property
    def message_id(self) -> str:
        """Offset and timestamp of the record."""
        return f"{self.offset}-{self.raw_message.timestamp()[1]}"

    @property
    def identity(self) -> Hashable:
        return (self.lane, self.offset)

    @property
    def position(self) -> str:
        return f"partition {self.partition} offset {self.offset}"


def _text(value: bytes | None, before: str | None) -> str | None:
    """Return the text of a header, None when it is empty or no text; a null value is as if it were not there."""
    if value is None:
        return before
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        return None
