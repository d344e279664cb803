"""The transport of test brokers: routes in the process, as the real broker does."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .event_loop import running_loop
from .message import BatchMessage, StreamMessage
from .policy import Verdict
from .supervisor import Supervisor
from .transport import Source, Transport

if TYPE_CHECKING:
    from .broker import Broker
    from .policy import Decision
    from .response import Outgoing
    from .subscription import Subscription

__all__ = ("MemorySource", "MemoryTransport", "Observer")

T = TypeVar("T")

_handled: ContextVar[StreamMessage | None] = ContextVar("fastapi_stream_handled", default=None)
"""The message that is handled in this context: what it publishes belongs to what set it off."""


class Observer(Protocol):
    """Who watches each message go through: a test broker."""

    def called(self, message: StreamMessage) -> None:
        """The handler is about to be called."""

    def failed(self, messages: Sequence[StreamMessage], error: BaseException, decision: Decision) -> None:
        """Handling raised."""

    def finished(self, message: StreamMessage) -> None:
        """One delivery is over, its background tasks included."""


class Cause:
    """Everything that one `publish` from outside sets off: it is over when nothing of it waits or runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pending = 0
        self.errors: list[BaseException] = []
        self.over = loop.create_future()

    def finish_one(self) -> None:
        self.pending -= 1
        if not self.pending and not self.over.done():
            self.over.set_result(None)


def _raisable(error: BaseException) -> BaseException:
    """Return an error as whoever published can be told of it: that one is not cancelled."""
    if not isinstance(error, asyncio.CancelledError):
        return error
    raised = RuntimeError(f"handling the message raised {error!r}, and it was not the stop that cancelled it")
    raised.__cause__ = error
    return raised


class MemorySource(Source):
    """The messages of one subscription on one event loop."""

    pace = 0.0
    cancellable = True

    def __init__(self, subscription: Subscription, transport: MemoryTransport) -> None:
        super().__init__(subscription)
        self.settles = transport.settles(subscription)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._queue: deque[StreamMessage] = deque()
        self._causes: dict[int, tuple[StreamMessage, Cause]] = {}
        self._arrived = asyncio.Event()
        self._stopped = False

    async def start(self) -> None:
        self.dispatcher.observe(self)
        self._transport.attach(self._loop, self.subscription, self)

    def put(self, message: StreamMessage, cause: Cause) -> None:
        """Deliver one message."""
        cause.pending += 1
        self._causes[id(message)] = (message, cause)
        self._queue.append(message)
        self._arrived.set()

    def cause_of(self, message: StreamMessage) -> Cause | None:
        """Return what set off a message that is being handled."""
        one = message.messages[0] if isinstance(message, BatchMessage) else message
        known = self._causes.get(id(one))
        return None if known is None else known[1]

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        while not self._queue and not self._stopped:
            self._arrived.clear()
            await self._arrived.wait()
        return [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]

    def called(self, message: StreamMessage) -> None:
        _handled.set(message)
        if message.attempt == 1 and self.subscription.registration is not None:
            try:
                body = message.decoded()
            except ValueError:
                return
            self.subscription.registration.record(body)

    def failed(self, messages: Sequence[StreamMessage], error: BaseException, decision: Decision) -> None:
        for message in messages:
            cause = self.cause_of(message)
            if cause is not None and (decision.away or (decision.failed and decision.final)):
                cause.errors.append(_raisable(error))
                if decision.away:  # nobody waits in a test for a broker that a test sent away
                    del self._causes[id(message)]
                    cause.finish_one()

    def finished(self, message: StreamMessage) -> None:
        if message.committed is not Verdict.NACK or not self.settles:
            _, cause = self._causes.pop(id(message), (None, None))
            if cause is not None:
                cause.finish_one()

    def stop(self) -> None:
        self._stopped = True
        self._arrived.set()

    async def close(self) -> None:
        self._transport.detach(self._loop, self.subscription, self)
        for _, cause in self._causes.values():
            cause.finish_one()
        self._causes.clear()


