"""The messages of one subscription: fetching, acknowledging, and what a rebalance does to both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Hashable, Sequence
from functools import partial
from itertools import repeat
from operator import lt
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from fastapi_stream_core.errors import BrokerUnavailable
from fastapi_stream_core.partition import Commits, Offsets, Partition
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.topic_source import TopicSource

from .assignment import ASK_SECONDS, Assignment, Findings, see_topics
from .commit import Committing
from .config import consumer_config, wrong_option
from .consumer import ConsumerThread
from .failures import BROKEN, LATE, UNREADABLE
from .log import ClientLog
from .message import KafkaMessage
from .numbering import Numbering
from .record import read_headers, runs_of
from .stranded import Lookout
from .truncation import Truncation
from .unreadable import Unreadable
from .watch import LOOK_SECONDS, TopicWatch

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from fastapi_stream_core.message import StreamMessage
    from fastapi_stream_core.topic_progress import TopicProgress

    from .subscription import KafkaSubscription
    from .transport import KafkaTransport

__all__ = ("KafkaSource",)

DRAIN_SECONDS = 10.0
"""How long a rebalance waits for running handlers, at most; the group waits meanwhile."""
AHEAD = 500
"""Most messages that are taken from the client before the core asks for them; the client itself holds many more."""
AHEAD_SHARE = 16
"""Part of `prefetch_bytes` that one delivery of them may hold: as much as the client holds of one partition."""


class KafkaSource(TopicSource):
    """One consumer of the client library, on a thread of its own.

    Messages come as many as there is room for. Failed messages are kept by the core, their partition is paused
    meanwhile.
    """

    subscription: KafkaSubscription

    def __init__(self, subscription: KafkaSubscription, transport: KafkaTransport, progress: TopicProgress) -> None:
        super().__init__(subscription, progress.offsets)
        broker = transport.broker
        self._transport = transport
        self._report = broker.report
        self._progress = progress
        self._drain_seconds = min(DRAIN_SECONDS, subscription.options["max_poll_interval_ms"] / 2000)
        self._resets = subscription.options["auto_offset_reset"] != "none"
        self.in_group = subscription.group_id is not None and not subscription.partitions
        group = subscription.group_id or f"{broker.options['client_id']}-{uuid4()}"
        config = consumer_config(broker, subscription, group)
        self._log = ClientLog(broker.report)
        interval = subscription.options["polling_interval"]
        self._committing = Committing(progress, lambda: self._thread)
        self._thread = ConsumerThread(
            {"on_commit": self._committing.confirmed, **config},
            interval,
            subscription.options["prefetch_bytes"] // AHEAD_SHARE,
            self._deliver,
            self._thread_ended,
            self._log,
        )
        self._assignment = Assignment(
            subscription,
            progress,
            Findings(
                asked=lambda lanes: self._thread.ask(partial(self._positions, lanes), ASK_SECONDS) if lanes else {},
                assigned=lambda positions: self._thread.tell(self._assigned, positions),
                returned=lambda lane, offset, begin: self._thread.tell(self._watch.say_left, lane, offset, begin),
                renewed=lambda topic: self._thread.tell(self._watch.found_renewed, topic),
                lost=lambda went_on, begun: self._thread.tell(self.say_lost, went_on, begun),
                looked=lambda topics: self._watch.have_seen(self._thread, topics),
            ),
            "cooperative" in config.get("partition.assignment.strategy", "")
            or config.get("group.protocol") == "consumer",
        )
        if subscription.group_id is not None:
            self.commits = Commits(self._committing.commit, self.offsets, self._commit_failed)
        self._raw: list[Message] = []
        self._wanted = False
        self._arrived: asyncio.Future[None] | None = None
        self._positioned = asyncio.Event()
        self._failure: Exception | None = None
        self._stopped = False
        self._losing: set[asyncio.Task[None]] = set()
        self._held: set[Partition] = set()
        self._going_back: dict[Partition, int] = {}
        self._numbering = Numbering(self._thread, broker.report)
        self._truncation = Truncation(self, self._thread_ended)
        self._watch = TopicWatch(self, transport.topics, progress)
        self._unreadable = Unreadable(self, self._thread, self._numbering, config)

    # Start.

    @property
    def awaits(self) -> bool:  # type: ignore[override]
        return self._watch.awaits

    async def start(self) -> None:
        self._thread.start()
        subscription = self.subscription
        await self._transport.ensure(subscription.topics, again=self._progress.positioned)
        if self._progress.positioned or subscription.group_id is not None:
            await self._watch.notice(0.0 if self._progress.positioned else LOOK_SECONDS)
        try:
            if self.in_group:
                await self._thread.call(self._join)
                self._want(1)
            else:
                await self._thread.call(self._assignment.assign)
                self._positioned.set()
        except KafkaException as error:
            raise self._not_started(error) from clean_cause(error)
        if not subscription.partitions:
            age = subscription.broker.options["metadata_max_age_ms"] / 1000
            everything = subscription.pattern is None and self._assignment.complete
            self._thread.every(age if everything else min(age, LOOK_SECONDS), self._look)
        self._thread.every(LOOK_SECONDS, Lookout(self._log, self._transport.topics).check)
        await self._positioned.wait()
        if self._failure is not None:
            raise self._failure
        self._progress.positioned = True
        self._watch.start(self._made_again, partial(self._thread.post, see_topics), self._thread_ended)
        self._unreadable.start(self._thread_ended)

    def _made_again(self) -> None:
        # A consumer that is made anew asks the cluster for everything again: positions, leaders, epochs.
        if not self._stopped:
            self._thread_ended(ConnectionAbortedError("a topic was made again"))

    def _join(self, client: Consumer) -> None:
        if not self._assignment.join(client, self._on_assign, self._on_revoke, self._on_lost):
            self._thread.tell(self._positioned.set)

    def _look(self, client: Consumer) -> None:
        try:
            if self.in_group:
                self._assignment.rejoin(client)
            else:
                self._assignment.extend(client)
        except KafkaException as error:  # the broker is away; there will be another look
            self._log.error(error.args[0])

    def _not_started(self, error: KafkaException) -> Exception:
        said = error.args[0]
        if said.code() in BROKEN:
            return error
        if said.code() == KafkaError._INVALID_ARG:
            return wrong_option(self.subscription.label, error)
        timeout = self.subscription.broker.options["startup_timeout"]
        return BrokerUnavailable(self._transport.broker.address, "subscribe", timeout, self._log.reason() or said.str())

    # Fetching.

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if not self._raw:
            await self._arrive(limit)
        taken, self._raw = self._raw[:limit], self._raw[limit:]
        if not self._wanted and len(self._raw) < self._thread.at_once(AHEAD) // 2:
            # While these are handled the thread takes the next ones: the loop need not wait for it then.
            self._want(AHEAD)
        if any(map(Message.error, taken)):
            taken = self._without_errors(taken)
        # Not on the thread: while that makes objects, the event loop stands still and comes back late.
        read_headers(taken)
        messages: list[StreamMessage] = []
        for lane, run in runs_of(taken):
            known = self.offsets.get(lane)
            if known is None or not known.active or lane in self._going_back:
                continue  # taken away while it was on its way, or given back
            numbers: Any = list(map(Message.offset, run))
            if numbers[-1] - known.next >= len(run):
                self._numbering.check_end(lane, known, run, numbers)
            if numbers and all(map(lt, numbers, numbers[1:])):
                expected = known.next
                if known.fetched_all(numbers):
                    if numbers[-1] - expected >= len(run):
                        self._numbering.note(lane, expected, numbers)
                    messages += map(KafkaMessage, run, map(Message.value, run), numbers, repeat(lane), repeat(known))
                    continue
            messages += self._fetched_again(lane, run, numbers)
        if self._numbering.passed:
            self._numbering.pass_over(self)
        if self.commits is not None and not messages:
            self.commits.note()
        return messages

    def _fetched_again(self, lane: Partition, run: list[Message], numbers: list[int]) -> list[StreamMessage]:
        """Take records one by one: some may have been seen before, or come out of their order."""
        messages: list[StreamMessage] = []
        for one, offset in zip(run, numbers, strict=True):
            known = self.offsets[lane]
            if known.next > offset and self._numbering.goes_back(lane, offset):
                # What was said to lie behind it is none of its offsets; what was finished before it is committed anew.
                self.renew(lane, offset)
                known = self.offsets[lane]
            self._numbering.note(lane, known.next, [offset])
            seen = offset < known.top and known.seen(offset)
            if known.fetched(offset):
                messages.append(KafkaMessage(one, one.value(), offset, lane, known, seen))
        return messages

    def _without_errors(self, taken: list[Message]) -> list[Message]:
        for one in taken:
            if (error := one.error()) is not None:
                lane = cast("Partition", (one.topic(), one.partition()))
                if self._truncation.notice(lane, error):
                    self._going_back[lane] = self._going_back.get(lane, 0) + 1  # nothing of it is taken any more
                    continue
                if error.code() in UNREADABLE:
                    self._unreadable.suspect(lane, error.str())
                    continue
                if error.code() == KafkaError._AUTO_OFFSET_RESET and (
                    lane in self._going_back or self._numbering.is_said_behind(lane, taken)
                ):
                    continue
                if error.code() == KafkaError._AUTO_OFFSET_RESET and self._resets:
                    self._progress.left |= {lane}
                self._received_error(error)
        return [one for one in taken if one.error() is None]

    async def _arrive(self, limit: int) -> None:
        """Wait for messages, for an error or for the end."""
        if self._failure is not None:
            raise self._failure
        if self._stopped:
            await asyncio.sleep(0)
            return
        self._arrived = asyncio.get_running_loop().create_future()
        self._want(limit)
        try:
            await self._arrived
        finally:
            self._arrived = None
        if self._failure is not None:
            raise self._failure

    def _want(self, count: int) -> None:
        self._wanted = True
        self._thread.want(count)

    def _deliver(self, messages: list[Message]) -> None:
        self._wanted = False
        if not self._stopped:
            self._raw += messages
        self.wake()

    def wake(self) -> None:
        """Let a running `fetch` return."""
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _received_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        if error.fatal() or error.code() in BROKEN:
            raise KafkaException(error)
        self._report.line(logging.WARNING, "%s: the client says: %s", self.subscription.label, error.str())

    def _thread_ended(self, error: Exception | None) -> None:
        self._failure = error or ConnectionAbortedError("the consumer is closed")
        self._positioned.set()
        self.wake()

    def hold(self, lane: Hashable) -> None:
        partition = cast("Partition", lane)
        self._held.add(partition)
        self._thread.hold(partition)

    def resume(self, lane: Hashable) -> None:
        partition = cast("Partition", lane)
        self._held.discard(partition)
        self._thread.resume(partition)

    def may_go_back(self, partition: Partition) -> bool:
        return partition in self._held

    def go_back(self, partition: Partition, offset: int) -> None:
        # What the thread received before it went back is not taken: fetching would seem to have gone past it.
        self._numbering.forget(partition)
        self._going_back[partition] = self._going_back.get(partition, 0) + 1
        self._thread.go_back(partition, offset, partial(self._went_back, partition))

    def _went_back(self, partition: Partition) -> None:
        self._raw = [one for one in self._raw if (one.topic(), one.partition()) != partition]
        self._going_back[partition] -= 1
        if not self._going_back[partition]:
            del self._going_back[partition]

    # Settling.

    def _commit_failed(self, error: Exception) -> None:
        said = error.args[0] if isinstance(error, KafkaException) else None
        self.commit_failed(error, said.str() if said else repr(error), said is not None and said.code() in LATE)

    # Rebalances: the client calls these inside of a poll, on the thread.

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        lanes = [(one.topic, one.partition) for one in partitions]
        self._thread.come(client, set(lanes))
        self._assignment.take(client, lanes)
        self._thread.tell(self._positioned.set)

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        lanes = {(one.topic, one.partition) for one in partitions}
        self._thread.gone(lanes)
        if self._thread.closing or not lanes:
            return
        losses = self._committing.lose()
        due: list[TopicPartition] = self._thread.ask(lambda: self._drain(lanes, losses), self._drain_seconds + 5.0)
        if due and self.commits is not None:
            try:
                client.commit(offsets=due, asynchronous=False)
            except KafkaException as error:
                self._thread.tell(self._commit_failed, error)

    def _on_lost(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        lanes = {(one.topic, one.partition) for one in partitions}
        self._thread.gone(lanes)
        self._thread.tell(self._lost, lanes, self._committing.lose())

    # Rebalances, on the event loop.

    async def _positions(self, lanes: Collection[Partition]) -> dict[Partition, int]:
        return {lane: self.offsets[lane].position for lane in lanes if lane in self.offsets}

    def _assigned(self, positions: dict[Partition, int]) -> None:
        self._held -= positions.keys()
        self._progress.left = self._progress.left.difference(positions)
        for lane, position in positions.items():
            self._numbering.forget(lane)
            known = self.offsets.get(lane)
            if known is None:
                self.offsets[lane] = Offsets(position)
            else:
                known.assigned(position)

    async def _drain(self, lanes: set[Partition], losses: int) -> list[TopicPartition]:
        """Finish what runs of these partitions and give them up; return what is to be committed, for the last time."""
        self._raw = [one for one in self._raw if (one.topic(), one.partition()) not in lanes]
        await self.dispatcher.revoke(lanes, self._drain_seconds)
        found = {lane: self.offsets[lane].committable() for lane in lanes if lane in self.offsets}
        self._give_up_lost(lanes, losses)
        return self._committing.noted({lane: position for lane, position in found.items() if position is not None})

    def _give_up_lost(self, lanes: set[Partition], losses: int) -> None:
        self.give_up(lanes)
        self._committing.know(losses)

    def _lost(self, lanes: set[Partition], losses: int) -> None:
        self._give_up_lost(lanes, losses)
        self._raw = [one for one in self._raw if (one.topic(), one.partition()) not in lanes]
        dropping = asyncio.get_running_loop().create_task(self.dispatcher.revoke(lanes, 0.0))
        self._losing.add(dropping)
        dropping.add_done_callback(self._losing.discard)

    # Stop.

    def stop(self) -> None:
        self._stopped = True
        self._raw.clear()
        self._thread.want(0)
        self.wake()

    async def close(self) -> None:
        await self._watch.close()
        await self._unreadable.close()
        if self.commits is not None:
            await self.commits.close()
        self.give_up(self.offsets)
        try:
            await self._thread.close()
        except asyncio.TimeoutError as error:
            self.dispatcher.report_close(error)
        if self._losing:
            await asyncio.wait(self._losing)
