"""One message of Kafka."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import StreamMessage

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord, TopicPartition

__all__ = ("KafkaMessage",)


class KafkaMessage(StreamMessage):
    """One record. `raw_message` is the `aiokafka.ConsumerRecord`, `lane` its `TopicPartition`.

    A null value, a tombstone, has an empty `body` and decodes to None.
    """

    __slots__ = ("_named",)

    raw_message: ConsumerRecord[bytes, bytes]

    def __init__(self, record: ConsumerRecord[bytes, bytes], lane: TopicPartition, redelivered: bool = False) -> None:
        super().__init__(record.value or b"", record, lane[0], lane, redelivered)
        self._named: dict[str, bytes | None] | None = None

    def read_headers(self) -> Headers:
        return Headers.of_bytes(self.raw_message.headers)

    def _technical(self, name: str) -> str | None:
        """Return one header as text, without building all of them: every message is asked for its content type."""
        if self._headers is not None:
            return self._headers.text(name) or None
        named = self._named
        if named is None:
            named = self._named = dict(self.raw_message.headers)
        value = named.get(name)
        if value is None:
            size = len(name)
            for given in named:
                if len(given) == size and given.lower() == name:
                    value = named[given]
        return None if value is None else _text(value)

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


def _text(value: bytes) -> str | None:
    """Return a header's value; None when it is empty or no text."""
    if value == b"application/json":  # nearly always
        return "application/json"
    try:
        return value.decode() if value else None
    except UnicodeDecodeError:
        return None
