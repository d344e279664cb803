"""The test broker."""

from __future__ import annotations

from fastapi_stream_core.testing import Features, TestBroker

from .broker import RedisBroker
from .memory import RedisMemoryTransport

__all__ = ("FEATURES", "TestRedisBroker")

FEATURES = (
    Features("redis", "channel", settles=False, survives=False, competes=False, batch=False),
    Features("redis", "list", settles=False, survives=False, fan_out=False, path=False),
    Features("redis", "stream", survives=False, competes=False, path=False),
    Features("redis", "group", path=False),
)
"""What the kinds of subscriptions can do on the real server; in memory nothing survives the process."""


class TestRedisBroker(TestBroker[RedisBroker]):
    """Runs a `RedisBroker` without a server.

    Args:
        broker: the broker of the app's router.
        raise_errors: whether `publish` raises the error of a handler that failed for good.
    """

    __test__ = False
    takes = RedisBroker

    def transport(self) -> RedisMemoryTransport:
        return RedisMemoryTransport(self.broker, self.raise_errors)
