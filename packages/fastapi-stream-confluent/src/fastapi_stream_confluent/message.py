"""One message of Kafka."""

from __future__ import annotations

from collections.abc import Hashable
from typing import cast

from confluent_kafka import Message
from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import StreamMessage

__all__ = ("KafkaMessage",)


class KafkaMessage(StreamMessage):
    """One record. `raw_message` is the `confluent_kafka.Message`, `lane` its topic and partition.

    A null value, a tombstone, has an empty `body` and decodes to None.

    Attributes:
        partition: number of the partition it came from.
        offset: its offset there.
    """

    __slots__ = ("_pairs", "offset", "partition")

    raw_message: Message

    def __init__(self, raw: Message, topic: str, partition: int, offset: int, redelivered: bool = False) -> None:
        super().__init__(raw.value() or b"", raw, topic, (topic, partition), redelivered)
        self.partition = partition
        self.offset = offset
        self._pairs: list[tuple[str, bytes | None]] | None = None

    @property
    def pairs(self) -> list[tuple[str, bytes | None]]:
        """The headers as they came: names and bytes."""
        if self._pairs is None:
            self._pairs = cast("list[tuple[str, bytes | None]]", self.raw_message.headers() or [])
        return self._pairs

    def read_headers(self) -> Headers:
        return Headers.of_bytes(self.pairs)

    def _technical(self, name: str) -> str | None:
        """Return one header as text, without building all of them: every message is asked for its content type."""
        if self._headers is not None:
            return self._headers.text(name)
        found: bytes | None = None
        for given, value in self.pairs:
            if value is not None and (given == name or given.lower() == name):
                found = value
        if found is None:
            return None
        try:
            return found.decode()
        except UnicodeDecodeError:
            return None

    @property
    def content_type(self) -> str | None:
        return self._technical("content-type")

    @property
    def reply_to(self) -> str | None:
        return self._technical("reply_to")

    def read_correlation_id(self) -> str | None:
        return self._technical("correlation_id")

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
        return (self.address, self.partition, self.offset)

    @property
    def position(self) -> str:
        return f"partition {self.partition} offset {self.offset}"
