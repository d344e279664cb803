"""What the two kinds of consumers have in common: fetching, acknowledging, holding a partition."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Collection, Hashable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    UnknownMemberIdError,
)
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.partition import Commits, Offsets, Partition
from fastapi_stream_core.recurrence import Recurrence
from fastapi_stream_core.topic_progress import Missing
from fastapi_stream_core.topic_source import TopicSource

from .client import close_consumer, consumer_failure, limit_fetch
from .group_offsets import GroupOffsets
from .message import KafkaMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiokafka import AIOKafkaConsumer, ConsumerRecord
    from fastapi_stream_core.topic_progress import TopicProgress

    from .metadata import TopicState
    from .subscription import KafkaSubscription
    from .transport import KafkaTransport

__all__ = ("KafkaSource", "seen")

_VALUE = attrgetter("value")
POLL_MS = 1000
CLOSE_SECONDS = 4.0
LOOK_SECONDS = 3.0
"""Seconds between two looks at the topics: for new ones, for more partitions, for those that were made again."""
LOOK_AGE = 1.0
LOOK_TIMEOUT_SECONDS = 15.0
POSITION_SECONDS = 10.0
LEAST_SHARE = 16384
"""Fewest bytes that are asked for of one partition; the cluster sends one whole batch all the same."""
NOWHERE = TopicPartition("", -1)
"""Polling this partition returns at once, takes no message, and tells the group that the consumer lives."""


class _Passed(NamedTuple):
    """What the client can't read: where it goes on, and where reading was when it was met."""

    goes_on: int
    offsets: Offsets
    term: int
    next: int

    def is_due(self) -> bool:
        return self.offsets.term == self.term and self.offsets.next >= self.next


