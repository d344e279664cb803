"""The producers of a broker: another one after a fatal error, and one for what was refused together with others."""

from __future__ import annotations

import asyncio
from operator import methodcaller
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from fastapi_stream_core.errors import BrokerUnavailable, PublishError
from fastapi_stream_core.shown_address import clean_cause

from .config import producer_config, wrong_option
from .log import ClientLog
from .producer import Publishing, RefusedTogether
from .stranded import finds_no_broker

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing

    from .broker import KafkaBroker
    from .metadata import Topics

__all__ = ("Producers",)

CLOSE_SECONDS = 5.0
ALONE = {"batch.num.messages": 1}


class Producers:
    """One producer at a time, shared by everybody who publishes here. Without `start` the first message makes it.

    Args:
        broker: whose options the producer has.
        topics: knows whether the cluster answers others.
        alone: whether each message has a batch of its own.

    Attributes:
        current: the producer; None when there is none yet, or none any more.
    """

    def __init__(self, broker: KafkaBroker, topics: Topics, alone: bool = False) -> None:
        self._broker = broker
        self._topics = topics
        self._is_alone = alone
        self._loop = asyncio.get_running_loop()
        self._timeout: float = broker.options["publish_timeout"]
        self._making = asyncio.Lock()
        self._retiring: dict[Publishing, asyncio.Task[None]] = {}
        self._checking: asyncio.Task[None] | None = None
        self._alone: Producers | None = None
        self._closed = False
        self.current: Publishing | None = None

    async def start(self) -> Publishing:
        """Return a producer that sends: a new one in the place of one that had a fatal error.

        Raises:
            BrokerUnavailable: the broker stops.
            SetupError: the client refuses an option.
        """
        async with self._making:
            if self._closed:
                raise self._unavailable(0.0, "the connection is closed")
            current = self.current
            if current is None or current.broken is not None:
                made = await self._make()
                if current is not None:
                    self._retiring[current] = self._loop.create_task(self._retire(current))
                self.current = current = made
            return current

    async def _retire(self, publishing: Publishing) -> None:
        """Close a producer that has a successor, when everything that was published with it is answered."""
        await publishing.drain()
        await publishing.close(CLOSE_SECONDS)
        del self._retiring[publishing]

    async def _make(self) -> Publishing:
        log = ClientLog(self._broker.report)
        config = {"error_cb": log.error, **producer_config(self._broker), **(ALONE if self._is_alone else {})}
        try:
            client = await asyncio.to_thread(lambda: Producer(config, logger=log))
        except (KafkaException, ValueError, TypeError) as error:
            raise wrong_option(type(self._broker).__name__, error) from clean_cause(error)
        return Publishing(client, self._broker.address, self._timeout, log)

    async def publish(self, message: Outgoing) -> Message:
        """Publish one message and wait for the broker's confirmation.

        Raises:
            BrokerUnavailable: no confirmation within `publish_timeout`.
            PublishError: the broker or the client refused it.
        """
        began = self._loop.time()
        publishing = self.current
        if publishing is None or publishing.broken is not None:
            publishing = await self.start()
        try:
            return await publishing.publish(message)
        except BrokerUnavailable:
            self._begin_check(publishing)
            raise
        except RefusedTogether as error:
            if self._is_alone:
                raise PublishError(message.address, error.reason) from None
            return await self._publish_alone(message, began)

    async def _publish_alone(self, message: Outgoing, began: float) -> Message:
        if self._closed:
            raise self._unavailable(0.0, "the connection is closed")
        if self._alone is None:
            self._alone = Producers(self._broker, self._topics, alone=True)
        left = max(0.0, began + self._timeout - self._loop.time())
        try:
            return await asyncio.wait_for(self._alone.publish(message), left)
        except asyncio.TimeoutError:
            raise self._unavailable(self._timeout, "no confirmation") from None

    def _unavailable(self, seconds: float, reason: str) -> BrokerUnavailable:
        return BrokerUnavailable(self._broker.address, "publish", seconds, reason)

    def _begin_check(self, publishing: Publishing) -> None:
        if not self._closed and (self._checking is None or self._checking.done()):
            self._checking = self._loop.create_task(self._check(publishing))

    async def _check(self, publishing: Publishing) -> None:
        """Have a producer replaced that finds no broker, though the cluster answers others."""
        if publishing.broken is not None or not await self._topics.answers() or publishing.broken is not None:
            return
        if await publishing.ask(finds_no_broker):
            publishing.broken = KafkaError(KafkaError._ALL_BROKERS_DOWN, "the client found no broker again")

    async def ping(self, timeout: float) -> bool:
        """Tell whether the cluster answers within `timeout` seconds."""
        publishing = self.current
        if publishing is None:
            return False
        if publishing.broken is not None:
            publishing = await self.start()
        try:
            await publishing.ask(methodcaller("list_topics", timeout=max(0.01, timeout)))
        except KafkaException:
            self._begin_check(publishing)  # it takes longer than whoever asks may wait
            return False
        return True

    async def close(self) -> None:
        """Wait until everything that was published is confirmed, some seconds at most, then close."""
        self._closed = True
        async with self._making:
            publishing, self.current = self.current, None
        if self._checking is not None:
            await asyncio.wait([self._checking])
        for one, retiring in list(self._retiring.items()):
            retiring.cancel()
            await asyncio.wait([retiring])
            await one.close(CLOSE_SECONDS)
        self._retiring.clear()
        if publishing is not None:
            await publishing.close(CLOSE_SECONDS)
        if self._alone is not None:
            await self._alone.close()
