"""One subscriber of Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from aiokafka import TopicPartition
from fastapi_stream_core.asyncapi.description import ChannelDescription
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.subscription import Subscription

from .options import KafkaSubscriberOptions
from .pattern import TopicPattern

if TYPE_CHECKING:
    from fastapi_stream_core.declaration import Declaring

__all__ = ("BINDING_VERSION", "KafkaSubscription")

BINDING_VERSION = "0.5.0"


class KafkaSubscription(Subscription):
    """One subscriber: of topics, of a pattern, or of given partitions.

    Attributes:
        topics: the topics by name; empty with a pattern.
        pattern: which topics are meant, instead of names.
        partitions: the partitions that are read, when they are given.
    """

    declaration: ClassVar[type] = KafkaSubscriberOptions

    def __init__(self, home: Declaring, topics: Sequence[str], options: Mapping[str, Any]) -> None:
        pattern = options.get("pattern")
        partitions = tuple(TopicPartition(*one) for one in options.get("partitions") or ())
        subject = f"subscriber({', '.join(map(repr, topics))})"
        given = [
            name for name, value in (("topics", topics), ("pattern", pattern), ("partitions", partitions)) if value
        ]
        if len(given) != 1:
            raise SetupError(
                subject,
                f"{' and '.join(given)} are given" if given else "nothing to read is given",
                "give topics, or pattern=, or partitions=, and only one of them",
            )
        for topic in topics:
            if not isinstance(topic, str):
                raise SetupError(subject, f"{topic!r} is no name of a topic", "give topics as str")
        self.pattern = None if pattern is None else TopicPattern(pattern)
        self.partitions = partitions
        self.topics = tuple(dict.fromkeys(topics or (one.topic for one in partitions)))
        super().__init__(home, self.topics if pattern is None else (pattern,), options)
        if self.options["auto_offset_reset"] == "none" and self.group_id is None:
            raise SetupError(
                self.label,
                "auto_offset_reset='none' without group_id has nowhere to begin",
                "give a group_id, or use 'latest' or 'earliest'",
            )
        limit = self.options["max_records"]
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise SetupError(self.label, f"max_records={limit!r} is no positive integer", "give 1 or more")

    @property
    def group_id(self) -> str | None:
        """The consumer group."""
        group: str | None = self.options["group_id"]
        return group

    @property
    def batch_seconds(self) -> float:
        return float(self.options["batch_timeout_ms"] / 1000)

    @property
    def rebalance_seconds(self) -> float:
        """How long the group waits for a member in a rebalance, in seconds."""
        wait_ms = self.options["rebalance_timeout_ms"] or self.options["session_timeout_ms"]
        return float(wait_ms / 1000)

    @property
    def join_seconds(self) -> float:
        if self.group_id is None or self.partitions:
            return 0.0
        return 5.0 + max(self.rebalance_seconds, float(self.options["session_timeout_ms"] / 1000))

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        return () if self.pattern is None else self.pattern.names

    def capture(self, address: str) -> dict[str, str]:
        return {} if self.pattern is None else self.pattern.capture(address)

    def takes(self, topic: str) -> bool:
        """Tell whether a topic is read."""
        return topic in self.topics if self.pattern is None else self.pattern.matches(topic)

    def describe(self) -> list[ChannelDescription]:
        operation: dict[str, Any] = {"bindingVersion": BINDING_VERSION}
        if self.group_id is not None:
            operation |= {"groupId": {"type": "string", "enum": [self.group_id]}}
        bindings: dict[str, Any] = {"operation_bindings": {"kafka": operation}}
        if self.pattern is None:
            return [
                ChannelDescription(
                    topic,
                    topic,
                    channel_bindings={"kafka": {"topic": topic, "bindingVersion": BINDING_VERSION}},
                    **bindings,
                )
                for topic in self.topics
            ]
        bindings |= {
            "channel_bindings": {"kafka": {"bindingVersion": BINDING_VERSION}},
            "extensions": {"x-pattern": self.pattern.regex.pattern},
        }
        if self.pattern.is_template:
            return [ChannelDescription(self.pattern.text, self.pattern.text, parameters=self.path_names, **bindings)]
        return [ChannelDescription(None, self.pattern.text, **bindings)]
