"""RabbitMQ under a broker: a connection for what is consumed, one for what is published, one for answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from fastapi_stream_core.errors import BrokerUnavailable, PublishError
from fastapi_stream_core.report import describe
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.transport import Transport

from .bindings import Bindings
from .cancellation import uncancelled
from .connection import CLIENT_ERRORS, Address, Link
from .consuming import Consuming
from .foreign import read_foreign_text
from .inbox import has_form_of_inbox, is_inbox
from .publisher import RabbitPublisher
from .publishing import Publishing
from .schema import RabbitExchange
from .source import RabbitSource
from .stream_position import StreamPosition
from .subscription import RabbitSubscription
from .topology import declare_exchange
from .wire import place_of

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing
    from fastapi_stream_core.subscription import Subscription

    from .broker import RabbitBroker

__all__ = ("RabbitTransport",)

ANSWER_SECONDS = 1.0
BYTES_PER_SECOND = 1024 * 1024
"""How long an answer may take once RabbitMQ was seen to be there; a large one longer, as a slow network sends it."""
TWICE = 2
"""How often RabbitMQ has to be there: after a moment in which it was away it confirms what came before."""


class RabbitTransport(Transport):
    """A connection for each direction; one that is not needed is not made."""

    def __init__(self, broker: RabbitBroker, address: Address) -> None:
        read_foreign_text()
        self._broker = broker
        self._consuming = Consuming(address, broker.report)
        link = Link(address, broker.report)
        self._publishing = Publishing(broker, link, self._declare)
        # Who asked chose the address of an answer: RabbitMQ ends the connection for an inbox that is forged, and a
        # queue that is stuck holds up whatever else is published on it.
        self._answering = Publishing(broker, Link(address, broker.report), self._declare)
        self._positions: dict[RabbitSubscription, StreamPosition] = {}
        self._bindings = Bindings(self._consuming, broker.report)
        self._first = self._consuming.shared if any(one.handlers for one in broker.subscribers) else link

    async def start(self) -> None:
        timeout: float = self._broker.options["startup_timeout"]
        await self._first.open(timeout)
        exchanges = [one.exchange for one in self._broker.publishers if isinstance(one, RabbitPublisher)]
        try:
            for exchange in dict.fromkeys(exchanges):
                await uncancelled(self._publishing.know(exchange), timeout)
        except CLIENT_ERRORS as error:
            raise BrokerUnavailable(self._first.address.shown, "connect", timeout, describe(error)) from clean_cause(
                error
            )

    def source(self, subscription: Subscription) -> RabbitSource:
        one = cast("RabbitSubscription", subscription)
        position = self._positions.setdefault(one, StreamPosition())
        return RabbitSource(one, self._consuming, self._bindings, position)

    def publish(self, message: Outgoing) -> Coroutine[Any, Any, Any]:
        inbox = has_form_of_inbox(message.address)
        if inbox and not is_inbox(message.address):
            reason = "RabbitMQ did not make this address of direct reply-to, and ends the connection of who uses it"
            raise PublishError(message.address, reason)
        if message.is_answer:
            return self._answer(message)
        return (self._answering if inbox else self._publishing).publish(message)

    async def _answer(self, message: Outgoing) -> Any:
        """Publish an answer; its address, which a sender chose, keeps nobody waiting while RabbitMQ is there."""
        publication = asyncio.ensure_future(self._answering.publish(message))
        seconds, seen = ANSWER_SECONDS + len(message.body) / BYTES_PER_SECOND, 0
        try:
            while seen < TWICE:
                loss = self._answering.loss
                await asyncio.wait((publication,), timeout=seconds)
                if publication.done():
                    return publication.result()
                # What waits for a connection waits for RabbitMQ, not for the address.
                steady = loss is not None and not loss.done()
                seen = seen + 1 if steady and await self.ping(ANSWER_SECONDS) else 0
            if publication.done():
                return publication.result()
            reason = f"RabbitMQ answers, and did not confirm it within {TWICE * seconds:.3g} s; its queue may be stuck"
            raise PublishError(place_of(message), reason)
        finally:
            if not publication.done():
                publication.cancel()
                await asyncio.wait((publication,))

    async def close(self) -> None:
        await self._bindings.close()
        await asyncio.gather(self._consuming.close(), self._publishing.close(), self._answering.close())

    async def ping(self, timeout: float) -> bool:
        """Tell whether RabbitMQ answers, and takes what is published: it does not while an alarm is on."""
        if self._publishing.blocked or self._answering.blocked:
            return False
        try:
            channel = await uncancelled(self._first.channel(), timeout)
            await uncancelled(channel.close(), timeout)
        except CLIENT_ERRORS:
            return False
        return True

    async def _declare(self, exchange: RabbitExchange, again: bool) -> None:
        """Declare an exchange, or look whether it is there; one that was deleted has lost its bindings."""
        async with self._first.declaring() as channel:
            await declare_exchange(channel, exchange)
        await self._bindings.restore(exchange.name, again)
