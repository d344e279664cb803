"""One connection to RabbitMQ: made when it is needed, and again by itself whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from time import monotonic
from typing import Any, cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection
from fastapi_stream_core.errors import BrokerUnavailable
from fastapi_stream_core.recurrence import Recurrence
from fastapi_stream_core.report import Report, describe
from fastapi_stream_core.shown_address import clean_cause
from yarl import URL

from .cancellation import GIVEN_UP, uncancelled
from .stream import Deliveries, Streams, streams

__all__ = ("CLIENT_ERRORS", "Address", "Link")

CLIENT_ERRORS = (*aio_pika.exceptions.CONNECTION_EXCEPTIONS, asyncio.TimeoutError)
"""What the client library raises when the connection or the channel is gone."""
FIRST_DELAY = 0.1
MAX_DELAY = 1.0
"""Seconds between two attempts to connect; with the jitter well below the five seconds of a recovery."""
LASTING_SECONDS = 10.0
"""After which the loss of a connection is news; of one that is lost again and again only some losses are said."""
CLOSE_SECONDS = 3.0
INTERNAL = "INTERNAL_ERROR"
CHANNELS = 65535
"""The highest number of a channel where RabbitMQ sets no limit."""
REFUSALS = (aiormq.AuthenticationError, aiormq.ProbableAuthenticationError, aiormq.exceptions.InvalidFrameError)
"""How the client library says that RabbitMQ ended the handshake: the credentials or the virtual host are wrong."""


@dataclass(frozen=True)
class Address:
    """Where RabbitMQ is and how to log in.

    Attributes:
        url: with credentials: never shown.
        shown: without them.
        ssl_context: the TLS context.
        client_properties: what RabbitMQ shows of the connection.
        timeout: seconds that one attempt to connect may take.
    """

    url: URL = field(repr=False)
    shown: str
    ssl_context: SSLContext | None = None
    client_properties: Mapping[str, Any] | None = None
    timeout: float = 5.0


class _Connection(aio_pika.Connection):
    """A connection that its link closes; a failed attempt has nothing to close when it is collected.

    Attributes:
        stream: who made its stream; None where the client library did.
    """

    def __init__(self, address: Address) -> None:
        super().__init__(address.url, ssl_context=address.ssl_context)
        if address.client_properties:
            self.kwargs["client_properties"] = dict(address.client_properties)
        self.stream: Streams | None = streams()
        if self.stream is not None:
            self.kwargs["transport_factory"] = self.stream
        self._number = 0
        self._opening: set[int] = set()

    def __del__(self) -> None: ...

    @property
    def deliveries(self) -> Deliveries | None:
        """Who reads the deliveries of its consumers; None where the client library does."""
        return None if self.stream is None else self.stream.deliveries

    @property
    def refusal(self) -> str | None:
        """What RabbitMQ said when it ended the connection; None while it did not, or nobody knows."""
        return None if self.deliveries is None else self.deliveries.refusal

    async def opened_channel(self, *, confirms: bool, return_raises: bool = False) -> AbstractChannel:
        """Open a channel, whose number no other one had for as long as possible.

        The client library gives the number of a channel that RabbitMQ closed to the next one, and then writes to that
        one what still waited to be written to the first: RabbitMQ would count and confirm it there.
        """
        number = self._free_number()
        if number is not None:
            self._opening.add(number)
        try:
            channel = self.channel(number, publisher_confirms=confirms, on_return_raises=return_raises)
            await uncancelled(channel.initialize())
            return channel
        finally:
            self._opening.discard(number or 0)

    def _free_number(self) -> int | None:
        """Return the next number that is free; None where the client library is to choose, or to say why it can't."""
        if self.transport is None:
            return None
        protocol = cast("aiormq.Connection", self.transport.connection)
        most = protocol.connection_tune.channel_max or CHANNELS
        for _ in range(most):
            self._number = self._number % most + 1
            if self._number not in protocol.channels and self._number not in self._opening:
                return self._number
        return None

    def abort(self) -> None:
        """End its socket at once, which the client library leaves open after some ends."""
        if self.deliveries is not None:
            self.deliveries.abort()


async def _close(connection: _Connection) -> None:
    """Close a connection; bounded in time, also when its socket takes nothing more."""
    closing = asyncio.ensure_future(connection.close())
    try:
        await asyncio.wait((closing,), timeout=CLOSE_SECONDS)
    finally:
        # Unless it is closed, the client library waits until what was written before is sent, and can't be cancelled.
        connection.abort()
        await uncancelled(closing, CLOSE_SECONDS)


