"""Tests without a server."""

from __future__ import annotations

from fastapi_stream_core.testing.broker import TestBroker

from .broker import KafkaBroker
from .memory import KafkaMemoryTransport

__all__ = ("TestKafkaBroker",)


class TestKafkaBroker(TestBroker[KafkaBroker]):
    """Runs a `KafkaBroker` without a server: topics, patterns, partitions, keys and groups as Kafka has them."""

    __test__ = False

    def transport(self) -> KafkaMemoryTransport:
        return KafkaMemoryTransport(self.broker, self.raise_errors)
