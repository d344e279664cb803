"""Closing and watching of aiokafka's clients: the only place that looks behind their public interface.

A stop of aiokafka waits for brokers that may be away, and a background task of it may have ended unnoticed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    BrokerResponseError,
    CommitFailedError,
    IllegalSaslStateError,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaConnectionError,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    SaslAuthenticationFailed,
    UnknownProducerId,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
    kafka_errors,
)

__all__ = (
    "NOT_STORED",
    "Abandoned",
    "NoSuchTopic",
    "abandon",
    "calm",
    "close_consumer",
    "close_producer",
    "commit_offsets",
    "committed_offsets",
    "connection_refusal",
    "consumer_failure",
    "end_waiting",
    "group_topics",
    "is_dead",
    "is_ended",
    "refresh",
    "rejoin",
    "start",
)

REFUSALS = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    ssl.SSLError,
)
"""Errors that another try does not mend."""


class NotSent(KafkaError):
    """The message still waited when its producer was given up."""


class Abandoned(KafkaError):
    """The message was sent, and its producer closed before anything was confirmed."""


class NoSuchTopic(KafkaError):
    """Of what was to be committed a topic, or a partition, does not exist; the rest is committed."""


LOST = (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)
"""The cluster takes nothing of an idempotent producer any more: its id, or its place in the sequence, is lost.

The client numbers a message that it gives up for want of a leader, and so leaves a gap that nothing closes.
"""
NOT_STORED = (NotSent, OutOfOrderSequenceNumber, ProducerClosed)
"""Errors after which a message can be sent again and is there once: a stored one is known by its number."""
FENCED = 90
"""What the cluster says to a producer whose epoch is over; aiokafka knows it by an older number alone."""
kafka_errors.setdefault(FENCED, ProducerFenced)


class FencedInstance(BrokerResponseError):
    """Another member of the group has come with the same `group_instance_id`; aiokafka has no name for that."""

    errno = 82

    def __init__(self) -> None:
        super().__init__("another process uses the same group_instance_id, and each needs its own")


kafka_errors.setdefault(FencedInstance.errno, FencedInstance)
PAUSE_SECONDS = 0.5
Report = Callable[[str, BaseException], None]


def calm(client: Any) -> None:
    """Have a client pause when nobody tells it of the cluster: its producer asks again at once, without end."""
    update = getattr(client, "_metadata_update", None)
    if update is None:
        return

    async def update_or_pause(*args: Any) -> bool:
        if await update(*args):
            return True
        await asyncio.sleep(PAUSE_SECONDS)
        return False

    client._metadata_update = update_or_pause


async def start(client: Any) -> None:
    """Start a producer, a consumer or an admin client; a start that is cancelled leaves no connection behind.

    The client forgets the connection by which it asks for the cluster when it is cancelled, and closes it for an error.
    """
    inner: Any = getattr(client, "_client", None) or getattr(client, "client", None)
    bootstrap = getattr(inner, "bootstrap", None)
    if bootstrap is not None:
        inner.bootstrap = lambda: _Bootstrap(bootstrap())
    await client.start()


class _Bootstrap:
    """The first questions to a cluster. Its cancellation is an error of the connection to who asks them."""

    def __init__(self, questions: Coroutine[Any, Any, None]) -> None:
        self._questions = questions

    def __await__(self) -> Generator[Any, None, None]:
        steps = self._questions.__await__()
        for waiter in steps:
            try:
                yield waiter
            except BaseException:
                _give_up(steps)
                raise


def _give_up(steps: Generator[Any, None, None]) -> None:
    try:
        waiter = steps.throw(KafkaConnectionError("given up"))
        if waiter is not None:  # it tries the next server
            waiter.cancel()
        steps.throw(asyncio.CancelledError())
    except (KafkaError, asyncio.CancelledError, StopIteration):
        return


async def close_consumer(consumer: AIOKafkaConsumer, seconds: float, report: Report) -> None:
    """Leave the group and close every socket; what does not end in time is cancelled. Raises nothing."""
    if await _finished(consumer.stop(), seconds, "consumer", report):
        return
    coordinator: Any = getattr(consumer, "_coordinator", None)
    fetcher: Any = getattr(consumer, "_fetcher", None)
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
    await _cancel([getattr(coordinator, name, None) for name in names])
    if fetcher is not None:
        await _finished(fetcher.close(), seconds, "fetcher", report)
    await _finished(consumer._client.close(), seconds, "connections", report)


async def close_producer(producer: AIOKafkaProducer, seconds: float, report: Report) -> None:
    """Send what is left and close every socket; what does not end in time is given up. Raises nothing."""
    if await _finished(producer.stop(), seconds, "producer", report):
        return
    sender: Any = producer._sender
    accumulator: Any = producer._message_accumulator
    # What waits for another try belongs to those that are under way, and leaves them when it ends.
    accumulator._pending_batches.update(one for queue in accumulator._batches.values() for one in queue if _sent(one))
    accumulator.fail_all(Abandoned("the producer is closed"))
    await _cancel([sender.sender_task])
    await _finished(producer.client.close(), seconds, "connections", report)


def consumer_failure(consumer: AIOKafkaConsumer) -> BaseException | None:
    """Return why the consumer can't go on: a background task of it ended, which `getmany` does not always tell."""
    tasks = (
        getattr(getattr(consumer, "_fetcher", None), "_fetch_task", None),
        getattr(getattr(consumer, "_coordinator", None), "_coordination_task", None),
    )
    for task in tasks:
        if task is not None and task.done():
            reason: BaseException | None = None if task.cancelled() else task.exception()
            return reason or KafkaError("a background task of the consumer ended")
    coordinator: Any = getattr(consumer, "_coordinator", None)
    heartbeat = getattr(coordinator, "_heartbeat_task", None)
    rejoins = getattr(coordinator, "_rejoin_needed_fut", None)
    if heartbeat is not None and heartbeat.done() and rejoins is not None and not rejoins.done():
        # The client would wait for it in a hot loop.
        ended: BaseException = KafkaError("the heartbeat of the consumer ended")
        return ended
    return None


