"""One message of Kafka."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from fastapi_stream_core.codec import JSON
from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import _UNSET, StreamMessage

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord, TopicPartition
    from fastapi_stream_core.partition import Offsets

__all__ = ("KafkaMessage",)


class KafkaMessage(StreamMessage):
    """One record. `raw_message` is the `aiokafka.ConsumerRecord`, `lane` its `TopicPartition`.

    A null value, a tombstone, has an empty `body` and decodes to None.

    Attributes:
        content_type: the declared content type; None when there is none, or it is no text.
        reply_to: where an answer is expected.
    """

    __slots__ = ("_offsets", "content_type", "reply_to")

    raw_message: ConsumerRecord[bytes, bytes]
    content_type: str | None
    reply_to: str | None

    def __init__(
        self,
        record: ConsumerRecord[bytes, bytes],
        lane: TopicPartition,
        redelivered: bool = False,
        offsets: Offsets | None = None,
    ) -> None:
        # What `StreamMessage.__init__` does, without its call: this runs for every message.
        self.body = record.value or b""
        self.raw_message = record
        self.address = lane[0]
        self.lane = lane
        self.redelivered = redelivered
        self.attempt = 1
        self._decoded = _UNSET
        self.background = self._source = self._verdict = None
        self._headers = self._path = self._correlation_id = None
        self._offsets = offsets
        # Every message is asked for these two; one pass is cheaper than to build all headers.
        content_type = reply_to = None
        for name, value in record.headers:
            size = len(name)
            if size == 12 and (name == "content-type" or name.lower() == "content-type"):
                content_type = JSON if value == b"application/json" else _text(value, content_type)
            elif size == 8 and name.lower() == "reply_to":
                reply_to = _text(value, reply_to)
        self.content_type = content_type  # pyright: ignore[reportIncompatibleMethodOverride]
        self.reply_to = reply_to  # pyright: ignore[reportIncompatibleMethodOverride]

    def read_headers(self) -> Headers:
        return Headers.of_bytes(self.raw_message.headers)

    @property
    def key(self) -> bytes | None:
        """The key."""
        key: bytes | None = self.raw_message.key
        return key

    @property
    def message_id(self) -> str:
        """Offset and timestamp of the record."""
        return f"{self.raw_message.offset}-{self.raw_message.timestamp}"

    @property
    def identity(self) -> Hashable:
        return (self.lane, self.raw_message.offset)

    @property
    def position(self) -> str:
        return f"partition {self.raw_message.partition} offset {self.raw_message.offset}"


def _text(value: bytes | None, before: str | None) -> str | None:
    """Return the text of a header, None when it is empty or no text; a null value is as if it were not there."""
    if value is None:
        return before
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        return None