class KafkaSource(TopicSource):
    """One consumer of aiokafka.

    The background of the client keeps the membership alive; the source takes what it has fetched, many
    messages at a time. Failed messages are kept by the core, their partition is paused meanwhile.
    """

    subscription: KafkaSubscription
    progress: TopicProgress

    cancellable = True

    def __init__(self, subscription: KafkaSubscription, transport: KafkaTransport, progress: TopicProgress) -> None:
        super().__init__(subscription, progress.offsets)
        self.options = subscription.options
        self.topics = transport.topics
        self.report_close = transport.report_close
        self.consumer: AIOKafkaConsumer = transport.consumer(subscription, self._unreadable)
        self.progress = progress
        self.group_offsets = GroupOffsets(self)
        if subscription.group_id is not None:
            self.commits = Commits(self._commit, self.offsets, self._commit_failed)
        self._most: int = self.options["max_poll_records"] or self.window
        self._held: set[TopicPartition] = set()
        self._passed: dict[TopicPartition, _Passed] = {}
        self._polling: asyncio.Task[object] | None = None
        self._alive: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self._left: dict[TopicPartition, int | None] = {}
        self._missing = Missing(subscription)
        self._replaced = Recurrence()
        self.positioning = asyncio.Lock()
        self.closed = False

    # Fetching.

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if (failure := consumer_failure(self.consumer)) is not None:
            raise failure
        if self._error is not None:
            raise self._error
        try:
            batches = await self.consumer.getmany(timeout_ms=POLL_MS, max_records=min(limit, self._most))
        except NoOffsetForPartitionError:
            return []  # it is being resolved
        except OffsetOutOfRangeError as error:
            self._leave(error)
            return []
        messages: list[StreamMessage] = []
        for lane, records in batches.items():
            first, count = records[0].offset, len(records)
            offsets = self.offsets.get(lane)
            if offsets is None:
                offsets = self.offsets[lane] = Offsets(first)
            has_gaps = records[-1].offset - first >= count
            numbers = [one.offset for one in records] if has_gaps else range(first, first + count)
            if offsets.fetched_all(numbers):
                messages += map(KafkaMessage, records, map(_VALUE, records), numbers, repeat(lane), repeat(offsets))
            else:
                messages += self._fetched_again(lane, offsets, records)
        if self._passed:
            self._pass_over()
        return messages

    def _unreadable(self, partition: TopicPartition, offset: int, goes_on: int, reason: str) -> None:
        """Reject what the client can't read: there is no message to give to the handler."""
        report = self.subscription.broker.report
        report.count("rejected")
        report.line(
            logging.ERROR,
            "%s partition %d offset %d: can't be read and is rejected, it goes on at offset %d: %s",
            partition.topic,
            partition.partition,
            offset,
            goes_on,
            reason,
        )
        if (known := self.offsets.get(partition)) is not None:
            self._passed[partition] = _Passed(goes_on, known, known.term, known.next)

    def _pass_over(self) -> None:
        """Commit what was passed over as if it were handled."""
        for partition, one in self._passed.items():
            # Not where reading has gone back, or begun anew, while the fetch waited for more: it is met again.
            if self.offsets.get(partition) is one.offsets and one.is_due():
                one.offsets.passed(one.goes_on)
        self._passed.clear()
        if self.commits is not None:
            self.commits.note()

    def _fetched_again(
        self, lane: TopicPartition, offsets: Offsets, records: Iterable[ConsumerRecord[bytes, bytes]]
    ) -> list[StreamMessage]:
        """Take records that this process has seen before; those that it has finished do not run again."""
        messages: list[StreamMessage] = []
        for record in records:
            seen = offsets.seen(record.offset)
            if offsets.fetched(record.offset):
                messages.append(KafkaMessage(record, record.value, record.offset, lane, offsets, seen))
        if self.commits is not None:
            self.commits.note()
        return messages

    # Looking at the topics.

    def look_again(self, seconds: float = LOOK_SECONDS) -> None:
        """Look at the topics in some seconds, and from then on again and again."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.closed:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._begin_look)

    def _begin_look(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_once())

    async def _look_once(self) -> None:
        try:
            async with self.positioning:
                await asyncio.wait_for(self.look(), LOOK_TIMEOUT_SECONDS)
        except (KafkaError, OSError, asyncio.TimeoutError):
            pass  # the cluster is away: the next look meets it too, or the consumer does
        except Exception as error:
            self._error = error
        self.look_again()

    @property
    def look_age(self) -> float:
        """Seconds that an answer may be old that another subscription asked for."""
        return 0.0 if self._left else LOOK_AGE

    @abstractmethod
    async def look(self) -> None:
        """Notice what became of the topics: made, grown, deleted, made again."""

    async def matching(self) -> set[str]:
        """Return the topics that there are for the subscription's pattern."""
        names = await self.topics.names(internal=not self.options["exclude_internal_topics"])
        return {one for one in names if self.subscription.takes(one)}

    def notice(self, there: Mapping[str, TopicState]) -> set[str]:
        """Note which topics there are, and forget what was known of those that were made again; return these."""
        progress, now = self.progress, {name: one.identity for name, one in there.items()}
        renewed = progress.identities.renewed(now)
        progress.identities.note(now)
        progress.renewed |= renewed
        for topic in sorted(renewed):
            self.say_renewed(topic)
        for one in [one for one in self.offsets if one[0] in renewed]:
            self.forget(one)
        self._left.update({one: None for one in self._left if one.topic in renewed})
        progress.known = {one for one in progress.known if one[0] not in renewed}
        progress.forget_begun(renewed)
        progress.committed = {one for one in progress.committed if one[0] not in renewed}
        return renewed

    async def beginnings(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offsets of partitions."""
        wanted = list(partitions)
        if not wanted:
            return {}
        found: dict[TopicPartition, int] = await asyncio.wait_for(
            self.consumer.beginning_offsets(wanted), POSITION_SECONDS
        )
        return found

    def _leave(self, error: OffsetOutOfRangeError) -> None:
        """Note partitions whose next offset is not in the log: the log was cut off, or is another one."""
        if self.options["auto_offset_reset"] == "none":
            raise error
        gone: dict[TopicPartition, int] = error.args[0]
        for one, offset in gone.items():
            if one in self.consumer.assignment():
                self.leave(one, offset)
        self.look_again(0)

    def leave(self, partition: TopicPartition, offset: int | None = None) -> None:
        """Read an assigned partition no further, until `return_left` finds its beginning.

        Args:
            partition: which one.
            offset: what is said not to be in the log; None when it is said already why.
        """
        self.consumer.pause(partition)
        self._left.setdefault(partition, offset)

    async def return_left(self) -> None:
        """Go on at the beginning where the next offset is not in the log: nothing that is there was handled."""
        assigned = self.consumer.assignment()
        for one in [one for one in self._left if one not in assigned]:
            del self._left[one]
        for one, begin in (await self.beginnings(self._left)).items():
            if one not in self._left or one not in self.consumer.assignment():
                continue  # the group went on meanwhile
            offset = self._left.pop(one)
            self.consumer.seek(one, begin)
            self.renew(one, begin)
            if one not in self._held:
                self.consumer.resume(one)
            if offset is None:
                continue
            self.subscription.broker.report.line(
                logging.WARNING,
                "%s: offset %d of partition %d of %s is not in the log any more; reading it from its beginning, %d",
                self.subscription.label,
                offset,
                one.partition,
                one.topic,
                begin,
            )

    def see_missing(self, missing: Sequence[str], count: int) -> None:
        """Say what of the subscription does not exist; it is read as soon as somebody makes it.

        Args:
            missing: the topics, or partitions.
            count: how many there should be. With none of them the subscription backs off.
        """
        self.awaits = self._missing.see(missing, count)

    def see_topics(self, there: Collection[str]) -> None:
        """Say which topics of the subscription do not exist."""
        topics = self.subscription.topics
        self.see_missing([f"the topic {one}" for one in topics if one not in there], len(topics))

    def hold(self, lane: Hashable) -> None:
        partition = cast("TopicPartition", lane)
        self._held.add(partition)
        if partition in self.consumer.assignment():
            self.consumer.pause(partition)

    def resume(self, lane: Hashable) -> None:
        partition = cast("TopicPartition", lane)
        self._held.discard(partition)
        if partition in self.consumer.assignment():
            self.consumer.resume(partition)

    def may_go_back(self, partition: Partition) -> bool:
        return partition in self._held and partition in self.consumer.assignment()

    def go_back(self, partition: Partition, offset: int) -> None:
        self.consumer.seek(partition, offset)

    def share_fetch(self, partitions: Collection[TopicPartition]) -> None:
        """Bound what the client buffers of all partitions together: half of the option, the other half is in flight."""
        share = self.options["prefetch_bytes"] // 2 // max(len(partitions), 1)
        limit_fetch(self.consumer, min(self.options["max_partition_fetch_bytes"], max(share, LEAST_SHARE)))

    def position(self, partition: TopicPartition, offset: int) -> None:
        """Note that the consumer goes on at `offset` of a partition."""
        known = self.offsets.get(partition)
        if known is None:
            self.offsets[partition] = Offsets(offset)
        else:
            known.assigned(offset)

    # Settling.

    async def _commit(self, due: dict[Partition, int]) -> None:
        mine = self.consumer.assignment()
        offsets = {TopicPartition(*one): position for one, position in due.items() if one in mine}
        if offsets:
            await self.group_offsets.commit(offsets)

    def _commit_failed(self, error: Exception) -> None:
        cause = error.__cause__
        if self.options["group_instance_id"] is not None and isinstance(cause, UnknownMemberIdError):
            self._say_replaced(cause)
        self.commit_failed(error, repr(error), isinstance(error, (CommitFailedError, IllegalStateError)))

    def _say_replaced(self, error: UnknownMemberIdError) -> None:
        """Log now and then that a static member is none any more; who took its place the client does not say."""
        if not self._replaced.is_due(error):
            return
        self.subscription.broker.report.line(
            logging.WARNING,
            "%s: the group does not know this member any more; if another process has the same group_instance_id, %r,"
            " give each its own",
            self.subscription.label,
            self.options["group_instance_id"],
        )

    # Life.

    def keep_alive(self) -> None:
        """Poll now and then, also while every worker is busy, so that the group does not go on alone."""
        interval = self.options["max_poll_interval_ms"] / 3000
        if self._polling is None or self._polling.done():
            loop = asyncio.get_running_loop()
            self._polling = loop.create_task(self.consumer.getmany(NOWHERE, timeout_ms=0))
            self._polling.add_done_callback(seen)
        self._alive = asyncio.get_running_loop().call_later(interval, self.keep_alive)

    async def close(self) -> None:
        self.closed = True
        self.give_up(self.offsets)
        if self._alive is not None:
            self._alive.cancel()
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in (self._polling, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        await close_consumer(self.consumer, CLOSE_SECONDS, self.report_close)
        if self.commits is not None:
            # Only now: a commit that hangs ends with its connection, and somebody has to take its error.
            await self.commits.close()


def seen(task: asyncio.Task[Any]) -> None:
    """Take notice of an error that is met in another place too: by the next fetch, or by who publishes next."""
    if not task.cancelled():
        task.exception()
