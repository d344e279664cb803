"""Confirmed publishing: a producer, and others in its place when it sends no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError
from fastapi_stream_core.errors import BrokerUnavailable, PublishError, SetupError
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.topic_reply import topic_fault

from .batches import RefusedTogether, watch_batches
from .client import NOT_STORED, Abandoned, abandon, calm, close_producer, is_dead, is_ended, start
from .deadline import Deadlines
from .options import sent
from .source import seen
from .wire import NULL, given_value, wire_headers, wire_key

if TYPE_CHECKING:
    from aiokafka.structs import RecordMetadata

    from .broker import KafkaBroker
    from .topics import Topics

__all__ = ("Publishing",)

PRODUCER = ("acks", "compression_type", "max_batch_size", "max_request_size", "linger_ms")
CLOSE_SECONDS = 4.0
RETRY_SECONDS = 0.3
LOOK_UP_SECONDS = 2.0
MOST_KNOWN = 1000
"""Most topics whose metadata the producer is known to have."""


class Publishing:
    """One producer at a time, shared by everybody who publishes here. Without `start` the first message makes it.

    Args:
        broker: whose options the producer has.
        connection: those that every client of it has.
        topics: knows which topics exist.
        lingers: whether a batch waits for more messages, as the broker's option says.
    """

    def __init__(
        self, broker: KafkaBroker, connection: Mapping[str, Any], topics: Topics, lingers: bool = True
    ) -> None:
        self.broker = broker
        self._connection = connection
        self._topics = topics
        self._lingers = lingers
        self._loop = asyncio.get_running_loop()
        self._producer: AIOKafkaProducer | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._alone: Publishing | None = None
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._closed = False
        self._known: set[str] = set()
        self._deadlines = Deadlines(broker.options["publish_timeout"])

    # Life.

    async def start(self) -> None:
        """Make the producer, if there is none."""
        if self._producer is None:
            self._producer = await self._make_producer()

    async def _make_producer(self) -> AIOKafkaProducer:
        options = self.broker.options
        idempotent = options["enable_idempotence"]
        if idempotent is None:
            idempotent = options["acks"] in ("all", -1)
        given: dict[str, Any] = {**self._connection, **sent(options, PRODUCER), "enable_idempotence": idempotent}
        given["value_serializer"] = given_value
        # A message that publish() gave up must not wait in the client for longer than that.
        given["request_timeout_ms"] = min(given["request_timeout_ms"], max(1, int(options["publish_timeout"] * 1000)))
        if not self._lingers:
            given["linger_ms"] = 0
        if options["partitioner"] is not None:
            given["partitioner"] = options["partitioner"]
        try:
            producer = AIOKafkaProducer(**given)
        except (ValueError, RuntimeError) as error:
            raise SetupError(type(self.broker).__name__, str(error), "correct the option") from clean_cause(error)
        calm(producer.client)
        watch_batches(producer)
        try:
            await start(producer)
        except BaseException:
            await self._close_producer(producer)
            raise
        return producer

    async def _close_producer(self, producer: AIOKafkaProducer) -> None:
        await close_producer(producer, CLOSE_SECONDS, self._report_close)

    def _report_close(self, what: str, error: BaseException) -> None:
        self.broker.report.line(logging.WARNING, "closing the %s failed: %r", what, error)

    async def close(self) -> None:
        """Send what is left, and close every socket."""
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
        if self._alone is not None:
            await self._alone.close()

    async def ping(self, timeout: float) -> bool:
        """Tell whether the cluster answers within `timeout` seconds."""
        if self._producer is None:
            return False
        try:
            return bool(await asyncio.wait_for(self._producer.client.force_metadata_update(), timeout))
        except (KafkaError, OSError, asyncio.TimeoutError):
            return False

    # Publishing.

    def publish(self, message: Outgoing) -> Coroutine[Any, Any, RecordMetadata]:
        """Publish one message and wait for the broker's confirmation.

        Raises:
            BrokerUnavailable: no confirmation within `publish_timeout`.
            PublishError: the broker or the client refused it.
        """
        return self._publish(message, self._loop.time())

    async def _publish(self, message: Outgoing, began: float) -> RecordMetadata:
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
                if isinstance(error, RefusedTogether) and not self._closed:
                    return await self._publish_alone(message, began)
                has_ended = is_ended(producer, error)
                if has_ended and producer is self._producer:
                    self._renew()
                if again or self._closed or not (has_ended or isinstance(error, NOT_STORED)):
                    raise await self._refused(message, error, has_ended) from clean_cause(error)
                again = True

    async def _publish_alone(self, message: Outgoing, began: float) -> RecordMetadata:
        """Publish a message that was refused with others, by a producer that has one of a topic at a time.

        Raises:
            BrokerUnavailable: its turn did not come in time.
            PublishError: it is refused alone too.
        """
        if self._alone is None:
            self._alone = Publishing(self.broker, self._connection, self._topics, lingers=False)
        topic = message.address
        turn = self._turns.get(topic)
        if turn is None:
            turn = self._turns[topic] = asyncio.Lock()
        try:
            await asyncio.wait_for(turn.acquire(), self._left(began))
        except asyncio.TimeoutError:
            timeout = self._deadlines.seconds
            raise BrokerUnavailable(
                self.broker.address, "publish", timeout, "others are to be sent before it"
            ) from None
        try:
            return await self._alone._publish(message, began)
        finally:
            turn.release()

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
            return await asyncio.wait_for(self._topics.find(topic), LOOK_UP_SECONDS) is None
        except (KafkaError, OSError, asyncio.TimeoutError):
            return False

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
