"""Keeps queues bound: an exchange that is deleted takes its bindings with it, and RabbitMQ tells nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator

import aiormq
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.report import Report, describe

from .cancellation import uncancelled
from .connection import CLIENT_ERRORS
from .consuming import Consuming
from .schema import RabbitExchange
from .subscription import RabbitSubscription
from .topology import bind_queue, declare_exchange

__all__ = ("Bindings",)

ROUND_SECONDS = 5.0
"""Between two rounds in which everything is bound again, which changes nothing where it is bound."""
EACH_SECONDS = 0.05
"""And for each subscription at least so much, so that a thousand of them cost no more than twenty bindings a second."""


class Bindings:
    """The bindings of all subscriptions of a broker that consume from an exchange.

    Args:
        consuming: knows the connection to declare and bind on.
        report: where it is said that an exchange was deleted.
    """

    def __init__(self, consuming: Consuming, report: Report) -> None:
        self._consuming = consuming
        self._report = report
        self._bound: dict[RabbitSubscription, None] = {}
        self._told: dict[RabbitSubscription, str] = {}
        self._task: asyncio.Task[None] | None = None

    def keep(self, subscription: RabbitSubscription) -> None:
        """Keep the queue of a subscription bound, which it is now."""
        if not subscription.exchange.is_default:
            self._bound[subscription] = None
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._rounds(), name="keep queues bound")

    def forget(self, subscription: RabbitSubscription) -> None:
        """Bind the queue of a subscription no more."""
        self._bound.pop(subscription, None)

    async def close(self) -> None:
        """End the rounds."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def restore(self, name: str, deleted: bool) -> None:
        """Bind what an exchange passes messages to: it was just declared, and may have been made by that.

        Args:
            name: of the exchange.
            deleted: whether it was there before, and was not any more.
        """
        affected = [one for one in self._bound if any(part.name == name for part in _chain(one.exchange))]
        await self._bind_all(affected, {name} if deleted else set())

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(max(ROUND_SECONDS, EACH_SECONDS * len(self._bound)))
            try:
                await self._bind_all(list(self._bound), set())
            except Exception as error:
                # Whatever it was, there is another round; a connection that is lost is reported where it is.
                self._report.line(logging.DEBUG, "binding again failed: %s", describe(error))

    async def _bind_all(self, subscriptions: Iterable[RabbitSubscription], deleted: set[str]) -> None:
        for subscription in subscriptions:
            if subscription not in self._bound:
                continue
            try:
                await uncancelled(self._bind(subscription, deleted))
            except aiormq.ChannelAccessRefused as error:
                self._tell(subscription, describe(error))
                continue
            except CLIENT_ERRORS:
                continue  # its queue or the connection is gone, which its consumer learns too, and makes it again
            except SetupError as error:
                self._tell(subscription, str(error))
                continue
            gone = next((part.name for part in _chain(subscription.exchange) if part.name in deleted), None)
            if gone is None:
                self._told.pop(subscription, None)
            else:
                self._tell(subscription, f"the exchange {gone!r} was deleted; it is there and bound again")

    async def _bind(self, subscription: RabbitSubscription, deleted: set[str]) -> None:
        queue, exchange = subscription.queue, subscription.exchange
        # Only the connection of an exclusive queue may bind it. Any other one may be bound while its own is away.
        link = self._consuming.link(queue.name) if queue.exclusive else self._consuming.shared
        if queue.exclusive and not link.connected:
            raise ConnectionError(f"the queue {queue.name!r} went with its connection")
        try:
            async with link.declaring() as channel:
                await bind_queue(channel, queue, exchange)
            return
        except aiormq.ChannelNotFoundEntity as error:
            text = str(error)
        missing = [part.name for part in _chain(exchange) if f"no exchange '{part.name}'" in text]
        if not missing:
            raise ConnectionError(text)
        async with link.declaring() as channel:
            await declare_exchange(channel, exchange)
            await bind_queue(channel, queue, exchange)
        deleted.update(missing)

    def _tell(self, subscription: RabbitSubscription, text: str) -> None:
        """Say what happened to a subscription once, until something else does."""
        if self._told.get(subscription) != text:
            self._told[subscription] = text
            self._report.line(logging.WARNING, "%s: %s", subscription.label, text)


def _chain(exchange: RabbitExchange) -> Iterator[RabbitExchange]:
    """Yield an exchange and those that it gets messages from."""
    one: RabbitExchange | None = exchange
    while one is not None and not one.is_default:
        yield one
        one = one.bind_to
