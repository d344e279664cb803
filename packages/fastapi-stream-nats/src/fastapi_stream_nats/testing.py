"""The test broker."""

from __future__ import annotations

from fastapi_stream_core.testing import Features, TestBroker

from .broker import NatsBroker
from .memory import NatsMemoryTransport

__all__ = ("FEATURES", "TestNatsBroker")

FEATURES = (
    Features("nats", "core", settles=False, survives=False, batch=False),
    Features("nats", "push", batch=False),
    Features("nats", "pull"),
)
"""What the kinds of subscriptions can do on the real server; in memory nothing survives the process."""


class TestNatsBroker(TestBroker[NatsBroker]):
    """Runs a NATS broker without a server: wildcards, queue groups and streams work as on the real one."""

    __test__ = False
    takes = NatsBroker

    def transport(self) -> NatsMemoryTransport:
        return NatsMemoryTransport(self.broker, self.raise_errors)
