"""One subscriber of Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.topic import TopicSubscription
from fastapi_stream_core.topic_options import LAST_PARTITION

from .config import check_consumer
from .message import KafkaMessage
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
    message_type = KafkaMessage
    binding: ClassVar[tuple[str, str]] = BINDING
    group_only: ClassVar[tuple[str, ...]] = (
        *TopicSubscription.group_only,
        "session_timeout_ms",
        "heartbeat_interval_ms",
        "max_poll_interval_ms",
        "partition_assignment_strategy",
    )

    def __init__(self, home: Declaring, topics: Sequence[str], options: Mapping[str, Any]) -> None:
        super().__init__(home, topics, options)
        self.given = frozenset(options)
        self.partitions: tuple[TopicPartition, ...] = tuple(self.options["partitions"])
        for one in self.partitions:
            if not 0 <= one.partition <= LAST_PARTITION:
                raise SetupError(self.label, f"{one} has no number of a partition", "count them from 0")
        if not self.options["partition_assignment_strategy"]:
            raise SetupError(
                self.label, "partition_assignment_strategy is empty", "give at least one, or leave the option out"
            )
        if self.options["max_poll_interval_ms"] < self.options["session_timeout_ms"]:
            raise SetupError(
                self.label,
                f"max_poll_interval_ms={self.options['max_poll_interval_ms']} is less than"
                f" session_timeout_ms={self.options['session_timeout_ms']}",
                "give more",
            )
        if options:
            check_consumer(self.options, self.label)

    @staticmethod
    def topic_of(partition: Any) -> str:
        return str(partition.topic)

    @property
    def join_seconds(self) -> float:
        if self.group_id is None or self.partitions:
            return 0.0
        return 5.0 + float(self.options["session_timeout_ms"]) / 1000