async def commit_offsets(consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
    """Commit next offsets with their notes.

    Raises:
        NoSuchTopic: some of them are of a topic that does not exist; the client would commit the same again, for ever.
        CommitFailedError: the consumer is no member of its group any more, and not yet again.
        KafkaError: they could not be committed.
    """
    coordinator: Any = getattr(consumer, "_coordinator", None)
    try_once = getattr(coordinator, "_do_commit_offsets", None)
    if try_once is not None and not isinstance(try_once, _Tried):
        coordinator._do_commit_offsets = _Tried(coordinator, try_once)
    await consumer.commit(offsets)


class _Tried:
    """One try of a commit, whose client tries again what is not there, and commits in nobody's name between two joins.

    A group that has no members takes that, and loses what an operator has set, or another member committed last.
    """

    def __init__(self, coordinator: Any, try_once: Callable[..., Awaitable[None]]) -> None:
        self._coordinator = coordinator
        self._try_once = try_once

    async def __call__(self, assignment: Any, offsets: Any) -> None:
        shared = self._coordinator._subscription.partitions_auto_assigned()
        if shared and self._coordinator.generation < 0:
            raise CommitFailedError("the consumer is no member of the group any more")
        try:
            await self._try_once(assignment, offsets)
        except UnknownTopicOrPartitionError as error:
            topics = ", ".join(sorted({one.topic for one in offsets}))
            raise NoSuchTopic(f"one of {topics} does not exist") from error


async def committed_offsets(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, tuple[int, str]]:
    """Return what the group committed of partitions, with the note that came with it; none for those without."""
    wanted = list(partitions)
    fetch = getattr(getattr(consumer, "_coordinator", None), "fetch_committed_offsets", None)
    if fetch is not None:
        found = await fetch(wanted)
        # confluent-kafka commits the NUL at the end of the note too, and has no way to leave it out.
        return {
            one: (said.offset, (said.metadata or "").rstrip("\0")) for one, said in found.items() if said.offset >= 0
        }
    offsets = {one: await consumer.committed(one) for one in wanted}
    return {one: (offset, "") for one, offset in offsets.items() if offset is not None}


async def connection_refusal(options: dict[str, Any], timeout: float) -> Exception | None:
    """Return why the servers let nobody in with these options; None when that is not what is wrong.

    A client that can't connect says nothing but that, and goes on trying with a wrong password.
    """
    taken = ("client_id", "request_timeout_ms", "security_protocol", "ssl_context")
    given = {name: value for name, value in options.items() if name in taken or name.startswith("sasl_")}
    for server in options["bootstrap_servers"]:
        host, _, port = server.rpartition(":")
        try:
            connection = await asyncio.wait_for(create_conn(host.strip("[]"), int(port), **given), timeout)
        except UnsupportedSaslMechanismError:
            unknown: Exception = KafkaError(f"the server does not know the SASL mechanism {options['sasl_mechanism']}")
            return unknown
        except REFUSALS as error:
            return error
        except (KafkaError, OSError, asyncio.TimeoutError):
            continue
        connection.close()
    return None


def limit_fetch(consumer: AIOKafkaConsumer, size: int) -> None:
    """Ask for at most `size` bytes of each partition from now on."""
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if hasattr(fetcher, "_max_partition_fetch_bytes"):
        fetcher._max_partition_fetch_bytes = size


def end_waiting(consumer: AIOKafkaConsumer, error: KafkaError) -> None:
    """Have whoever waits for an assignment get an error: the client would wait without end."""
    state: Any = getattr(consumer, "_subscription", None)
    if state is not None:
        state.abort_waiters(error)


def refresh(consumer: AIOKafkaConsumer) -> None:
    """Have the client look at the topics now, and not when its knowledge is too old by itself."""
    client: Any = getattr(consumer, "_client", None)
    if client is not None:
        client.force_metadata_update()


def group_topics(consumer: AIOKafkaConsumer) -> set[str]:
    """Return the topics that the consumer shares out as the leader of its group, also those that only others read."""
    return set(getattr(getattr(consumer, "_coordinator", None), "_group_subscription", None) or ())


def rejoin(consumer: AIOKafkaConsumer) -> None:
    """Have the consumer join its group again under the name that it has there."""
    coordinator: Any = getattr(consumer, "_coordinator", None)
    if coordinator is not None:
        coordinator.request_rejoin()


def abandon(producer: AIOKafkaProducer) -> None:
    """Take back what was not sent yet: whoever waits for it gets a `NotSent`, in the order of publishing."""
    batches: Any = producer._message_accumulator._batches
    for partition, queue in list(batches.items()):
        sent, waiting = deque(filter(_sent, queue)), [one for one in queue if not _sent(one)]
        if sent:
            batches[partition] = sent
        else:
            del batches[partition]
        for one in waiting:
            one.failure(NotSent("the producer is given up"))
            one._drain_waiter.exception()  # nobody may wait for it, and that is no fault


def _sent(batch: Any) -> bool:
    return bool(batch.retry_count)


def is_dead(producer: AIOKafkaProducer) -> bool:
    """Tell whether the producer sends no more: its background task ended."""
    task = producer._sender.sender_task
    return task is not None and task.done()


def is_ended(producer: AIOKafkaProducer | None, error: BaseException) -> bool:
    """Tell whether an error is the end of its producer, and not about the message."""
    if isinstance(error, LOST):
        return True
    return type(error) is KafkaError and producer is not None and is_dead(producer)


async def _finished(work: Awaitable[Any], seconds: float, what: str, report: Report) -> bool:
    try:
        await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        return False
    except Exception as error:
        report(what, error)
        return False
    return True


async def _cancel(tasks: list[asyncio.Task[Any] | None]) -> None:
    running = [task for task in tasks if task is not None and not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running, timeout=1.0)
