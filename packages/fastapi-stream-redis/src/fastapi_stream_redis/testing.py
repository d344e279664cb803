"""The test broker."""

from __future__ import annotations

from fastapi_stream_core.testing.broker import TestBroker

from .broker import RedisBroker
from .memory import RedisMemoryTransport

__all__ = ("TestRedisBroker",)


class TestRedisBroker(TestBroker[RedisBroker]):
    """Runs a `RedisBroker` without a server.

    Args:
        broker: the broker of the app's router.
        raise_errors: whether `publish` raises the error of a handler that failed for good.
    """

    __test__ = False

    def transport(self) -> RedisMemoryTransport:
        return RedisMemoryTransport(self.broker, self.raise_errors)
