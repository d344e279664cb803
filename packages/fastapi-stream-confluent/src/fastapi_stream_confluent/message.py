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

    __slots__ = ("offset", "partition")

    raw_message: Message

    def __init__(self, raw: Message, topic: str, partition: int, offset: int, redelivered: bool = False) -> None:
        super().__init__(raw.value() or b"", raw, topic, (topic, partition), redelivered)
        self.partition = partition
        self.offset = offset

    @property
    def key(self) -> bytes | None:
        """The key."""
        key: bytes | None = self.raw_message.key()
        return key

    def read_headers(self) -> Headers:
        pairs = cast("list[tuple[str, bytes | None]]", self.raw_message.headers() or [])
        return Headers.of_bytes(pairs)

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
