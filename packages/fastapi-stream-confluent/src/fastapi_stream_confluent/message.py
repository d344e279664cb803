"""One message of Kafka."""

from __future__ import annotations

from collections.abc import Hashable
from typing import cast

from confluent_kafka import Message
from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.partition import Partition

__all__ = ("KafkaMessage",)


class KafkaMessage(StreamMessage):
    """One record. `raw_message` is the `confluent_kafka.Message`, `lane` its topic and partition.

    A null value, a tombstone, has an empty `body` and decodes to None.

    Attributes:
        partition: number of the partition it came from.
        offset: its offset there.
    """

    __slots__ = ("_pairs", "_technical", "offset", "partition")

    raw_message: Message

    def __init__(self, raw: Message, lane: Partition, offset: int, redelivered: bool = False) -> None:
        super().__init__(raw.value() or b"", raw, lane[0], lane, redelivered)
        self.partition = lane[1]
        self.offset = offset
        self._pairs: list[tuple[str, bytes | None]] | None = None
        self._technical: tuple[str | None, str | None] | None = None

    @property
    def pairs(self) -> list[tuple[str, bytes | None]]:
        """The headers as they came: names and bytes."""
        if self._pairs is None:
            self._pairs = cast("list[tuple[str, bytes | None]]", self.raw_message.headers() or [])
        return self._pairs

    def read_headers(self) -> Headers:
        return Headers.of_bytes(self.pairs)

    def _scan(self) -> None:
        """Find what every message is asked for in one pass, without building all headers."""
        kind: bytes | None = None
        reply_to: bytes | None = None
        for name, value in self.pairs:
            size = len(name)
            if size == 12 and name.lower() == "content-type":
                kind = value
            elif size == 8 and name.lower() == "reply_to":
                reply_to = value
        self._technical = (_text(kind), _text(reply_to))

    @property
    def content_type(self) -> str | None:
        if self._technical is None:
            self._scan()
        return self._technical[0]  # type: ignore[index]

    @property
    def reply_to(self) -> str | None:
        if self._technical is None:
            self._scan()
        return self._technical[1]  # type: ignore[index]

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


def _text(value: bytes | None) -> str | None:
    """Return a header's value; None when it is empty or no text."""
    if value == b"application/json":  # nearly always
        return "application/json"
    try:
        return value.decode() if value else None
    except UnicodeDecodeError:
        return None
