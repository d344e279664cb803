"""How messages come off the wire: the base of all subscribers, and NATS core."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import BrokerUnavailable
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.transport import Source
from nats.errors import Error as NatsError

from .message import Foreign, NatsMessage, Origin, wire_size, wire_sizes
from .subject import readable

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription as ClientSubscription

    from .client import Connection
    from .parser import Wire
    from .subscription import NatsSubscription
    from .transport import NatsTransport

__all__ = ("CoreSource", "NatsSource")

CONFIRM_SECONDS = 5.0
"""How long a round trip to the server may take before something is wrong with it."""
END_SECONDS = 3.0
"""The same at the end, where nothing is lost without it."""
WARN_SECONDS = 1.0


class NatsSource(Source):
    """Receives into a buffer, from which `fetch` takes as much as there is room for.

    After a lost connection the client subscribes again by itself; a source only ends when its connection was closed
    for good, or what it reads is gone.
    """

    subscription: NatsSubscription

    def __init__(self, subscription: NatsSubscription, transport: NatsTransport) -> None:
        super().__init__(subscription)
        self.transport = transport
        self.connection: Connection | None = None
        self._sub: ClientSubscription | None = None
        self._origin = Origin()
        self._buffer: deque[Wire] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._stopping = False
        self._closed = False

    async def _subscribe(self, connection: Connection, subject: str, queue: str) -> None:
        """Subscribe, and wait until the server knows."""
        self.connection = connection
        self.transport.sources.add(self)
        try:
            self._sub = await connection.attach(subject, queue, self.receive)
            self._origin.client, self._origin.number = connection, self._sub._id
            await connection.confirm(CONFIRM_SECONDS)
        except NatsError as error:
            raise BrokerUnavailable(
                self.transport.broker.address, "subscribe", CONFIRM_SECONDS, error
            ) from clean_cause(error)
        if self._failure is not None:
            raise self._failure

    @abstractmethod
    def receive(self, run: list[Wire]) -> None:
        """Take messages off the wire."""

    def wake(self) -> None:
        """Let a waiting `fetch` look again."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def lost(self, error: Exception) -> None:
        """Note that nothing will come any more; `fetch` raises it.

        Where nothing is acknowledged, what came is handled first: nobody else has it.
        """
        self._failure = self._failure or error
        if self.settles or not self._buffer:
            self.note_broken()
        self.wake()

    def disconnected(self) -> None:
        """Note that the connection was lost."""

    def reconnected(self) -> None:
        """Note that the connection was made again."""

    def denied(self, text: str) -> bool:
        """Tell whether an error of the server says that this subscription is not permitted."""
        # A sender may name the same subject as the address of its answer. No subject holds the space.
        return self._sub is not None and f'subscription to "{self._sub.subject}"'.lower() in text.lower()

    def refused(self, text: str) -> bool:
        """Tell whether an error of the server refuses what this subscription asks, which it says then itself."""
        return False

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        while not self._buffer:
            if self._failure is not None:
                raise self._failure
            if self._stopping:
                return ()
            await self._wait()
        return self._take(limit)

    def _take(self, limit: int) -> list[NatsMessage]:
        take, origin = self._buffer.popleft, self._origin
        messages: list[NatsMessage] = []
        subject, address = b"", ""
        for _ in range(min(limit, len(self._buffer))):
            wire = take()
            if wire[0] != subject:
                subject = wire[0]
                address = readable(subject)
            try:
                messages.append(NatsMessage(wire, address, origin))
            except Foreign as error:
                self._foreign(address, error)
        return messages

    def _foreign(self, address: str, error: Foreign) -> None:
        """Say that a message is not handled, because it is not what it should be."""
        report = self.subscription.broker.report
        report.count("foreign")
        report.line(
            logging.WARNING,
            "%s: a message to %s did not come from the stream, and is not handled: %s",
            self.subscription.label,
            address,
            error,
        )

    def stop(self) -> None:
        self._stopping = True
        self.wake()

    def tell_lost(self, count: int, kind: str) -> None:
        """Say how many messages nobody gets any more, because nothing is acknowledged."""
        if count:
            self.subscription.broker.report.line(
                logging.WARNING,
                "%s: stopped with %d messages received and not handled; %s delivers at most once",
                self.subscription.label,
                count,
                kind,
            )

    async def _unsubscribe(self) -> None:
        sub, self._sub = self._sub, None
        if sub is not None and self.connection is not None:
            await self.connection.detach(sub, END_SECONDS)

    async def close(self) -> None:
        self._closed = True
        self.transport.sources.discard(self)
        await self._unsubscribe()


class CoreSource(NatsSource):
    """A subject of NATS core, at most once: what comes while nobody listens, or can't be taken in time, is gone."""

    settles = False

    def __init__(self, subscription: NatsSubscription, transport: NatsTransport) -> None:
        super().__init__(subscription, transport)
        self._bytes = 0
        self._most_messages: int = subscription.options["pending_msgs_limit"] or 2**62
        self._most_bytes: int = subscription.options["pending_bytes_limit"] or 2**62
        self._dropped = 0
        self._warned = 0.0

    async def start(self) -> None:
        connection = await self.transport.connected()
        await self._subscribe(connection, self.subscription.subject, self.subscription.queue)

    def receive(self, run: list[Wire]) -> None:
        size = sum(wire_sizes(run))
        if len(self._buffer) + len(run) <= self._most_messages and self._bytes + size <= self._most_bytes:
            self._bytes += size
            self._buffer.extend(run)
        else:
            for wire in run:
                size = wire_size(wire)
                if len(self._buffer) >= self._most_messages or self._bytes + size > self._most_bytes:
                    self._drop()
                else:
                    self._bytes += size
                    self._buffer.append(wire)
        if self._waiting is not None:
            self.wake()

    def _take(self, limit: int) -> list[NatsMessage]:
        messages = super()._take(limit)
        self._bytes -= sum([message.size for message in messages])
        return messages

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        """Say what is lost: nobody else gets what was received and not started."""
        await self._unsubscribe()
        lost = len(list(messages)) + len(self._buffer)
        self._buffer.clear()
        self.tell_lost(lost, "NATS core")

    def _drop(self) -> None:
        report = self.subscription.broker.report
        report.count("dropped")
        self._dropped += 1
        now = monotonic()
        if now - self._warned >= WARN_SECONDS:
            self._warned = now
            report.line(
                logging.WARNING,
                "%s: too slow, %d messages wait and %d were dropped; raise max_workers, or pending_msgs_limit and"
                " pending_bytes_limit, or share the work with queue=",
                self.subscription.label,
                len(self._buffer),
                self._dropped,
            )
