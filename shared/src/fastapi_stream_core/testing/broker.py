"""The base of the test brokers."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from ..broker import Broker
from ..declaration import Declaring
from ..errors import SetupError
from ..event_loop import running_loop
from ..handler import Registration, registration

if TYPE_CHECKING:
    from types import TracebackType

    from ..memory import MemoryTransport
    from ..message import StreamMessage
    from ..publisher import Publisher
    from ..router import StreamRouter
    from ..transport import Transport

__all__ = ("TestBroker",)

B = TypeVar("B", bound=Broker)


class TestBroker(Generic[B]):
    """Runs a broker without a server: the production path over a transport in memory.

    `with` and `async with` both give back the broker itself. `async with` also starts it on the running loop;
    under `with` the app's lifespan does, and `publish` works without it too.

    A broker that is started already is taken over: its subscriptions leave the server and go on in memory, and are
    subscribed again at the end; its connection stays open meanwhile.

    Args:
        broker: the broker of the app's router, or that router.
        raise_errors: whether `publish` raises the error of a handler that failed for good.

    Raises:
        SetupError: what is given is no broker and no router, or one of another package; or `with` takes over a broker
            that runs on the event loop of this very thread, which only `async with` can do.
    """

    __test__ = False

    takes: ClassVar[type[object]] = Broker
    """The class of the brokers that it can run."""

    def __init__(self, broker: B | StreamRouter[B], *, raise_errors: bool = True) -> None:
        given: Any = broker
        if not isinstance(given, Declaring):
            raise SetupError(
                type(self).__name__, f"{type(given).__name__} is no broker and no router", "give `router.broker`"
            )
        kind = type(given.broker)
        if not issubclass(kind, self.takes):
            raise SetupError(
                type(self).__name__,
                f"{kind.__name__} of {kind.__module__.partition('.')[0]} is no {self.takes.__name__} of"
                f" {self.takes.__module__.partition('.')[0]}",
                "use the test broker of its package",
            )
        self._given: Declaring = given
        self.raise_errors = raise_errors
        self._memory: MemoryTransport | None = None
        self._before: tuple[Callable[[], Transport], Transport | None] | None = None
        self._published_before: Callable[[str], list[StreamMessage]] | None = None
        self._mocks: dict[Publisher, Any] = {}
        self._registrations: list[Registration[..., object]] = []
        self._started = self._lent = False

    @property
    def broker(self) -> B:
        """The broker; that of a router's outermost router."""
        return cast("B", self._given.broker)

    @abstractmethod
    def transport(self) -> MemoryTransport:
        """Return the package's transport in memory."""

    def __enter__(self) -> B:
        life = self.broker._life
        loop = life.taken_from()
        if loop is not None and not loop.is_running():
            raise SetupError(type(self).__name__, "its broker is started on an event loop that rests", "stop it first")
        if loop is not None and loop is _running_loop():
            raise SetupError(
                type(self).__name__, "its broker is started on this event loop already", "use `async with` to take it"
            )
        memory = self._replace()
        try:
            if loop is not None:
                self._lent = asyncio.run_coroutine_threadsafe(life.lend(memory), loop).result()
        except BaseException:
            self._restore()
            raise
        return self.broker

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        life = self.broker._life
        loop = life.taken_from()
        try:
            if self._lent and loop is not None and loop.is_running():
                asyncio.run_coroutine_threadsafe(life.give_back(), loop).result()
        finally:
            self._restore()

    async def __aenter__(self) -> B:
        running_loop(type(self).__name__)
        broker = self.broker
        memory = self._replace()
        try:
            self._lent = await broker._life.lend(memory)
            if not self._lent:
                await broker.start()
                self._started = True
        except BaseException:
            await self._end()
            raise
        return broker

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        try:
            if self._started:
                await self.broker.stop()
            if self._memory is not None:
                await self._memory.end()
            if self._lent:
                await self.broker._life.give_back()
        finally:
            self._restore()

    def _replace(self) -> MemoryTransport:
        """Let the broker publish and start in memory."""
        from unittest.mock import MagicMock  # an app that imports its package never needs it

        broker = self.broker
        broker.check_agreement()  # under `with` messages are handled without a start
        self._started = self._lent = False
        memory = self._memory = self.transport()
        self._before = broker._life.replace(lambda: memory, memory)
        self._published_before, broker._published = broker._published, self.published
        functions = {id(one): one for subscription in broker.subscribers for one in subscription.handlers}
        self._registrations = [registration(one) for one in functions.values()]
        for known in self._registrations:
            known.begin()
        self._mocks = {publisher: publisher.mock for publisher in broker.publishers}
        for publisher in broker.publishers:
            publisher.mock = MagicMock(name=f"publisher({publisher.address!r})")
        return memory

    def _restore(self) -> None:
        broker = self.broker
        if self._before is not None:
            broker._life.replace(*self._before)
        broker._published = self._published_before
        for publisher in broker.publishers:
            publisher.mock = self._mocks.get(publisher)
        for known in self._registrations:
            known.end()
        if self._memory is not None:
            self._memory.abandon()

    def published(self, address: str) -> list[StreamMessage]:
        """Return what was published to an address, the oldest first."""
        memory = self._memory
        if memory is None:
            return []
        return [memory.message(one, None) for one in memory.log if memory.address_of(one) == address]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
