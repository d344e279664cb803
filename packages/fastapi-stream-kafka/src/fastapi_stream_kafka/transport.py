"""The connection to a real cluster: producers, and a consumer for each subscription."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

from aiokafka.errors import KafkaError
from fastapi_stream_core.errors import BrokerUnavailable, SetupError
from fastapi_stream_core.report import describe
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.subscription import Subscription
from fastapi_stream_core.topic_probe import why_unreachable
from fastapi_stream_core.topic_progress import TopicProgress
from fastapi_stream_core.topic_reply import ReplyTopics, TopicAnswers
from fastapi_stream_core.transport import Source, Transport

from .assigned import AssignedSource
from .client import calm, connection_refusal
from .group import GroupSource
from .log import guard_log
from .options import sent
from .publishing import Publishing
from .salvage import Salvage, Unreadable, guarded_consumer
from .security import client_options
from .subscription import KafkaSubscription
from .topics import Topics

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aiokafka import AIOKafkaConsumer
    from aiokafka.structs import RecordMetadata

    from .broker import KafkaBroker

__all__ = ("KafkaTransport",)

CONNECTION = (
    "client_id",
    "request_timeout_ms",
    "retry_backoff_ms",
    "metadata_max_age_ms",
    "connections_max_idle_ms",
    "sasl_kerberos_service_name",
    "sasl_kerberos_domain_name",
    "sasl_oauth_token_provider",
)
CONSUMER = (
    "group_id",
    "group_instance_id",
    "fetch_max_wait_ms",
    "fetch_max_bytes",
    "fetch_min_bytes",
    "max_partition_fetch_bytes",
    "check_crcs",
    "partition_assignment_strategy",
    "max_poll_interval_ms",
    "rebalance_timeout_ms",
    "session_timeout_ms",
    "heartbeat_interval_ms",
    "consumer_timeout_ms",
    "exclude_internal_topics",
    "isolation_level",
)
PATTERN_AGE_MS = 3000
CLOSE_SECONDS = 4.0
RETRY_SECONDS = 0.3
LED_SECONDS = 2.0
NOT_ALL = "something answers there, the cluster does not: can the addresses that it advertises be reached from here?"


class KafkaTransport(Transport):
    """One producer for all who publish, one for answers, and a consumer for each subscription."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.broker = broker
        self._connection = {
            "bootstrap_servers": broker.hosts,
            **sent(broker.options, CONNECTION),
            **client_options(broker.options["security"]),
        }
        self._progress: dict[Subscription, TopicProgress] = {}
        admin = {name: value for name, value in self._connection.items() if name != "metadata_max_age_ms"}
        self.topics = Topics(admin, broker.options["allow_auto_create_topics"])
        self.reply_topics = ReplyTopics(self._is_internal)
        self._publishing = Publishing(broker, self._connection, self.topics)
        # Where an answer goes is chosen by who asked, and the cluster refuses a batch for one record of it.
        self._answering = Publishing(broker, self._connection, self.topics)
        self._answers = TopicAnswers(self._answering.publish, self._is_led)

    # Life.

    async def start(self) -> None:
        guard_log()
        timeout: float = self.broker.options["startup_timeout"]
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            try:
                await asyncio.wait_for(self._connect(), timeout)
                return
            except (KafkaError, OSError, UnicodeError, asyncio.TimeoutError) as error:
                refusal = (
                    await connection_refusal(self._connection, timeout) if self.broker.options["security"] else None
                )
                if refusal is not None:
                    raise BrokerUnavailable(self.broker.address, "connect", 0, refusal) from clean_cause(error)
                if asyncio.get_running_loop().time() + RETRY_SECONDS >= deadline:
                    reason = await self._silence(error)
                    raise BrokerUnavailable(self.broker.address, "connect", timeout, reason) from clean_cause(error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _silence(self, error: BaseException) -> str:
        """Return why no server answers: what the client says of it is only that none does."""
        tls = "SSL" in self._connection.get("security_protocol", "")
        known = NOT_ALL if isinstance(error, asyncio.TimeoutError) else describe(error)
        return await why_unreachable(self.broker.hosts, "Kafka", tls) or known

    async def _connect(self) -> None:
        await self._publishing.start()
        await self.topics.ensure(
            topic for one in self.broker.subscribers if one.handlers for topic in cast("KafkaSubscription", one).topics
        )

    def report_close(self, what: str, error: BaseException) -> None:
        """Log that a client did not close cleanly."""
        self.broker.report.line(logging.WARNING, "closing the %s failed: %r", what, error)

    async def close(self) -> None:
        await asyncio.gather(self._publishing.close(), self._answering.close())
        try:
            await asyncio.wait_for(self.topics.close(), CLOSE_SECONDS)
        except Exception as error:
            self.report_close("administration", error)

    async def ping(self, timeout: float) -> bool:
        return await self._publishing.ping(timeout)

    # Consuming.

    def source(self, subscription: Subscription) -> Source:
        one = cast("KafkaSubscription", subscription)
        progress = self._progress.setdefault(one, TopicProgress())
        if one.group_id is not None and not one.partitions:
            return GroupSource(one, self, progress)
        return AssignedSource(one, self, progress)

    def consumer(self, subscription: KafkaSubscription, unreadable: Unreadable) -> AIOKafkaConsumer:
        """Return a new consumer, not started; `unreadable` is told of what it passes over."""
        options: dict[str, Any] = {
            **self._connection,
            **sent(subscription.options, CONSUMER),
            "enable_auto_commit": False,
            "fetch_max_bytes": min(
                subscription.options["fetch_max_bytes"], max(subscription.options["prefetch_bytes"] // 2, 1)
            ),
            "auto_offset_reset": "none",  # where to begin is decided here
        }
        if subscription.options["client_rack"] is not None:
            options["client_rack"] = subscription.options["client_rack"]
        if subscription.pattern is not None or not self.broker.options["allow_auto_create_topics"]:
            options["metadata_max_age_ms"] = min(options["metadata_max_age_ms"], PATTERN_AGE_MS)
        try:
            consumer = guarded_consumer(Salvage(unreadable, subscription.options["prefetch_bytes"] // 2), options)
        except (TypeError, ValueError) as error:
            raise SetupError(
                subscription.label, str(error), "correct the option, or use a newer aiokafka"
            ) from clean_cause(error)
        calm(consumer._client)
        return consumer

    # Publishing.

    def publish(self, message: Outgoing) -> Coroutine[Any, Any, RecordMetadata]:
        return (self._answers if message.is_answer else self._publishing).publish(message)

    async def _is_led(self, topic: str) -> bool:
        """Tell whether each partition of a topic has a leader; also when the cluster does not say."""
        try:
            found = await asyncio.wait_for(self.topics.find(topic), LED_SECONDS)
        except (KafkaError, OSError, asyncio.TimeoutError):
            return True
        return found is None or found.has_leaders

    async def _is_internal(self, topic: str) -> bool | None:
        """Tell whether a topic is the cluster's own; None when it does not exist.

        Raises:
            BrokerUnavailable: the cluster does not answer.
        """
        timeout = self.broker.options["publish_timeout"]
        try:
            found = await asyncio.wait_for(self.topics.find(topic), timeout)
        except (KafkaError, OSError, asyncio.TimeoutError) as error:
            raise BrokerUnavailable(self.broker.address, "look up a topic", timeout, error) from clean_cause(error)
        return None if found is None else found.is_internal
