"""RabbitMQ under a broker: one connection, a channel for publishing, a channel for each subscription."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Hashable
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import aiormq
from aio_pika.abc import AbstractChannel
from aiormq import spec
from aiormq.abc import DeliveredMessage
from fastapi_stream_core.errors import BrokerUnavailable, PublishError, SetupError
from fastapi_stream_core.report import describe
from fastapi_stream_core.transport import Transport

from .connection import CLIENT_ERRORS, Address, Link
from .foreign import read_foreign_text
from .gate import Gate
from .publisher import RabbitPublisher
from .schema import DEFAULT_EXCHANGE, Channel, RabbitExchange
from .source import RabbitSource
from .subscription import RabbitSubscription
from .topology import declare_exchange
from .wire import properties_of

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing
    from fastapi_stream_core.subscription import Subscription

    from .broker import RabbitBroker

__all__ = ("RabbitTransport",)

TELL_SECONDS = 10.0
GUILTY = (aiormq.AMQPChannelError, aiormq.ConnectionClosed)
"""What RabbitMQ says when a message breaks its rules; the second one when others were written behind it."""
ALONE = 3
"""How often a message is sent alone while RabbitMQ closes the connection, which another one may have caused."""
FORGETFUL = tuple(map(int, version("aiormq").split(".")[:2])) < (7, 0)
"""Whether the client library may leave a publisher waiting for ever when the connection is lost (on Python 3.10)."""


class RabbitTransport(Transport):
    """One connection to RabbitMQ."""

    def __init__(self, broker: RabbitBroker, address: Address) -> None:
        read_foreign_text()
        self._broker = broker
        self._link = Link(address, broker.report)
        self._settings: Channel = broker.options["default_channel"] or Channel()
        self._publish_timeout: float = broker.options["publish_timeout"]
        self._app_id: str | None = broker.options["app_id"]
        self._channel: AbstractChannel | None = None
        self._protocol: aiormq.Channel | None = None
        self._opening = asyncio.Lock()
        self._gate = Gate(asyncio.get_running_loop())
        self._handled: dict[Subscription, dict[Hashable, None]] = {}
        self._known: set[str] = set()
        self._told: dict[tuple[str, str], float] = {}
        self._sending: set[asyncio.Task[Any]] = set()
        self._loss: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._link.when_lost = self._abandon

    async def start(self) -> None:
        timeout: float = self._broker.options["startup_timeout"]
        await self._link.open(timeout)
        exchanges = [one.exchange for one in self._broker.publishers if isinstance(one, RabbitPublisher)]
        try:
            for exchange in dict.fromkeys(exchanges):
                await asyncio.wait_for(self._know(exchange), timeout)
        except CLIENT_ERRORS as error:
            raise BrokerUnavailable(self._link.address.shown, "connect", timeout, describe(error)) from error

    def source(self, subscription: Subscription) -> RabbitSource:
        handled = self._handled.setdefault(subscription, {})
        return RabbitSource(cast("RabbitSubscription", subscription), self._link, handled)

    async def close(self) -> None:
        await self._link.close()
        if self._sending:
            for task in self._sending:
                task.cancel()
            await asyncio.wait(self._sending, timeout=1.0)

    async def ping(self, timeout: float) -> bool:
        try:
            channel = await asyncio.wait_for(self._link.channel(), timeout)
            await asyncio.wait_for(channel.close(), timeout)
        except CLIENT_ERRORS:
            return False
        return True

    # Publishing.

    async def publish(self, message: Outgoing) -> Any:
        timeout: float = message.options.get("timeout") or self._publish_timeout
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        properties = properties_of(message, self._app_id)
        exchange: RabbitExchange = message.options.get("exchange") or DEFAULT_EXCHANGE
        lost: BaseException | None = None
        alone = 0
        while True:
            left = max(deadline - loop.time(), 0.001)
            protocol = self._protocol
            try:
                if alone:
                    return await self._send_alone(message, exchange, properties, left)
                if protocol is None or protocol.is_closed or not (exchange.is_default or exchange.name in self._known):
                    protocol = await asyncio.wait_for(self._ready(exchange), left)
                if not self._gate.is_open(protocol.write_queue):
                    await self._gate.wait(protocol.write_queue)
                return await self._send(protocol, message, exchange, properties, deadline - loop.time())
            except asyncio.TimeoutError as error:
                raise BrokerUnavailable(self._link.address.shown, "publish", timeout, lost) from error
            except SetupError as error:
                raise PublishError(message.address, str(error)) from error
            except GUILTY as error:
                # RabbitMQ closes the whole channel for one bad message; which one it was shows when each goes alone.
                if alone and (alone == ALONE or isinstance(error, aiormq.AMQPChannelError)):
                    raise PublishError(message.address, describe(error)) from error
                lost, alone = error, alone + 1
            except asyncio.CancelledError as error:
                # The client cancels what waits on a connection that its heartbeat gave up; nobody cancelled this task.
                if self._link.closed or protocol is None or not protocol.is_closed or _is_cancelled():
                    raise
                lost = error
            except CLIENT_ERRORS as error:
                lost = error
            if self._link.closed or loop.time() >= deadline:
                raise BrokerUnavailable(self._link.address.shown, "publish", timeout, lost) from lost
            # Give the end of the connection a moment to be noticed everywhere.
            await asyncio.sleep(0.01)

    async def _ready(self, exchange: RabbitExchange) -> aiormq.Channel:
        """Return the channel for publishing, with the exchange known to be there; wait while the broker is away."""
        async with self._opening:
            if self._protocol is None or self._protocol.is_closed:
                self._known.clear()
                settings = self._settings
                channel = await self._link.channel(
                    confirms=settings.publisher_confirms, return_raises=settings.on_return_raises
                )
                self._channel, self._protocol = channel, await self._link.protocol(channel)
            await self._know(exchange)
            return self._protocol

    async def _know(self, exchange: RabbitExchange) -> None:
        """Declare an exchange, or look whether it is there: RabbitMQ closes the channel of who publishes to none."""
        if not exchange.is_default and exchange.name not in self._known:
            async with self._link.declaring() as channel:
                await declare_exchange(channel, exchange)
            self._known.add(exchange.name)

    async def _send(
        self,
        protocol: aiormq.Channel,
        message: Outgoing,
        exchange: RabbitExchange,
        properties: spec.Basic.Properties,
        seconds: float,
    ) -> Any:
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
            raise PublishError(message.address, "no queue takes it; declare and bind one first") from error
        except aiormq.DeliveryError as error:
            raise PublishError(message.address, "RabbitMQ could not take it (basic.nack)") from error
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
        self._loss.set_result(error)
        self._loss = asyncio.get_running_loop().create_future()

    def _returned(self, address: str, exchange: RabbitExchange) -> None:
        """Tell of a message that no queue takes, for each address at most every ten seconds."""
        report = self._broker.report
        report.count("unroutable")
        now, place = monotonic(), (exchange.name, address)
        if now - self._told.get(place, -TELL_SECONDS) < TELL_SECONDS:
            return
        if len(self._told) > 1000:
            self._told.clear()
        self._told[place] = now
        where = "" if exchange.is_default else f" of the exchange {exchange.name!r}"
        report.line(logging.WARNING, "published to %r%s, and no queue takes it", address, where)

    async def _send_alone(
        self, message: Outgoing, exchange: RabbitExchange, properties: spec.Basic.Properties, seconds: float
    ) -> Any:
        """Publish on a channel that nothing else is on."""
        raises = self._settings.on_return_raises
        channel = await asyncio.wait_for(self._link.channel(confirms=True, return_raises=raises), seconds)
        try:
            return await self._send(await self._link.protocol(channel), message, exchange, properties, seconds)
        finally:
            if not channel.is_closed:
                await channel.close()


def _is_cancelled() -> bool:
    """Tell whether somebody cancelled the current task; Python 3.10 can't tell."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is not None and cancelling() > 0