class MemoryTransport(Transport):
    """Routes published messages to the subscriptions of the same broker.

    A package derives its own class and says how the real broker routes. `publish` returns when everything that
    the message set off has been handled; inside a handler it returns at once. It may be called from any event
    loop: the handlers run on the loop of whoever publishes.

    Attributes:
        broker: whose subscriptions are served.
        raise_errors: whether `publish` raises the error of a handler that failed for good.
        log: every message that was published.
    """

    any_loop = True

    def __init__(self, broker: Broker, raise_errors: bool = True) -> None:
        self.broker = broker
        self.raise_errors = raise_errors
        self.log: list[Outgoing] = []
        self._context = copy_context()
        self._sources: dict[tuple[asyncio.AbstractEventLoop, Subscription], MemorySource] = {}
        self._guests: list[Supervisor] = []
        self._turns: dict[Hashable, int] = {}

    # What a package says.

    @abstractmethod
    def route(self, outgoing: Outgoing, subscriptions: Sequence[Subscription]) -> Iterable[Subscription]:
        """Return the subscriptions that get a message: one of each group or queue, all where the broker fans out."""

    @abstractmethod
    def message(self, outgoing: Outgoing, subscription: Subscription | None) -> StreamMessage:
        """Return a published message as `subscription` receives it; without one, as a test looks at it."""

    def settles(self, subscription: Subscription) -> bool:
        """Tell whether the real broker knows acknowledgements for this subscription."""
        return True

    def address_of(self, outgoing: Outgoing) -> str:
        """Return the address under which a test asks for a published message."""
        return outgoing.address

    def receipt(self, outgoing: Outgoing) -> Any:
        """Return what the real `publish` would return."""
        return None

    def turn(self, key: Hashable, candidates: Sequence[T]) -> T:
        """Return one of several competing consumers, each in its turn."""
        count = self._turns[key] = self._turns.get(key, -1) + 1
        return candidates[count % len(candidates)]

    # The transport.

    async def start(self) -> None:
        """There is nothing to connect to."""

    def source(self, subscription: Subscription) -> MemorySource:
        return MemorySource(subscription, self)

    def attach(self, loop: asyncio.AbstractEventLoop, subscription: Subscription, source: MemorySource) -> None:
        """Note where a subscription is served on a loop."""
        self._sources[loop, subscription] = source

    def detach(self, loop: asyncio.AbstractEventLoop, subscription: Subscription, source: MemorySource) -> None:
        """Forget a source."""
        if self._sources.get((loop, subscription)) is source:
            del self._sources[loop, subscription]

    async def _source_on(self, loop: asyncio.AbstractEventLoop, subscription: Subscription) -> MemorySource:
        source = self._sources.get((loop, subscription))
        if source is None:
            # Its messages see what was there when the test broker was made, not what the publisher has set.
            guest: Supervisor = self._context.copy().run(Supervisor, subscription, self)
            self._guests.append(guest)
            await guest.start()
            source = self._sources[loop, subscription]
        return source

    async def publish(self, message: Outgoing) -> Any:
        loop = running_loop("publish()")
        handled = _handled.get()
        outer = (
            handled._source.cause_of(handled)
            if handled is not None and isinstance(handled._source, MemorySource)
            else None
        )
        cause = outer or Cause(loop)
        targets = [one for one in self.broker.subscribers if one.handlers]
        routed = list(self.route(message, targets))  # first, since it may refuse the message
        self.log.append(message)
        for subscription in routed:
            source = await self._source_on(loop, subscription)
            source.put(self.message(message, subscription), cause)
        if outer is None and cause.pending:
            await cause.over
            if cause.errors and self.raise_errors:
                raise cause.errors[0]
        return self.receipt(message)

    async def ping(self, timeout: float) -> bool:
        return True

    async def close(self) -> None:
        """Keep the guests: a test may go on publishing after the app has stopped."""

    async def end(self) -> None:
        """Stop everything that was started for other event loops."""
        guests, self._guests = self._guests, []
        here = asyncio.get_running_loop()
        for guest in guests:
            loop = guest.dispatcher.loop
            if loop is here:
                await guest.stop(1.0)
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(guest.stop(1.0), loop)
            else:
                guest.abandon()
        self.abandon()

    def abandon(self) -> None:
        """Forget every source; those of a loop that ended have nothing left to stop."""
        guests, self._guests = self._guests, []
        for guest in guests:
            guest.abandon()
        self._sources.clear()
