"""The connection to NATS servers, kept alive."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from ssl import SSLError
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.errors import BrokerUnavailable, SetupError, StreamError, shorten
from fastapi_stream_core.recurrence import Recurrence
from fastapi_stream_core.report import describe
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.transport import Transport
from nats.errors import Error as NatsError
from nats.js.api import PubAck
from nats.js.errors import ServiceUnavailableError

from .client import Connection, ConnectionEnded, NoEncryption
from .jetstream import API_SECONDS, declare_streams, streams_of, untaken
from .permissions import Permissions
from .progress import Progress
from .pull_source import PullSource
from .push_source import PushSource
from .source import CoreSource, NatsSource
from .storing import Storing
from .subscription import NatsSubscription
from .wire import publication

if TYPE_CHECKING:
    from fastapi_stream_core.subscription import Subscription

    from .broker import NatsBroker

__all__ = ("NatsTransport",)

REBUILD_SECONDS = 0.5
CLOSE_SECONDS = 3.0
REFUSALS = ("authorization", "authentication")
PASSED_ON = (
    "connect_timeout",
    "dont_randomize",
    "inbox_prefix",
    "max_outstanding_pings",
    "name",
    "no_echo",
    "pending_size",
    "ping_interval",
    "reconnect_time_wait",
    "tls_hostname",
)


class NatsTransport(Transport):
    """One connection. nats-py connects again when it is lost; when nats-py gives up, a new client is made.

    Attributes:
        broker: whose connection it is.
        connection: the client; None before the start.
        sources: the subscriptions that receive.
        permissions: knows what the server does not let the user ask.
        lives: when each stream was created, as it was when the streams were declared last.
        losses: how often the connection was lost.
    """

    def __init__(self, broker: NatsBroker) -> None:
        self.broker = broker
        self.connection: Connection | None = None
        self.sources: set[NatsSource] = set()
        self.lives: dict[str, datetime | None] = {}
        self.losses = 0
        self.permissions = Permissions(broker.options["inbox_prefix"])
        self._progress: dict[Subscription, Progress] = {}
        self._online = asyncio.Event()
        self._closing = False
        self._rebuilding: asyncio.Task[None] | None = None
        self._said = ""
        self._ended = ""
        self._ends = Recurrence()
        self._refused: asyncio.Future[Exception] | None = None
        self._storing = Storing(self)

    # The connection.

    async def start(self) -> None:
        timeout = self.broker.options["startup_timeout"]
        deadline = asyncio.get_running_loop().time() + timeout
        await self._connect(timeout)
        if self.connection is not None and streams_of(self.broker):
            left = max(deadline - asyncio.get_running_loop().time(), API_SECONDS)
            try:
                work = self.permissions.ask(self.declare(self.connection), "declaring streams")
                await asyncio.wait_for(work, left)
            except ServiceUnavailableError as error:
                reason = "the server has no JetStream; start it with -js"
                raise BrokerUnavailable(self.broker.address, "declaring streams", 0.0, reason) from clean_cause(error)
            except (NatsError, asyncio.TimeoutError) as error:
                raise BrokerUnavailable(self.broker.address, "declaring streams", timeout, error) from clean_cause(
                    error
                )

    async def declare(self, connection: Connection) -> None:
        """Create or update the streams of subscribers and publishers."""
        streams = await declare_streams(connection.jsm(timeout=API_SECONDS), streams_of(self.broker))
        self.lives.update({name: info.created for name, info in streams.items()})
        text = "%s: the stream %r takes no subject like %r, but %s: no message comes until that is changed"
        for one, subject, taken in untaken(self.broker, streams):
            shown = shorten(", ".join(map(repr, taken)))
            name = "" if one.stream is None else one.stream.name
            self.broker.report.line(logging.WARNING, text, one.label, name, subject, shown)

    async def _connect(self, timeout: float) -> None:
        options = self.broker.options
        loop = asyncio.get_running_loop()
        connection = Connection(options["max_control_line"], self.broker.encrypted)
        self._refused = loop.create_future()

        async def closed() -> None:
            if self.connection is connection:  # not when an attempt to connect is given up
                await self._on_closed()

        async def discovered() -> None:
            if (callback := options["discovered_server_cb"]) is not None:
                await callback()

        task = loop.create_task(
            connection.connect(
                list(self.broker._addresses),
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=closed,
                discovered_server_cb=discovered,
                max_reconnect_attempts=-1,
                flush_timeout=options["publish_timeout"],
                **{name: options[name] for name in PASSED_ON},
                **self.broker._connect_options,
            )
        )
        try:
            ends: set[asyncio.Future[Any]] = {task, self._refused}
            await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                if self._refused.done():
                    refusal = self._refused.result()
                    raise BrokerUnavailable(self.broker.address, "connect", 0.0, refusal) from clean_cause(refusal)
                raise BrokerUnavailable(self.broker.address, "connect", timeout, _said(connection.last_error))
            if (error := task.exception()) is not None:
                raise BrokerUnavailable(self.broker.address, "connect", timeout, _said(error)) from clean_cause(error)
        except BaseException:
            task.cancel()
            await asyncio.wait({task})
            await self._close(connection)
            raise
        finally:
            self._refused = None
        self.connection = connection
        self._said = ""
        self._online.set()

    async def connected(self, timeout: float | None = None) -> Connection:
        """Wait for a living connection.

        Args:
            timeout: seconds; None waits as long as the caller does.

        Raises:
            BrokerUnavailable: there was none in time.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            if self._closing:
                raise BrokerUnavailable(self.broker.address, "connect", 0.0, "the broker stops")
            connection = self.connection
            if connection is not None and connection.is_connected:
                return connection
            self._online.clear()
            left = None if deadline is None else deadline - loop.time()
            try:
                await asyncio.wait_for(self._online.wait(), left)
            except asyncio.TimeoutError:
                raise BrokerUnavailable(self.broker.address, "connect", timeout or 0.0, self._said or None) from None

    async def _on_error(self, error: Exception) -> None:
        text = said if isinstance(said := _said(error), str) else describe(error)
        if self._refused is not None and not self._refused.done() and is_refusal(error):
            self._refused.set_result(error)
        is_told = False
        if "permissions violation" in text.lower():
            self.permissions.deny(text)
            if self.connection is not None:
                self._storing.denied(text, self.connection.said)
                self.connection.denied(text)
            for source in list(self.sources):
                if source.denied(text):
                    source.lost(SetupError(source.subscription.label, text, "change the permissions of the user"))
                is_told |= source.refused(text)
        has_ended = isinstance(error, ConnectionEnded)
        if has_ended:  # it may end each one that is made, for the same reason
            if text != self._ended:
                self._ended = text
                self._ends.end()
            is_told = not self._ends.is_due(error)
        if text != self._said:  # the attempts to connect again say the same each time
            if not is_told or has_ended:
                self._said = text
            if not is_told:
                self.broker.report.line(logging.WARNING, "connection to %s: %s", self._address, text)
        if (callback := self.broker.options["error_cb"]) is not None:
            await callback(error)

    @property
    def _address(self) -> str:
        return self.broker.address

    async def _on_disconnected(self) -> None:
        self.losses += 1
        self._online.clear()
        self._storing.give_up("the connection was lost before the confirmation")
        for source in list(self.sources):
            source.disconnected()
        if not self._closing:
            self.broker.report.line(logging.WARNING, "connection to %s: lost", self._address)
        if (callback := self.broker.options["disconnected_cb"]) is not None:
            await callback()

    async def _on_reconnected(self) -> None:
        self._said = ""
        self._online.set()
        self.broker.report.line(logging.INFO, "connection to %s: there again", self._address)
        for source in list(self.sources):
            source.reconnected()
        if (callback := self.broker.options["reconnected_cb"]) is not None:
            await callback()

    async def _on_closed(self) -> None:
        self._online.clear()
        if not self._closing:
            gone = BrokerUnavailable(self.broker.address, "staying connected", 0.0, self._said or "closed")
            for source in list(self.sources):
                source.lost(gone)
            self._rebuilding = asyncio.get_running_loop().create_task(self._rebuild())
        if (callback := self.broker.options["closed_cb"]) is not None:
            await callback()

    async def _rebuild(self) -> None:
        """Make a new client after nats-py gave the old one up, as it does when the server refuses it."""
        failures, is_refused, report = Recurrence(), False, self.broker.report
        while not self._closing:
            await asyncio.sleep(REBUILD_SECONDS)
            try:
                await self._connect(self.broker.options["startup_timeout"])
            except (StreamError, NatsError, OSError) as error:
                is_refused = True
                if failures.is_due(error):
                    report.line(logging.WARNING, "%s", describe(error))
                continue
            if is_refused:
                report.line(logging.INFO, "connection to %s: there again", self._address)
            return

    async def ping(self, timeout: float) -> bool:
        connection = self.connection
        if connection is None or not connection.is_connected:
            return False
        try:
            await connection.confirm(timeout)
        except (NatsError, OSError):
            return False
        return True

    async def close(self) -> None:
        self._closing = True
        self._online.set()  # who waits for a connection gets none
        if self._rebuilding is not None:
            self._rebuilding.cancel()
            await asyncio.wait({self._rebuilding})
        self._storing.give_up("the broker stops")
        connection, self.connection = self.connection, None
        if connection is not None:
            await self._close(connection)

    async def _close(self, connection: Connection) -> None:
        try:
            if connection.is_connected and not connection.is_silent:  # what was published reaches the server
                await connection.confirm(CLOSE_SECONDS)
        except (NatsError, OSError) as error:
            self.broker.report.line(logging.WARNING, "connection to %s: %s", self._address, describe(error))
        try:
            await asyncio.wait_for(connection.close(), CLOSE_SECONDS)
        except (NatsError, OSError, asyncio.TimeoutError) as error:
            self.broker.report.line(logging.WARNING, "connection to %s: %s", self._address, describe(error))

    # Subscriptions.

    def source(self, subscription: Subscription) -> NatsSource:
        if not isinstance(subscription, NatsSubscription) or subscription.stream is None:
            return CoreSource(subscription, self)  # type: ignore[arg-type]
        return PushSource(subscription, self) if subscription.pull is None else PullSource(subscription, self)

    def progress_of(self, subscription: NatsSubscription) -> Progress:
        """Return how far a subscriber of a stream has come."""
        return self._progress.setdefault(subscription, Progress(own=subscription.durable is None))

    # Publishing.

    async def publish(self, message: Outgoing) -> PubAck | None:
        options = message.options
        timeout: float = options.get("timeout") or self.broker.options["publish_timeout"]
        try:
            deadline = asyncio.get_running_loop().time() + timeout
            connection = self.connection
            if connection is None or not connection.is_connected:
                connection = await self.for_publishing(timeout, deadline)
            stream: str | None = options.get("stream")
            if stream is not None:
                return await self._storing.store(connection, message, stream, timeout, deadline)
            if connection.write(publication(message, connection.limits)):
                await connection.make_room()
        except NatsError as error:  # the connection was closed in the middle
            raise BrokerUnavailable(self.broker.address, "publish", 0.0, error) from clean_cause(error)
        return None

    async def for_publishing(self, timeout: float, deadline: float) -> Connection:
        """Wait for a living connection to publish on.

        Args:
            timeout: seconds, for the error.
            deadline: when they are over, in the time of the event loop.

        Raises:
            BrokerUnavailable: there was none in time.
        """
        try:
            return await self.connected(max(deadline - asyncio.get_running_loop().time(), 0.001))
        except BrokerUnavailable as error:
            seconds = timeout if error.seconds else 0.0
            raise BrokerUnavailable(self.broker.address, "publish", seconds, error.reason) from None


def _said(error: BaseException | None) -> BaseException | str | None:
    """Return why there is no connection; the client's timeout has no text."""
    if isinstance(error, asyncio.TimeoutError) and not str(error):
        return "it takes connections and does not greet as NATS does: it hangs, or is another kind of server"
    return error


def is_refusal(error: Exception) -> bool:
    """Tell whether another attempt to connect will have the same error: credentials, TLS."""
    return isinstance(error, (NoEncryption, SSLError)) or any(word in str(error).lower() for word in REFUSALS)
