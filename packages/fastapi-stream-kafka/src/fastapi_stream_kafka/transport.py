"""The connection to a real cluster: one producer, and a consumer for each subscription."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError
from fastapi_stream_core.errors import BrokerUnavailable, PublishError, SetupError
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.subscription import Subscription
from fastapi_stream_core.topic_reply import ReplyTopics, topic_fault
from fastapi_stream_core.transport import Source, Transport

from .assigned import AssignedSource
from .client import NOT_STORED, Abandoned, abandon, calm, close_producer, connection_refusal, is_dead, is_ended
from .deadline import Deadlines
from .group import GroupSource
from .log import guard_log
from .options import sent
from .salvage import Salvage, Unreadable, guarded_consumer
from .security import client_options
from .source import Progress, seen
from .subscription import KafkaSubscription
from .topics import Topics
from .wire import NULL, given_value, wire_headers, wire_key

if TYPE_CHECKING:
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
PRODUCER = ("acks", "compression_type", "max_batch_size", "max_request_size", "linger_ms")
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
LOOK_UP_SECONDS = 2.0
SILENT = "no answer in Kafka's protocol"
MOST_KNOWN = 1000
"""Most topics whose metadata the producer is known to have."""


class KafkaTransport(Transport):
    """One producer, shared by everybody who publishes, and a consumer for each subscription."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.broker = broker
        self._connection = {
            "bootstrap_servers": broker.hosts,
            **sent(broker.options, CONNECTION),
            **client_options(broker.options["security"]),
        }
        self._loop = asyncio.get_running_loop()
        self._producer: AIOKafkaProducer | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._closed = False
        self._known: set[str] = set()
        self._deadlines = Deadlines(broker.options["publish_timeout"])
        self._progress: dict[Subscription, Progress] = {}
        admin = {name: value for name, value in self._connection.items() if name != "metadata_max_age_ms"}
        self.topics = Topics(admin, broker.options["allow_auto_create_topics"])
        self.reply_topics = ReplyTopics(self._is_internal)

    # Life.

    async def start(self) -> None:
        guard_log()
        timeout: float = self.broker.options["startup_timeout"]
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            try:
                await asyncio.wait_for(self._connect(), timeout)
                return
            except (KafkaError, OSError, asyncio.TimeoutError) as error:
                refusal = (
                    await connection_refusal(self._connection, timeout) if self.broker.options["security"] else None
                )
                if refusal is not None:
                    raise BrokerUnavailable(self.broker.address, "connect", 0, refusal) from clean_cause(error)
                if asyncio.get_running_loop().time() + RETRY_SECONDS >= deadline:
                    reason = SILENT if isinstance(error, asyncio.TimeoutError) else error
                    raise BrokerUnavailable(self.broker.address, "connect", timeout, reason) from clean_cause(error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _connect(self) -> None:
        if self._producer is None:
            self._producer = await self._make_producer()
        await self.topics.ensure(
            topic for one in self.broker.subscribers if one.handlers for topic in cast("KafkaSubscription", one).topics
        )

    async def _make_producer(self) -> AIOKafkaProducer:
        options = self.broker.options
        idempotent = options["enable_idempotence"]
        if idempotent is None:
            idempotent = options["acks"] in ("all", -1)
        given: dict[str, Any] = {**self._connection, **sent(options, PRODUCER), "enable_idempotence": idempotent}
        given["value_serializer"] = given_value
        # A message that publish() gave up must not wait in the client for longer than that.
        given["request_timeout_ms"] = min(given["request_timeout_ms"], max(1, int(options["publish_timeout"] * 1000)))
        if options["partitioner"] is not None:
            given["partitioner"] = options["partitioner"]
        try:
            producer = AIOKafkaProducer(**given)
        except (ValueError, RuntimeError) as error:
            raise SetupError(type(self.broker).__name__, str(error), "correct the option") from clean_cause(error)
        calm(producer.client)
        try:
            await producer.start()
        except BaseException:
            await self._close_producer(producer)
            raise
        return producer

    async def _close_producer(self, producer: AIOKafkaProducer) -> None:
        await close_producer(producer, CLOSE_SECONDS, self.report_close)

    def report_close(self, what: str, error: BaseException) -> None:
        """Log that a client did not close cleanly."""
        self.broker.report.line(logging.WARNING, "closing the %s failed: %r", what, error)

    async def close(self) -> None:
        self._closed = True
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])
        if self._retiring is not None:
            await self._retiring
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._close_producer(producer)
        self._deadlines.close()
        try:
            await asyncio.wait_for(self.topics.close(), CLOSE_SECONDS)
        except Exception as error:
            self.report_close("administration", error)

    async def ping(self, timeout: float) -> bool:
        if self._producer is None:
            return False
        try:
            return bool(await asyncio.wait_for(self._producer.client.force_metadata_update(), timeout))
        except (KafkaError, OSError, asyncio.TimeoutError):
            return False

    # Consuming.

    def source(self, subscription: Subscription) -> Source:
        one = cast("KafkaSubscription", subscription)
        progress = self._progress.setdefault(one, Progress())
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

    async def publish(self, message: Outgoing) -> RecordMetadata:
        began = self._loop.time()
        topic, options = message.address, message.options
        headers = wire_headers(message)
        again = False
        while True:
            producer = self._producer
            try:
                if topic not in self._known and (fault := topic_fault(topic)) is not None:
                    raise PublishError(topic, fault)
                if producer is None or is_dead(producer):
                    producer = await self._living_producer(began)
                value = NULL if message.is_null else message.body
                if options:
                    key = wire_key(message)
                    sending = producer.send(
                        topic, value, key, options.get("partition"), options.get("timestamp_ms"), headers
                    )
                else:
                    sending = producer.send(topic, value, None, None, None, headers)
                if topic in self._known:
                    confirmed = await sending
                else:
                    # Nothing is known of the topic yet: the client asks until the cluster answers.
                    confirmed = await asyncio.wait_for(sending, self._left(began))
                    if len(self._known) >= MOST_KNOWN:
                        self._known.clear()
                    self._known.add(topic)
                self._deadlines.add(confirmed, began)
                return cast("RecordMetadata", await confirmed)
            except (AssertionError, KafkaError, asyncio.TimeoutError, OSError) as error:
                has_ended = is_ended(producer, error)
                if has_ended and producer is self._producer:
                    self._renew()
                if again or self._closed or not (has_ended or isinstance(error, NOT_STORED)):
                    raise await self._refused(message, error, has_ended) from clean_cause(error)
                again = True

    def _left(self, began: float) -> float:
        """Return the seconds that a publication may still take."""
        return max(0.0, began + self._deadlines.seconds - self._loop.time())

    async def _refused(self, message: Outgoing, error: Exception, has_ended: bool) -> Exception:
        """Return what an error of the client means for the publisher.

        Args:
            message: what was to be published.
            error: what the client said.
            has_ended: whether that is the end of the producer.
        """
        topic, timeout = message.address, self._deadlines.seconds
        missing = PublishError(topic, "the topic does not exist, and the cluster does not make it by itself")
        if isinstance(error, AssertionError):
            return PublishError(topic, f"{error} {message.options.get('partition')!r}")
        if isinstance(error, UnknownTopicOrPartitionError):
            return missing
        if isinstance(error, (asyncio.TimeoutError, KafkaTimeoutError)) and await self._is_missing(topic):
            self._known.discard(topic)
            return missing
        if self._closed:
            return BrokerUnavailable(self.broker.address, "publish", 0, "it is being stopped")
        if isinstance(error, asyncio.TimeoutError):
            return BrokerUnavailable(self.broker.address, "publish", timeout, "no confirmation")
        if has_ended or isinstance(error, (Abandoned, *NOT_STORED)):
            # The fault is the producer's and not the message's; unless it was never sent, it may have been stored.
            return BrokerUnavailable(self.broker.address, "publish", 0, error)
        if isinstance(error, (KafkaTimeoutError, OSError)) or (isinstance(error, KafkaError) and error.retriable):
            return BrokerUnavailable(self.broker.address, "publish", timeout, error)
        return PublishError(topic, error)

    async def _is_missing(self, topic: str) -> bool:
        """Tell whether the cluster answers, and says that there is no such topic."""
        try:
            return await asyncio.wait_for(self.topics.find(topic), LOOK_UP_SECONDS) is None
        except (KafkaError, OSError, asyncio.TimeoutError):
            return False

    async def _is_internal(self, topic: str) -> bool | None:
        """Tell whether a topic is the cluster's own; None when it does not exist.

        Raises:
            BrokerUnavailable: the cluster does not answer.
        """
        timeout = self._deadlines.seconds
        try:
            found = await asyncio.wait_for(self.topics.find(topic), timeout)
        except (KafkaError, OSError, asyncio.TimeoutError) as error:
            raise BrokerUnavailable(self.broker.address, "look up a topic", timeout, error) from clean_cause(error)
        return None if found is None else found.is_internal

    async def _living_producer(self, began: float) -> AIOKafkaProducer:
        """Return the producer, when a new one is made in the place of one that sends no more.

        Raises:
            BrokerUnavailable: the broker stops.
        """
        if not self._closed:
            if self._renewal is None or self._renewal.done():
                self._renew()
            renewal = cast("asyncio.Task[None]", self._renewal)
            await asyncio.wait_for(asyncio.wait([renewal]), self._left(began))
            if not renewal.cancelled():
                renewal.result()
        if self._producer is None:
            raise BrokerUnavailable(self.broker.address, "publish", 0, "it is being stopped")
        return self._producer

    def _renew(self) -> None:
        """Begin to replace the producer, once for all who publish: what was not sent yet goes to the new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            abandon(producer)
        self._renewal = self._loop.create_task(self._replace(producer))
        self._renewal.add_done_callback(seen)

    async def _replace(self, producer: AIOKafkaProducer | None) -> None:
        if producer is not None:
            # What is under way comes first, so that the order of a partition stays.
            self._retiring = self._loop.create_task(self._close_producer(producer))
            await asyncio.shield(self._retiring)
        while True:
            try:
                self._producer = await self._make_producer()
                return
            except (KafkaError, OSError):
                await asyncio.sleep(RETRY_SECONDS)
