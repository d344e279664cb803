"""Confirmed publishing: the client's producer, and the thread that takes its confirmations to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from fastapi_stream_core.errors import BrokerUnavailable, PublishError
from fastapi_stream_core.topic_reply import topic_fault

from .wire import wire_headers, wire_key, wire_value

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing

    from .log import ClientLog

__all__ = ("Publishing", "RefusedTogether", "is_away")

T = TypeVar("T")

MOST_KNOWN = 1000
_known: set[str] = set()
"""Names that topics can have, so that they are not looked at again."""
PLACE = {"partition": "partition", "timestamp": "timestamp_ms"}
POLL_SECONDS = 0.1
"""Longest wait of the thread, and so the longest it takes to notice the end."""
AGAIN_SECONDS = 0.1
"""Pause before a message is given to the client again, which meanwhile learns what topics and partitions there are."""
AWAY = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError._QUEUE_FULL,
        KafkaError._RETRY,
        KafkaError._WAIT_COORD,
        KafkaError._DESTROY,
        KafkaError._FATAL,
        KafkaError._FENCED,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.PRODUCER_FENCED,
    }
)
"""Errors that any message would have met: the cluster is away, the part of it that has the partition, or the place of
this producer in its sequence is lost."""
GONE = frozenset({KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART})
"""Errors of a topic that does not exist, or not at this moment."""
FORBIDDEN = frozenset({KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED})
"""Fatal errors that a new producer meets too."""


TIMED_OUT = frozenset({KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE})


OF_ONE_RECORD = frozenset(
    {
        KafkaError._INVALID_DIFFERENT_RECORD,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
    }
)
"""Refusals of a batch that each message of it may be innocent of."""


class RefusedTogether(Exception):
    """The cluster refused a message, maybe for others in its batch; alone it may be taken."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_away(error: KafkaError) -> bool:
    """Tell whether an error is about the cluster, or about the state of this producer, and not about the message."""
    return error.code() in AWAY or (error.fatal() and error.code() not in FORBIDDEN)


