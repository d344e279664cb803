"""The test broker."""

from __future__ import annotations

from fastapi_stream_core.testing import TestBroker

from .broker import NatsBroker
from .memory import NatsMemoryTransport

__all__ = ("TestNatsBroker",)


class TestNatsBroker(TestBroker[NatsBroker]):
    """Runs a NATS broker without a server: wildcards, queue groups and streams work as on the real one."""

    __test__ = False

    def transport(self) -> NatsMemoryTransport:
        return NatsMemoryTransport(self.broker, self.raise_errors)
