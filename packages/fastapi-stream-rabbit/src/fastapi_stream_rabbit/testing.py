"""The test broker."""

from __future__ import annotations

from fastapi_stream_core.testing.broker import TestBroker

from .broker import RabbitBroker
from .memory import RabbitMemoryTransport

__all__ = ("TestRabbitBroker",)


class TestRabbitBroker(TestBroker[RabbitBroker]):
    """Runs a `RabbitBroker` without a server.

    Args:
        broker: the broker of the app's router.
        raise_errors: whether `publish` raises the error of a handler that failed for good.
    """

    __test__ = False

    def transport(self) -> RabbitMemoryTransport:
        return RabbitMemoryTransport(self.broker, self.raise_errors)