class Publishing:
    """One producer on one event loop.

    Args:
        client: the client's producer.
        address: the broker's, for errors.
        timeout: seconds that a message may wait for its confirmation.
        log: takes what the client says.
    """

    def __init__(self, client: Producer, address: str, timeout: float, log: ClientLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._timeout = timeout
        self._log = log
        self._client = client
        self._confirmed: deque[tuple[asyncio.Future[Message], KafkaError | None, Message]] = deque()
        self._open: deque[tuple[float, asyncio.Future[Message]]] = deque()
        self._stored: set[str] = set()
        self._outbox: deque[tuple[str, dict[str, Any], asyncio.Future[Message]]] = deque()
        self._asking: set[asyncio.Future[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._flush_seconds = 0.0
        self._ended = self._loop.create_future()
        self._broken: KafkaError | None = None
        self._thread = threading.Thread(target=self._run, name="kafka-producer", daemon=True)
        self._thread.start()

    @property
    def log(self) -> ClientLog:
        """What the client says."""
        return self._log

    @property
    def broken(self) -> KafkaError | None:
        """The error after which the client sends nothing any more; a new producer has to be made."""
        return self._broken or self._log.fatal

    @broken.setter
    def broken(self, error: KafkaError) -> None:
        self._broken = error

    # The event loop.

    async def publish(self, outgoing: Outgoing) -> Message:
        """Hand a message to the client and wait for the broker's confirmation.

        Raises:
            BrokerUnavailable: no confirmation in time.
            PublishError: the broker, or the client, refused the message.
            RefusedTogether: the broker refused the batch.
        """
        began, topic = self._loop.time(), outgoing.address
        while True:
            try:
                stored = await self._produced(outgoing, began + self._timeout)
            except KafkaException as error:
                reason: KafkaError = error.args[0]
                seconds = self._loop.time() - began
            else:
                if topic not in self._stored and len(self._stored) < MOST_KNOWN:
                    self._stored.add(topic)
                return stored
            # A topic that took messages before may be away for a moment only, while somebody makes it again.
            is_old = _is_of_old_partitions(outgoing, reason) or (reason.code() in GONE and topic in self._stored)
            if not is_old or seconds + AGAIN_SECONDS > self._timeout:
                raise self._refused(topic, reason, seconds)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _produced(self, outgoing: Outgoing, deadline: float) -> Message:
        loop = self._loop
        confirmation: asyncio.Future[Message] = loop.create_future()
        record = record_of(outgoing, partial(self._note, confirmation))
        if not self._outbox:
            loop.call_soon(self._send)
        self._outbox.append((outgoing.address, record, confirmation))
        self._open.append((deadline, confirmation))
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._expire)
        return await confirmation

    def _send(self) -> None:
        """Hand over what was published in this turn of the loop, at one go: the client makes few requests of it.

        What does not fit into its queue waits until something of that is confirmed.
        """
        outbox, produce = self._outbox, self._client.produce
        while outbox:
            topic, record, confirmation = outbox[0]
            if not confirmation.done():
                try:
                    produce(topic, **record)
                except BufferError:
                    return
                except KafkaException as error:
                    confirmation.set_exception(error)
                except (TypeError, ValueError, OverflowError) as error:
                    confirmation.set_exception(PublishError(topic, error))
            outbox.popleft()

    def _refused(self, topic: str, error: KafkaError, seconds: float) -> Exception:
        if error.fatal() or error.code() == KafkaError._FATAL:  # the second is what a broken client says of the next
            self._broken = error
        if is_away(error):
            waited = seconds if error.code() in TIMED_OUT else 0.0
            return BrokerUnavailable(self._address, "publish", waited, self._log.reason() or error.str())
        return PublishError(topic, error.str())

    def _settle(self) -> None:
        """Take the confirmations that the thread noted."""
        confirmed = self._confirmed
        while confirmed:
            confirmation, error, message = confirmed.popleft()
            if confirmation.done():
                continue
            if error is None:
                confirmation.set_result(message)
            elif error.code() in OF_ONE_RECORD:
                confirmation.set_exception(RefusedTogether(error.str()))
            else:
                confirmation.set_exception(KafkaException(error))
        waiting = self._open
        while waiting and waiting[0][1].done():
            waiting.popleft()
        if self._outbox:
            self._send()

    def _expire(self) -> None:
        """Give up what waited too long; the client itself does so before, unless a sent message is unanswered."""
        self._timer = None
        waiting, now = self._open, self._loop.time()
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
            _, confirmation = waiting.popleft()
            if not confirmation.done():
                reason = self._log.reason() or "no confirmation"
                confirmation.set_exception(BrokerUnavailable(self._address, "publish", self._timeout, reason))
        if waiting:
            self._timer = self._loop.call_at(waiting[0][0], self._expire)

    async def ask(self, work: Callable[[Producer], T]) -> T:
        """Do `work` with the client in a thread, and return its result; the client is not closed meanwhile."""
        asking = self._loop.run_in_executor(None, work, self._client)
        self._asking.add(asking)
        asking.add_done_callback(self._asked)
        return await asyncio.shield(asking)

    def _asked(self, asking: asyncio.Future[Any]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # nobody may wait for it any more

    async def drain(self) -> None:
        """Wait until everything that was published is confirmed, or has failed."""
        while waiting := [one for _, one in self._open if not one.done()]:
            await asyncio.wait(waiting)

    async def close(self, timeout: float) -> None:
        """Wait until everything that was published is confirmed, `timeout` seconds at most, then close."""
        if self._asking:
            await asyncio.wait(self._asking, timeout=timeout)
        self._closing = True
        self._flush_seconds = timeout
        await asyncio.wait([self._ended], timeout=timeout + 1.0)
        if self._timer is not None:
            self._timer.cancel()
        while self._open:
            _, confirmation = self._open.popleft()
            if not confirmation.done():
                confirmation.set_exception(BrokerUnavailable(self._address, "publish", 0.0, "the connection is closed"))

    # The thread.

    def _run(self) -> None:
        client = self._client
        try:
            while not self._closing and not self._loop.is_closed():
                client.poll(POLL_SECONDS)
                self._tell()
            client.flush(self._flush_seconds)
            client.purge()
            client.poll(0)
            self._tell()
            client.close()
        except Exception as error:
            self._broken = KafkaError(KafkaError._FAIL, repr(error))
        self._call(self._end)

    def _note(self, confirmation: asyncio.Future[Message], error: KafkaError | None, message: Message) -> None:
        """Note a confirmation; the client calls this inside `poll`."""
        self._confirmed.append((confirmation, error, message))

    def _tell(self) -> None:
        if self._confirmed:
            self._call(self._settle)

    def _call(self, work: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._closing = True

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


def _is_of_old_partitions(outgoing: Outgoing, error: KafkaError) -> bool:
    """Tell whether the client chose a partition that its topic, made again with fewer, has no more."""
    return error.code() == KafkaError._UNKNOWN_PARTITION and outgoing.options.get("partition") is None


def record_of(outgoing: Outgoing, noted: Callable[..., None]) -> dict[str, Any]:
    """Return what the client is given of a message.

    Raises:
        PublishError: something of it can't be put on the wire. The client would end the process at such a header.
    """
    topic = outgoing.address
    if topic not in _known:
        if (fault := topic_fault(topic)) is not None:
            raise PublishError(topic, fault)
        if len(_known) < MOST_KNOWN:
            _known.add(topic)
    try:
        record: dict[str, Any] = {
            "value": wire_value(outgoing),
            "headers": wire_headers(outgoing),
            "on_delivery": noted,
        }
        options = outgoing.options
        if options:
            record["key"] = wire_key(outgoing)
            for name, option in PLACE.items():
                if options.get(option) is not None:
                    record[name] = options[option]
    except (TypeError, ValueError) as error:
        raise PublishError(outgoing.address, error) from None
    return record
