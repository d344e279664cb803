"""Kafka in the memory of the process, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.partitioner import murmur2
from aiokafka.structs import RecordMetadata
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.partition_memory import PartitionMemory, Record
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.subscription import Subscription

from .message import KafkaMessage
from .subscription import KafkaSubscription
from .wire import wire_headers, wire_value

__all__ = ("KafkaMemoryTransport",)


class KafkaMemoryTransport(PartitionMemory):
    """Routes by topic, pattern, partition and group."""

    def takes(self, subscription: Subscription, topic: str) -> bool:
        return cast("KafkaSubscription", subscription).takes(topic)

    def assigned(self, subscription: Subscription, topic: str) -> Sequence[int] | None:
        partitions = cast("KafkaSubscription", subscription).partitions
        return [one.partition for one in partitions if one.topic == topic] if partitions else None

    def partition_of(self, key: bytes, count: int) -> int:
        return int((murmur2(key) & 0x7FFFFFFF) % count)

    def message_of(self, outgoing: Outgoing, record: Record, subscription: Subscription | None) -> StreamMessage:
        value = wire_value(outgoing)
        headers = wire_headers(outgoing)
        raw = ConsumerRecord(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp=record.timestamp_ms,
            timestamp_type=0,
            key=record.key,
            value=value,
            checksum=None,
            serialized_key_size=-1 if record.key is None else len(record.key),
            serialized_value_size=-1 if value is None else len(value),
            headers=headers,
        )
        return KafkaMessage(raw, value, record.offset, TopicPartition(record.topic, record.partition))

    def receipt(self, outgoing: Outgoing) -> RecordMetadata:
        record = self.record(outgoing)
        return RecordMetadata(
            record.topic,
            record.partition,
            TopicPartition(record.topic, record.partition),
            record.offset,
            record.timestamp_ms,
            0,
            0,
        )
