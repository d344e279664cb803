"""One message of Kafka."""

from __future__ import annotations

from confluent_kafka import Message
from fastapi_stream_core.topic_message import TopicMessage

__all__ = ("KafkaMessage",)


class KafkaMessage(TopicMessage):
    """One record. `raw_message` is the `confluent_kafka.Message`, `lane` its topic and partition.

    A null value, a tombstone, has an empty `body` and decodes to None.

    Attributes:
        offset: its offset in the partition.
    """

    __slots__ = ()

    raw_message: Message
    # The client makes a list of the headers when it is asked: not for messages that wait.
    pairs_of = staticmethod(Message.headers)

    @property
    def key(self) -> bytes | None:
        """The key."""
        key: bytes | None = self.raw_message.key()
        return key

    @property
    def message_id(self) -> str:
        """Offset and timestamp of the record."""
        return f"{self.offset}-{self.raw_message.timestamp()[1]}"