class Link:
    """Keeps one connection open, from the first time that somebody needs it until it is closed.

    Attributes:
        when_lost: called with the reason when the connection is lost.
        trouble: why the last attempt to connect again failed; None once there is a connection.
        first_delay: seconds until the first attempt to connect again, give or take a half of it.
        is_suspect: whether a message that is consumed on it may end it again: then they are taken one by one, so that
            those before it are finished, and a quorum queue counts no failure of them.

    The client's own "robust" connection brings back the socket but not every consumer; here a lost connection is
    replaced, and whoever used it makes new channels on the new one.
    """

    def __init__(self, address: Address, report: Report) -> None:
        self.address = address
        self._report = report
        self._connection: _Connection | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._declaring = asyncio.Lock()
        self._declarations: AbstractChannel | None = None
        self._refusal: str | None = None
        self.trouble: str | None = None
        self.first_delay = FIRST_DELAY
        self.is_suspect = False
        self._since = 0.0
        self._losses = Recurrence()
        self.when_lost: Callable[[BaseException], None] = lambda error: None

    @property
    def connected(self) -> bool:
        """Whether the connection is open, as far as anybody knows."""
        return self._ready.is_set()

    @property
    def closed(self) -> bool:
        """Whether it was closed for good."""
        return self._closed

    @property
    def blocked(self) -> bool:
        """Whether RabbitMQ takes nothing that is published: an alarm is on, its memory or its disk is full."""
        transport = None if self._connection is None else self._connection.transport
        if transport is None:
            return False
        # The client library only lets us wait for the end of it; what does not wait has nothing to wait for.
        waiting = cast("Coroutine[Any, None, None]", transport.connection.ready())
        try:
            waiting.send(None)
        except StopIteration:
            return False
        finally:
            waiting.close()
        return True

    async def unblocked(self) -> None:
        """Wait until RabbitMQ takes what is published; for ever when the connection is lost meanwhile."""
        transport = None if self._connection is None else self._connection.transport
        if transport is not None:
            await transport.connection.ready()

    async def open(self, timeout: float) -> None:
        """Connect, again and again for `timeout` seconds.

        Raises:
            BrokerUnavailable: there was no connection in time, or RabbitMQ refused the credentials or the virtual host.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        delay = FIRST_DELAY
        while True:
            left = deadline - loop.time()
            try:
                await self._connect(min(left, self.address.timeout))
                return
            except REFUSALS as error:
                raise BrokerUnavailable(
                    self.address.shown, "connect", 0, self._refusal or describe(error)
                ) from clean_cause(error)
            except CLIENT_ERRORS as error:
                if loop.time() + delay >= deadline:
                    raise BrokerUnavailable(self.address.shown, "connect", timeout, describe(error)) from clean_cause(
                        error
                    )
            await asyncio.sleep(delay)
            delay = min(delay * 2, MAX_DELAY)

    async def _connect(self, timeout: float) -> None:
        connection = _Connection(self.address)
        try:
            await uncancelled(connection.connect(), max(timeout, 0.001))
        except BaseException:
            connection.abort()
            raise
        finally:
            self._refusal = connection.refusal
        if self._closed:
            await _close(connection)
            return
        self._connection, self.trouble, self._since = connection, None, monotonic()
        connection.close_callbacks.add(self._lost)
        self._ready.set()

    def _lost(self, connection: AbstractConnection | None, error: BaseException | None) -> None:
        if self._closed or self._connection is None or connection is not self._connection:
            return
        self._connection.abort()
        refusal, self._connection = self._connection.refusal, None
        self._ready.clear()
        if refusal is not None and refusal.startswith(INTERNAL) and not isinstance(error, aiormq.ConnectionClosed):
            error = aiormq.exceptions.ConnectionInternalError(refusal)  # the client library was busy writing
        elif isinstance(error, asyncio.CancelledError):
            error = ConnectionError(GIVEN_UP)
        reason = "closed" if error is None else describe(error)
        loss = error if isinstance(error, Exception) else ConnectionError(reason)
        self.when_lost(loss)
        if monotonic() > self._since + LASTING_SECONDS:
            self._losses.end()
        is_due = self._losses.is_due(loss)
        if is_due:
            self._report.line(logging.WARNING, "the connection to %s was lost: %s", self.address.shown, reason)
        work = self._reconnect(says_so=is_due)
        self._task = asyncio.get_running_loop().create_task(work, name=f"connect {self.address.shown}")

    async def _reconnect(self, lost: bool = True, says_so: bool = False) -> None:
        delay, failed, failures = self.first_delay, lost, Recurrence()
        while not self._closed:
            if failed:
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))
                delay = min(delay * 2, MAX_DELAY)
            failed = True
            try:
                await self._connect(self.address.timeout)
            except Exception as error:
                why = self.trouble = self._refusal or describe(error)
                if failures.is_due(error):
                    self._report.line(logging.WARNING, "no connection to %s, again soon: %s", self.address.shown, why)
                continue
            if says_so:
                self._report.line(logging.INFO, "connected to %s again", self.address.shown)
            return

    async def _connected(self) -> _Connection:
        """Return the connection, made by the first who asks; wait for it while the broker is away.

        Raises:
            ConnectionError: it was closed for good.
        """
        while True:
            if self._closed:
                raise ConnectionError("the broker is stopped")
            if self._connection is not None:
                return self._connection
            if self._task is None or self._task.done():
                work = self._reconnect(lost=False)
                self._task = asyncio.get_running_loop().create_task(work, name=f"connect {self.address.shown}")
            await self._ready.wait()

    async def channel(self, *, confirms: bool = False, return_raises: bool = False) -> AbstractChannel:
        """Open a channel; wait for the connection while the broker is away."""
        connection = await self._connected()
        return await connection.opened_channel(confirms=confirms, return_raises=return_raises)

    async def consuming_channel(self) -> tuple[AbstractChannel, Deliveries | None]:
        """Open a channel for one consumer; return it, and who reads its deliveries: None is the client library."""
        connection = await self._connected()
        return await connection.opened_channel(confirms=False), connection.deliveries

    @asynccontextmanager
    async def declaring(self) -> AsyncIterator[aiormq.Channel]:
        """Yield the channel for declarations, one at a time: a new one when RabbitMQ closed the last."""
        async with self._declaring:
            channel = self._declarations
            if channel is None or channel.is_closed:
                channel = self._declarations = await self.channel()
            yield await self.protocol(channel)

    async def protocol(self, channel: AbstractChannel) -> aiormq.Channel:
        """Return the protocol's side of a channel: acknowledgements and messages without a task or a wait for each."""
        return cast("aiormq.Channel", await uncancelled(channel.get_underlay_channel()))

    async def close(self) -> None:
        """Close the connection for good; bounded in time."""
        self._closed = True
        self._ready.set()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await _close(connection)
            except CLIENT_ERRORS as error:
                self._report.line(logging.DEBUG, "closing the connection: %s", describe(error))
