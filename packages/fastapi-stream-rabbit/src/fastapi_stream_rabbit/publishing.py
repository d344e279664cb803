"""Publishing to RabbitMQ: a connection and a channel that nothing is consumed on."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiormq
from aio_pika.abc import AbstractChannel
from aiormq.abc import DeliveredMessage
from fastapi_stream_core.errors import BrokerUnavailable, PublishError, SetupError
from fastapi_stream_core.report import describe

from .cancellation import GIVEN_UP, is_cancelled, uncancelled
from .connection import CLIENT_ERRORS, Link
from .gate import Gate
from .properties import Properties
from .schema import DEFAULT_EXCHANGE, Channel, RabbitExchange
from .turnstile import Turnstile
from .wire import check_frame, place_of, properties_of

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing

    from .broker import RabbitBroker

__all__ = ("Publishing",)

TELL_SECONDS = 10.0
GUILTY = (
    aiormq.AMQPChannelError,
    *(aiormq.exceptions.ConnectionInternalError, aiormq.exceptions.ConnectionFrameError),
    *(aiormq.exceptions.ConnectionSyntaxError, aiormq.exceptions.ConnectionCommandInvalid),
    *(aiormq.exceptions.ConnectionChannelError, aiormq.exceptions.ConnectionUnexpectedFrame),
    *(aiormq.exceptions.ConnectionNotAllowed, aiormq.exceptions.ConnectionNotImplemented),
)
"""What RabbitMQ says when a message breaks its rules: it closes the channel, or the whole connection."""
ELSEWHERE = (aiormq.ChannelNotFoundEntity, aiormq.ChannelAccessRefused)
"""What RabbitMQ says of an exchange, and by its name: publications to any other one are not to blame."""
OFTEN = 5
"""How often the channel may be closed for other exchanges until a message goes on one of its own."""
NAMED = re.compile(r"exchange '(?P<name>[^']*)' in vhost")
TWICE = 2
"""How often RabbitMQ closes the connection of a message that nothing else is beside, until the message is to blame."""
LARGE = 16 * 1024 * 1024
"""Bytes of a body that RabbitMQ 4 takes unless it is configured otherwise: a larger one goes alone from the first."""
FORGETFUL = tuple(map(int, version("aiormq").split(".")[:2])) < (7, 0)
"""Whether the client library may leave a publisher waiting for ever when the connection is lost (on Python 3.10)."""
BLOCKED = "RabbitMQ blocks who publishes, because an alarm is on: it has no memory or no disk left"
STOPPED = "the broker is stopped"
AT_ONCE_SECONDS = 0.05
MOMENT_SECONDS = 0.01
"""Until the end of a connection is noticed everywhere."""
FULL_SECONDS = 0.2
MAX_FULL_SECONDS = 1.0
"""Between two tries to publish to a queue that has no room."""
KNOWN = 1000
"""Exchanges, and addresses, that are remembered; all of them exist, or are named by this process."""


class Full(ConnectionError):
    """RabbitMQ does not take a message now, whatever is in it."""

    def __str__(self) -> str:
        return "RabbitMQ does not take it (basic.nack): a queue is full (x-overflow=reject-publish), or fails"


class Unopened(ConnectionError):
    """RabbitMQ opens no channel, as of a user who has as many as are allowed: nothing that is published did that."""


class Publishing:
    """Publishes on a connection of its own.

    RabbitMQ stops reading a connection that publishes while its memory or its disk is full. What is consumed, and
    acknowledged, is on another one, or nobody would ever empty the queues that fill it.

    Args:
        broker: whose options apply.
        link: the connection.
        declare: declares an exchange that was not used yet, or looks whether it is there; told whether it was there and
            is no more.
    """

    def __init__(
        self, broker: RabbitBroker, link: Link, declare: Callable[[RabbitExchange, bool], Awaitable[None]]
    ) -> None:
        self._report = broker.report
        self._settings: Channel = broker.options["default_channel"] or Channel()
        self._timeout: float = broker.options["publish_timeout"]
        self._app_id: str | None = broker.options["app_id"]
        self._link = link
        self._declare = declare
        self._protocol: aiormq.Channel | None = None
        self._opening = asyncio.Lock()
        self._gate = Gate(asyncio.get_running_loop())
        self._known: set[str] = set()
        self._deleted: set[str] = set()
        self._told: dict[tuple[str, str], float] = {}
        self._sending: set[asyncio.Task[Any]] = set()
        self._turnstile = Turnstile()
        self._loss: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        link.when_lost = self._abandon

    @property
    def blocked(self) -> bool:
        """Whether RabbitMQ takes nothing now: an alarm is on."""
        return self._link.blocked

    @property
    def loss(self) -> asyncio.Future[BaseException] | None:
        """What is done when the connection is lost; None while there is none."""
        return self._loss if self._link.connected else None

    async def close(self) -> None:
        """Close the connection, and end what is being published; bounded in time."""
        closing = asyncio.ensure_future(self._link.close())
        await asyncio.sleep(0)
        self._abandon(ConnectionError(STOPPED))
        await closing
        if self._sending:
            for task in self._sending:
                task.cancel()
            await asyncio.wait(self._sending, timeout=1.0)

    async def publish(self, message: Outgoing) -> Any:
        """Publish one message and wait for RabbitMQ's confirmation.

        Raises:
            BrokerUnavailable: no confirmation in time.
            PublishError: RabbitMQ or its wire does not take the message.
        """
        timeout: float = message.options.get("timeout") or self._timeout
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + timeout
        properties = properties_of(message, self._app_id)
        exchange: RabbitExchange = message.options.get("exchange") or DEFAULT_EXCHANGE
        lost: BaseException | None = None
        pause = MOMENT_SECONDS
        alone = len(message.body) > LARGE
        by_itself = interrupted = 0
        while True:
            left = max(deadline - loop.time(), 0.001)
            protocol = self._protocol
            try:
                if self._link.blocked:
                    await self._unblocked(left)
                    continue
                if by_itself:
                    async with self._turnstile.closed(deadline):
                        return await self._send_alone(message, exchange, properties, deadline)
                if alone:
                    async with self._turnstile.passed(deadline):
                        return await self._send_alone(message, exchange, properties, deadline)
                if protocol is None or protocol.is_closed or not (exchange.is_default or exchange.name in self._known):
                    protocol = await uncancelled(self._ready(exchange), left)
                if not self._gate.is_open(protocol.write_queue):
                    await self._gate.wait(protocol.write_queue)
                if self._turnstile.is_closed:
                    await self._turnstile.opened(deadline)
                    continue
                if protocol is not self._protocol:
                    continue  # it was lost, or closed, while this one waited
                self._turnstile.enter()
                try:
                    return await self._send(protocol, message, exchange, properties, deadline - loop.time())
                finally:
                    self._turnstile.leave()
            except asyncio.TimeoutError as error:
                raise self._away(timeout, BLOCKED if self._link.blocked else lost) from error
            except SetupError as error:
                raise PublishError(place_of(message), str(error)) from error
            except GUILTY as error:
                lost = error
                elsewhere = _is_of_another(error, exchange)
                interrupted += elsewhere
                if not elsewhere and isinstance(error, aiormq.ChannelNotFoundEntity) and exchange.name in self._known:
                    # Deleted: before the next try it is declared.
                    self._known.discard(exchange.name)
                    self._deleted.add(exchange.name)
                if not elsewhere or interrupted > OFTEN:
                    # RabbitMQ closes the whole channel for one bad message, or the whole connection; which one it was
                    # shows when each goes on a channel of its own, or while nothing else is on the connection.
                    if by_itself == TWICE or (alone and isinstance(error, aiormq.AMQPChannelError)):
                        raise PublishError(place_of(message), describe(error)) from error
                    alone = True
                    by_itself += isinstance(error, aiormq.ConnectionClosed)
            except asyncio.CancelledError as error:
                # A message is too many to be sent in a task of its own each; otherwise as in `uncancelled`.
                if is_cancelled():
                    raise
                lost = error
            except CLIENT_ERRORS as error:
                lost = error
            except Exception as error:
                if not self._link.closed:
                    raise
                lost = error  # the client library has no better word for a connection that is closed
            if self._link.closed:
                raise self._away(loop.time() - began, STOPPED) from lost
            waits = isinstance(lost, (Full, Unopened))
            pause = min(max(2 * pause, FULL_SECONDS), MAX_FULL_SECONDS) if waits else MOMENT_SECONDS
            if loop.time() + pause >= deadline:
                raise self._away(timeout, lost) from lost
            await asyncio.sleep(pause)

    def _away(self, seconds: float, reason: BaseException | str | None) -> BrokerUnavailable:
        waited = seconds if seconds > AT_ONCE_SECONDS else 0
        if not self._link.closed:  # who has no connection wants to know why there is none
            reason = self._link.trouble or reason
        return BrokerUnavailable(self._link.address.shown, "publish", waited, reason)

    async def _unblocked(self, seconds: float) -> None:
        """Wait until RabbitMQ takes messages again, or the connection is lost.

        Raises:
            asyncio.TimeoutError: neither came true in time.
        """
        waiting = asyncio.ensure_future(self._link.unblocked())
        try:
            done, _ = await asyncio.wait((waiting, self._loss), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not done:
            raise asyncio.TimeoutError
        if waiting not in done:
            raise ConnectionError("the connection was lost")

    async def _ready(self, exchange: RabbitExchange) -> aiormq.Channel:
        """Return the channel for publishing, with the exchange known to be there; wait while the broker is away."""
        async with self._opening:
            if self._protocol is None or self._protocol.is_closed:
                settings = self._settings
                channel = await self._open(settings.publisher_confirms)
                self._protocol = await self._link.protocol(channel)
            await self.know(exchange)
            return self._protocol

    async def _open(self, confirms: bool) -> AbstractChannel:
        """Open a channel; when RabbitMQ refuses that, it ends the connection."""
        try:
            return await self._link.channel(confirms=confirms, return_raises=self._settings.on_return_raises)
        except GUILTY as error:
            raise Unopened(describe(error)) from error

    async def know(self, exchange: RabbitExchange) -> None:
        """Have an exchange declared: RabbitMQ closes the channel of who publishes to one that is not there."""
        if not exchange.is_default and exchange.name not in self._known:
            try:
                await self._declare(exchange, exchange.name in self._deleted)
            except aiormq.exceptions.ConnectionNotAllowed as error:
                raise Unopened(describe(error)) from error
            self._deleted.discard(exchange.name)
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known.add(exchange.name)

    async def _send(
        self,
        protocol: aiormq.Channel,
        message: Outgoing,
        exchange: RabbitExchange,
        properties: Properties,
        seconds: float,
    ) -> Any:
        check_frame(message, properties, protocol.connection.connection_tune.frame_max)
        if protocol.is_closed:
            raise ConnectionError("the channel is closed")  # the client library would wait for ever
        try:
            sending = protocol.basic_publish(
                message.body,
                exchange="" if exchange.is_default else exchange.name,
                routing_key=message.address,
                properties=properties,
                mandatory=message.options.get("mandatory", True),
                timeout=seconds,
                wait=not self._settings.publisher_confirms,
            )
            answer = await (self._watched(sending) if FORGETFUL else sending)
        except aiormq.PublishError as error:
            raise PublishError(place_of(message), "no queue takes it; declare and bind one first") from error
        except aiormq.DeliveryError as error:
            if message.is_answer:  # nobody waits for room where a sender wants the answer
                raise PublishError(place_of(message), str(Full())) from error
            raise Full from error
        if isinstance(answer, DeliveredMessage):
            self._returned(message.address, exchange)
            return None
        return answer

    async def _watched(self, sending: Coroutine[Any, Any, Any]) -> Any:
        """Wait for a confirmation, or for the end of the connection."""
        task, loss = asyncio.get_running_loop().create_task(sending), self._loss
        self._sending.add(task)
        task.add_done_callback(self._sent)
        try:
            await asyncio.wait((task, loss), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                if task.cancelled():
                    raise ConnectionError(GIVEN_UP)
                return task.result()
            raise loss.result()
        finally:
            task.cancel()

    def _sent(self, task: asyncio.Task[Any]) -> None:
        self._sending.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it has it, or has the end of the connection

    def _abandon(self, error: BaseException) -> None:
        self._protocol = None
        self._known.clear()
        self._loss.set_result(error)
        self._loss = asyncio.get_running_loop().create_future()

    def _returned(self, address: str, exchange: RabbitExchange) -> None:
        """Tell of a message that no queue takes, for each address at most every ten seconds."""
        report = self._report
        report.count("unroutable")
        now, place = monotonic(), (exchange.name, address)
        if now - self._told.get(place, -TELL_SECONDS) < TELL_SECONDS:
            return
        if len(self._told) >= KNOWN:
            self._told.clear()
        self._told[place] = now
        if exchange.is_default:
            report.line(logging.WARNING, "published to %r, and no queue takes it", address)
        else:
            report.line(
                logging.WARNING,
                "published to %r of the exchange %r, and no queue takes it",
                address,
                exchange.name,
            )

    async def _send_alone(
        self, message: Outgoing, exchange: RabbitExchange, properties: Properties, deadline: float
    ) -> Any:
        """Publish on a channel that nothing else is on."""
        clock = asyncio.get_running_loop().time
        await uncancelled(self.know(exchange), deadline - clock())
        channel = await uncancelled(self._open(confirms=True), deadline - clock())
        try:
            protocol = await self._link.protocol(channel)
            return await self._send(protocol, message, exchange, properties, deadline - clock())
        finally:
            await self._close_soon(channel, deadline - clock())

    async def _close_soon(self, channel: AbstractChannel, seconds: float) -> None:
        """Close the channel of a message; what becomes of it says nothing of the message."""
        try:
            if not channel.is_closed:
                await uncancelled(channel.close(), max(seconds, 0.001))
        except CLIENT_ERRORS as error:
            self._report.line(logging.DEBUG, "closing the channel of one message: %s", describe(error))


def _is_of_another(error: BaseException, exchange: RabbitExchange) -> bool:
    """Tell whether RabbitMQ closed the channel for an exchange that a message is not for.

    It says the name last: what it quotes of a message stands before.
    """
    named = NAMED.findall(str(error)) if isinstance(error, ELSEWHERE) else []
    return bool(named) and named[-1] != ("amq.default" if exchange.is_default else exchange.name)
