"""What errors of the client mean for a consumer."""

from __future__ import annotations

from confluent_kafka import KafkaError

__all__ = ("BROKEN", "LATE", "UNREADABLE")

LATE = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError._STATE,
    }
)
"""Errors of a commit that say that the group went on without this member."""
BROKEN = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError._FATAL,
    }
)
"""Errors of a consumer that do not go away by themselves: it is made anew."""
UNREADABLE = frozenset({KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG})
"""Errors that the client tells of the same records again and again, and goes no further."""
