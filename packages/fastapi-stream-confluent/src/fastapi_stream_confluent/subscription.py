"""One subscriber of Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fastapi_stream_core.topic import TopicSubscription

from .options import KafkaSubscriberOptions

if TYPE_CHECKING:
    from confluent_kafka import TopicPartition
    from fastapi_stream_core.declaration import Declaring

__all__ = ("BINDING", "KafkaSubscription")

BINDING = ("kafka", "0.5.0")


class KafkaSubscription(TopicSubscription):
    """One subscriber: of topics, of a pattern, or of given partitions.

    Attributes:
        partitions: the partitions that are read, when they are given.
    """

    declaration: ClassVar[type] = KafkaSubscriberOptions
    binding: ClassVar[tuple[str, str]] = BINDING

    def __init__(self, home: Declaring, topics: Sequence[str], options: Mapping[str, Any]) -> None:
        super().__init__(home, topics, options)
        self.partitions: tuple[TopicPartition, ...] = tuple(self.options["partitions"])

    @staticmethod
    def topic_of(partition: Any) -> str:
        return str(partition.topic)

    @property
    def join_seconds(self) -> float:
        return 0.0 if self.group_id is None else 5.0 + float(self.options["session_timeout_ms"]) / 1000
