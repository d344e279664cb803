"""The real connection to Kafka."""

from __future__ import annotations

import asyncio
from functools import partial
from operator import methodcaller
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import KafkaError, KafkaException
from fastapi_stream_core.errors import BrokerUnavailable, PublishError, SetupError
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.topic_probe import why_unreachable
from fastapi_stream_core.topic_progress import TopicProgress
from fastapi_stream_core.topic_reply import ReplyTopics, TopicAnswers
from fastapi_stream_core.transport import Transport

from .metadata import Topics
from .producers import Producers
from .source import KafkaSource
from .topics import REFUSED, await_topics, create_topics

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from confluent_kafka import Producer
    from fastapi_stream_core.response import Outgoing
    from fastapi_stream_core.subscription import Subscription
    from fastapi_stream_core.transport import Source

    from .broker import KafkaBroker
    from .log import ClientLog
    from .producer import Publishing
    from .subscription import KafkaSubscription

__all__ = ("KafkaTransport",)

STEP_SECONDS = 0.5
"""Longest wait for an answer until somebody looks whether the credentials were refused."""
AGAIN = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION)


class KafkaTransport(Transport):
    """One producer for all who publish, one for answers, one consumer for each subscription."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.broker = broker
        self._making = asyncio.Lock()
        self._there: set[str] = set()
        # What each subscription has finished outlives its consumers, so that nothing of it runs again.
        self._progress: dict[Subscription, TopicProgress] = {}
        self.topics = Topics(broker._client_config)
        self.reply_topics = ReplyTopics(self._is_internal)
        self._publishing = Producers(broker, self.topics)
        # Where an answer goes is chosen by who asked, and the cluster refuses a batch for one record of it.
        self._answering = Producers(broker, self.topics)
        self._answers = TopicAnswers(self._answering.publish, self._is_led)

    async def start(self) -> None:
        timeout = self.broker.options["startup_timeout"]
        deadline = monotonic() + timeout
        publishing = await self._publishing.start()
        await self._connect(publishing, timeout)
        named = [cast("KafkaSubscription", one).topics for one in self.broker.subscribers if one.handlers]
        await self.ensure(dict.fromkeys(topic for topics in named for topic in topics), deadline=deadline)

    async def _connect(self, publishing: Publishing, timeout: float) -> None:
        """Wait for the first answer.

        Raises:
            BrokerUnavailable: none came in time, or the credentials are wrong.
        """
        began, log = monotonic(), publishing.log
        while True:
            left = max(0.01, min(timeout - (monotonic() - began), STEP_SECONDS))
            try:
                await publishing.ask(methodcaller("list_topics", timeout=left))
            except KafkaException as error:
                waited = monotonic() - began
                if log.refused is None and waited < timeout and error.args[0].code() in AGAIN:
                    continue
                seconds = 0.0 if waited < timeout else timeout
                reason = log.refused.str() if log.refused is not None else await self._silence(log, error)
                raise BrokerUnavailable(self.broker.address, "connect", seconds, reason) from None
            else:
                return

    async def _silence(self, log: ClientLog, error: KafkaException) -> str:
        """Return why no server answers: what the client says of it is often only that none does."""
        tls = "SSL" in str(self.broker._client_config.get("security.protocol")).upper()
        return await why_unreachable(self.broker.hosts, "Kafka", tls) or log.reason() or error.args[0].str()

    def source(self, subscription: Subscription) -> Source:
        progress = self._progress.setdefault(subscription, TopicProgress())
        return KafkaSource(cast("KafkaSubscription", subscription), self, progress)

    async def ensure(self, topics: Iterable[str], again: bool = False, deadline: float | None = None) -> None:
        """Make the topics that do not exist, if that is wanted, and wait until they have partitions.

        Args:
            topics: by their names.
            again: look at those too that were there before.
            deadline: when it has to be done, by `monotonic()`; None gives it `startup_timeout` seconds.

        Raises:
            SetupError: the broker refuses to make one.
            BrokerUnavailable: the broker does not answer.
        """
        async with self._making:
            wanted = [one for one in topics if again or one not in self._there]
            if wanted and (publishing := self._publishing.current) is not None:
                if deadline is None:
                    deadline = monotonic() + self.broker.options["startup_timeout"]
                await publishing.ask(partial(self._ensure, publishing.log, wanted, deadline))
                self._there.update(wanted)

    def _ensure(self, log: ClientLog, wanted: list[str], deadline: float, client: Producer) -> None:
        missing = list[str]()
        try:
            there = set(client.list_topics(timeout=_left(deadline)).topics)
            missing = [one for one in wanted if one not in there]
            if missing and self.broker.options["allow_auto_create_topics"]:
                create_topics(self.broker._client_config, missing, _left(deadline))
                await_topics(client, missing, _left(deadline))
        except KafkaException as error:
            said = error.args[0]
            if said.code() in REFUSED:
                raise SetupError(
                    f"subscriber({', '.join(map(repr, missing))})",
                    f"the topic does not exist and can't be made: {said.str()}",
                    "make it beforehand and pass allow_auto_create_topics=False, or allow the user to create it",
                ) from clean_cause(error)
            waited = self.broker.options["startup_timeout"] if monotonic() >= deadline else 0.0
            last = log.reason()
            reason = said.str() if last is None else f"{said.str()}; {last}"
            raise BrokerUnavailable(self.broker.address, "subscribe", waited, reason) from clean_cause(error)

    def publish(self, message: Outgoing) -> Coroutine[Any, Any, Any]:
        return (self._answers if message.is_answer else self._publishing).publish(message)

    async def _is_led(self, topic: str) -> bool:
        """Tell whether each partition of a topic has a leader; also when the cluster does not say."""
        try:
            found = (await self.topics.look([topic])).get(topic)
        except KafkaException:
            return True
        return found is None or found.has_leaders

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
        return await self._publishing.ping(timeout)

    async def close(self) -> None:
        await asyncio.gather(self._publishing.close(), self._answering.close())
        await self.topics.close()


def _left(deadline: float) -> float:
    """Return the seconds until a moment; never nothing, which the client takes for without end."""
    return max(0.05, deadline - monotonic())
