"""One message of Kafka."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from fastapi_stream_core.topic_message import TopicMessage

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

__all__ = ("KafkaMessage",)


class KafkaMessage(TopicMessage):
    """One record. `raw_message` is the `aiokafka.ConsumerRecord`, `lane` its `TopicPartition`.

    A null value, a tombstone, has an empty `body` and decodes to None.

    Attributes:
        offset: its offset in the partition.
    """

    __slots__ = ()

    raw_message: ConsumerRecord[bytes, bytes]
    pairs_of = attrgetter("headers")

    @property
    def key(self) -> bytes | None:
        """The key."""
        key: bytes | None = self.raw_message.key
        return key

    @property
    def message_id(self) -> str:
        """Offset and timestamp of the record."""
        return f"{self.offset}-{self.raw_message.timestamp}"
