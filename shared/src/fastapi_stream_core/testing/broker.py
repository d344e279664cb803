"""The base of the test brokers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from ..broker import Broker
from ..handler import Registration, registration

if TYPE_CHECKING:
    from types import TracebackType

    from ..memory import MemoryTransport
    from ..message import StreamMessage
    from ..transport import Transport

__all__ = ("TestBroker",)

B = TypeVar("B", bound=Broker)


class TestBroker(Generic[B]):
    """Runs a broker without a server: the production path over a transport in memory.

    `with` and `async with` both give back the broker itself. `async with` also starts it on the running loop;
    under `with` the app's lifespan does, and `publish` works without it too.

    Args:
        broker: the broker of the app's router.
        raise_errors: whether `publish` raises the error of a handler that failed for good.
    """

    __test__ = False

    def __init__(self, broker: B, *, raise_errors: bool = True) -> None:
        self.broker = broker
        self.raise_errors = raise_errors
        self._memory: MemoryTransport | None = None
        self._before: tuple[Callable[[], Transport], Transport | None] | None = None
        self._registrations: list[Registration[..., object]] = []
        self._started = False

    @abstractmethod
    def transport(self) -> MemoryTransport:
        """Return the package's transport in memory."""

    def __enter__(self) -> B:
        from unittest.mock import MagicMock  # an app that imports its package never needs it

        broker = self.broker
        memory = self._memory = self.transport()
        self._before = (broker._make_transport, broker._standby)
        broker._make_transport = lambda: memory
        broker._standby = memory
        broker._published = self.published
        functions = {id(one): one for subscription in broker.subscribers for one in subscription.handlers}
        self._registrations = [registration(one) for one in functions.values()]
        for known in self._registrations:
            known.begin()
        for publisher in broker.publishers:
            publisher.mock = MagicMock(name=f"publisher({publisher.address!r})")
        return broker

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        broker = self.broker
        if self._before is not None:
            broker._make_transport, broker._standby = self._before
        broker._published = None
        for publisher in broker.publishers:
            publisher.mock = None
        for known in self._registrations:
            known.end()
        if self._memory is not None:
            self._memory.abandon()

    async def __aenter__(self) -> B:
        broker = self.__enter__()
        if not broker.running:
            await broker.start()
            self._started = True
        return broker

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._started:
                await self.broker.stop()
            if self._memory is not None:
                await self._memory.end()
        finally:
            self.__exit__(kind, error, trace)

    def published(self, address: str) -> list[StreamMessage]:
        """Return what was published to an address, the oldest first."""
        memory = self._memory
        if memory is None:
            return []
        return [memory.message(one, None) for one in memory.log if memory.address_of(one) == address]
