"""Kafka in memory, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import TIMESTAMP_CREATE_TIME, Message
from fastapi_stream_core.headers import HeaderValue
from fastapi_stream_core.partition_memory import PartitionMemory, Record

from .message import KafkaMessage
from .subscription import KafkaSubscription
from .wire import wire_key

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing
    from fastapi_stream_core.subscription import Subscription

__all__ = ("KafkaMemoryTransport",)


class KafkaMemoryTransport(PartitionMemory):
    """Routes by topic, pattern, partition and group."""

    wire_key = staticmethod(wire_key)

    def takes(self, subscription: Subscription, topic: str) -> bool:
        return isinstance(subscription, KafkaSubscription) and subscription.takes(topic)

    def assigned(self, subscription: Subscription, topic: str) -> Sequence[int] | None:
        if not isinstance(subscription, KafkaSubscription) or not subscription.partitions:
            return None
        return [one.partition for one in subscription.partitions if one.topic == topic]

    def message_of(self, outgoing: Outgoing, record: Record, subscription: Subscription | None) -> KafkaMessage:
        raw = _message(outgoing, record)
        return KafkaMessage(raw, raw.value(), record.offset, (record.topic, record.partition))

    def receipt(self, outgoing: Outgoing) -> Any:
        return _message(outgoing, self.record(outgoing))


def _message(outgoing: Outgoing, record: Record) -> Message:
    return Message(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=None if outgoing.is_null else outgoing.body,
        headers=[(name, _bytes(value)) for name, value in outgoing.wire_headers()],
        timestamp=(TIMESTAMP_CREATE_TIME, record.timestamp_ms),
    )


def _bytes(value: HeaderValue) -> bytes:
    return value.encode() if isinstance(value, str) else value
