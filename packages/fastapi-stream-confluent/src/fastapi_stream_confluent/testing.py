"""Tests without a server."""

from __future__ import annotations

from fastapi_stream_core.testing import Features, TestBroker

from .broker import KafkaBroker
from .memory import KafkaMemoryTransport

__all__ = ("FEATURES", "TestKafkaBroker")

FEATURES = (Features("confluent", "topic", lanes=True, null=True),)
"""What the kinds of subscriptions can do on the real server; in memory nothing survives the process."""


class TestKafkaBroker(TestBroker[KafkaBroker]):
    """Runs a `KafkaBroker` without a server: topics, patterns, partitions, keys and groups as Kafka has them."""

    __test__ = False
    takes = KafkaBroker

    def transport(self) -> KafkaMemoryTransport:
        return KafkaMemoryTransport(self.broker, self.raise_errors)
