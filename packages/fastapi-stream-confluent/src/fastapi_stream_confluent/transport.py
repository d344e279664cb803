"""The real connection to Kafka."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import KafkaError, KafkaException, Producer
from fastapi_stream_core.errors import BrokerUnavailable, PublishError, SetupError
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.topic_reply import ReplyTopics
from fastapi_stream_core.transport import Transport

from .assignment import Progress
from .config import producer_config, wrong_option
from .log import ClientLog
from .metadata import Topics
from .producer import Publishing
from .source import KafkaSource
from .stranded import finds_no_broker
from .topics import REFUSED, await_topics, create_topics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi_stream_core.response import Outgoing
    from fastapi_stream_core.subscription import Subscription
    from fastapi_stream_core.transport import Source

    from .broker import KafkaBroker
    from .subscription import KafkaSubscription

__all__ = ("KafkaTransport",)

CLOSE_SECONDS = 5.0
STEP_SECONDS = 0.5
"""Longest wait for an answer until somebody looks whether the credentials were refused."""
AGAIN = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION)


class KafkaTransport(Transport):
    """One producer for the broker, one consumer for each subscription."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.broker = broker
        self._publishing: Publishing | None = None
        self._retired: list[Publishing] = []
        self._renewing = asyncio.Lock()
        self._making = asyncio.Lock()
        self._checking: asyncio.Task[None] | None = None
        self._there: set[str] = set()
        # What each subscription has finished outlives its consumers, so that nothing of it runs again.
        self._progress: dict[Subscription, Progress] = {}
        self.topics = Topics(broker._client_config)
        self.reply_topics = ReplyTopics(self._is_internal)

    async def start(self) -> None:
        timeout = self.broker.options["startup_timeout"]
        log = ClientLog(self.broker.report)
        self._publishing = await self._producer(log)
        await self._connect(self._publishing.client, log, timeout)
        named = [cast("KafkaSubscription", one).topics for one in self.broker.subscribers if one.handlers]
        await self.ensure(dict.fromkeys(topic for topics in named for topic in topics))

    async def _connect(self, client: Producer, log: ClientLog, timeout: float) -> None:
        """Wait for the first answer.

        Raises:
            BrokerUnavailable: none came in time, or the credentials are wrong.
        """
        began = monotonic()
        while True:
            left = timeout - (monotonic() - began)
            try:
                await asyncio.to_thread(client.list_topics, timeout=max(0.01, min(left, STEP_SECONDS)))
            except KafkaException as error:
                waited = monotonic() - began
                if log.refused is None and waited < timeout and error.args[0].code() in AGAIN:
                    continue
                reason = (log.refused and log.refused.str()) or log.last or error.args[0].str()
                seconds = 0.0 if waited < timeout else timeout
                raise BrokerUnavailable(self.broker.address, "connect", seconds, reason) from None
            else:
                return

    async def _producer(self, log: ClientLog) -> Publishing:
        config = {"error_cb": log.error, **producer_config(self.broker)}
        try:
            client = await asyncio.to_thread(lambda: Producer(config, logger=log))
        except (KafkaException, ValueError, TypeError) as error:
            raise wrong_option(type(self.broker).__name__, error) from clean_cause(error)
        return Publishing(client, self.broker.address, self.broker.options["publish_timeout"], log)

    def source(self, subscription: Subscription) -> Source:
        progress = self._progress.setdefault(subscription, Progress())
        return KafkaSource(cast("KafkaSubscription", subscription), self, progress)

    async def ensure(self, topics: Iterable[str], again: bool = False) -> None:
        """Make the topics that do not exist, if that is wanted, and wait until they have partitions.

        Args:
            topics: by their names.
            again: look at those too that were there before.

        Raises:
            SetupError: the broker refuses to make one.
            BrokerUnavailable: the broker does not answer.
        """
        async with self._making:
            wanted = [one for one in topics if again or one not in self._there]
            if wanted and self._publishing is not None:
                await asyncio.to_thread(self._ensure, self._publishing.client, wanted)
                self._there.update(wanted)

    def _ensure(self, client: Any, wanted: list[str]) -> None:
        timeout = self.broker.options["startup_timeout"]
        missing: list[str] = []
        try:
            there = set(client.list_topics(timeout=timeout).topics)
            missing = [one for one in wanted if one not in there]
            if missing and self.broker.options["allow_auto_create_topics"]:
                create_topics(self.broker._client_config, missing, timeout)
                await_topics(client, missing, timeout)
        except KafkaException as error:
            said = error.args[0]
            if said.code() in REFUSED:
                raise SetupError(
                    f"subscriber({', '.join(map(repr, missing))})",
                    f"the topic does not exist and can't be made: {said.str()}",
                    "make it beforehand and pass allow_auto_create_topics=False, or allow the user to create it",
                ) from clean_cause(error)
            raise BrokerUnavailable(self.broker.address, "subscribe", timeout, said.str()) from clean_cause(error)

    async def publish(self, message: Outgoing) -> Any:
        publishing = self._publishing
        if publishing is None:
            raise BrokerUnavailable(self.broker.address, "publish", 0.0, "the connection is closed")
        if publishing.broken is not None:
            publishing = await self._living(publishing)
        try:
            return await publishing.publish(message)
        except BrokerUnavailable:
            if self._checking is None or self._checking.done():
                self._checking = asyncio.get_running_loop().create_task(self._check(publishing))
            raise

    async def _check(self, publishing: Publishing) -> None:
        """Have a producer replaced that finds no broker, though the cluster answers others."""
        if publishing.broken is not None or not await self.topics.answers():
            return
        if await asyncio.to_thread(finds_no_broker, publishing.client):
            publishing.broken = KafkaError(KafkaError._ALL_BROKERS_DOWN, "the client found no broker again")

    async def _living(self, broken: Publishing) -> Publishing:
        """Return a producer in the place of one that had a fatal error."""
        async with self._renewing:
            if self._publishing is broken:
                self._retired.append(broken)
                self._publishing = await self._producer(ClientLog(self.broker.report))
            return self._publishing or broken

    async def _is_internal(self, topic: str) -> bool | None:
        """Tell whether a topic is the cluster's own; None when it does not exist.

        Raises:
            BrokerUnavailable: the cluster is away.
            PublishError: it answers, and does not say.
        """
        try:
            found = (await self.topics.look([topic])).get(topic)
        except KafkaException as error:
            said = error.args[0].str()
            if not await self.ping(STEP_SECONDS):
                raise BrokerUnavailable(self.broker.address, "look up a topic", 0, said) from None
            raise PublishError(topic, f"the cluster does not say whether there is such a topic: {said}") from None
        return None if found is None else found.is_internal

    async def ping(self, timeout: float) -> bool:
        publishing = self._publishing
        if publishing is None:
            return False
        if publishing.broken is not None:
            publishing = await self._living(publishing)
        try:
            await asyncio.to_thread(publishing.client.list_topics, timeout=max(0.01, timeout))
        except KafkaException:
            await self._check(publishing)
            return False
        return True

    async def close(self) -> None:
        publishing, self._publishing = self._publishing, None
        if self._checking is not None:
            await asyncio.wait([self._checking])
        for one in (*self._retired, *([] if publishing is None else [publishing])):
            await one.close(CLOSE_SECONDS)
        self._retired.clear()
        await self.topics.close()
