"""The test broker."""

from __future__ import annotations

from fastapi_stream_core.testing import Features, TestBroker

from .broker import RabbitBroker
from .memory import RabbitMemoryTransport

__all__ = ("FEATURES", "TestRabbitBroker")

FEATURES = (
    Features("rabbit", "queue", fan_out=False, path=False, batch=False),
    Features("rabbit", "exchange", batch=False),
)
"""What the kinds of subscriptions can do on the real server; in memory nothing survives the process."""


class TestRabbitBroker(TestBroker[RabbitBroker]):
    """Runs a `RabbitBroker` without a server.

    Args:
        broker: the broker of the app's router.
        raise_errors: whether `publish` raises the error of a handler that failed for good.
    """

    __test__ = False
    takes = RabbitBroker

    def transport(self) -> RabbitMemoryTransport:
        return RabbitMemoryTransport(self.broker, self.raise_errors)
