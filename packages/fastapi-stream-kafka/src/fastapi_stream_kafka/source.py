"""What the two kinds of consumers have in common: fetching, acknowledging, holding a partition."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.partition import Commits, Offsets, Partition
from fastapi_stream_core.topic_source import TopicSource

from .client import close_consumer, consumer_failure
from .message import KafkaMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    from .subscription import KafkaSubscription
    from .transport import KafkaTransport

__all__ = ("KafkaSource", "Progress")

_VALUE = attrgetter("value")
POLL_MS = 1000
CLOSE_SECONDS = 4.0
FLUSH_SECONDS = 5.0
NOWHERE = TopicPartition("", -1)
"""Polling this partition returns at once, takes no message, and tells the group that the consumer lives."""


class Progress:
    """What a subscription remembers when its consumer is made anew.

    Attributes:
        offsets: what is fetched and finished, of each partition that was ever read.
        known: the partitions that are not new: those of the first start, and those that were assigned since.
        positioned: whether there was a first start.
    """

    def __init__(self) -> None:
        self.offsets: dict[Partition, Offsets] = {}
        self.known: set[TopicPartition] = set()
        self.positioned = False


class KafkaSource(TopicSource):
    """One consumer of aiokafka.

    The background of the client keeps the membership alive; the source takes what it has fetched, many
    messages at a time. Failed messages are kept by the core, their partition is paused meanwhile.
    """

    subscription: KafkaSubscription

    cancellable = True

    def __init__(self, subscription: KafkaSubscription, transport: KafkaTransport, progress: Progress) -> None:
        super().__init__(subscription, progress.offsets)
        self.options = subscription.options
        self.topics = transport.topics
        self.report_close = transport.report_close
        self.consumer: AIOKafkaConsumer = transport.consumer(subscription, self._unreadable)
        self.progress = progress
        if subscription.group_id is not None:
            self.commits = Commits(self._commit, self.offsets, self._commit_failed)
        self._most: int = self.options["max_poll_records"] or self.window
        self._held: set[TopicPartition] = set()
        self._passed: dict[TopicPartition, int] = {}
        self._polling: asyncio.Task[object] | None = None
        self._alive: asyncio.TimerHandle | None = None
        self.closed = False

    # Fetching.

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if (failure := consumer_failure(self.consumer)) is not None:
            raise failure
        await self.look_around()
        batches = await self.consumer.getmany(timeout_ms=POLL_MS, max_records=min(limit, self._most))
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
        self._passed[partition] = goes_on

    def _pass_over(self) -> None:
        """Commit what was passed over as if it were handled."""
        for partition, goes_on in self._passed.items():
            if (offsets := self.offsets.get(partition)) is not None:
                offsets.passed(goes_on)
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

    async def matching(self) -> set[str]:
        """Return the topics that there are for the subscription's pattern."""
        names = await self.topics.names(internal=not self.options["exclude_internal_topics"])
        return {one for one in names if self.subscription.takes(one)}

    def no_offset(self, partition: TopicPartition) -> SetupError:
        """Return the error of a partition where nothing says where to begin."""
        return SetupError(
            self.subscription.label,
            f"auto_offset_reset='none', and the group {self.subscription.group_id!r} has no offset of"
            f" partition {partition.partition} of {partition.topic!r}",
            "commit one beforehand, or use 'latest' or 'earliest'",
        )

    @abstractmethod
    async def look_around(self) -> None:
        """Do what is due before the next fetch."""

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
            await self.consumer.commit(offsets)

    def _commit_failed(self, error: Exception) -> None:
        if isinstance(error, (CommitFailedError, IllegalStateError)):
            self.dispatcher.late()  # the group went on; who has the partition now handles the messages again
            return
        report = self.subscription.broker.report
        report.line(logging.WARNING, "%s: a commit failed, it is tried again: %r", self.subscription.label, error)

    async def flush(self) -> None:
        if self.commits is None:
            return
        try:
            await asyncio.wait_for(self.commits.flush(), FLUSH_SECONDS)
        except asyncio.TimeoutError:
            report = self.subscription.broker.report
            report.line(
                logging.WARNING,
                "%s: the last commit was not confirmed within %g s; what it said is delivered again",
                self.subscription.label,
                FLUSH_SECONDS,
            )

    # Life.

    def keep_alive(self) -> None:
        """Poll now and then, also while every worker is busy, so that the group does not go on alone."""
        interval = self.options["max_poll_interval_ms"] / 3000
        if self._polling is None or self._polling.done():
            loop = asyncio.get_running_loop()
            self._polling = loop.create_task(self.consumer.getmany(NOWHERE, timeout_ms=0))
            self._polling.add_done_callback(_seen)
        self._alive = asyncio.get_running_loop().call_later(interval, self.keep_alive)

    async def close(self) -> None:
        self.closed = True
        self.give_up(self.offsets)
        if self._alive is not None:
            self._alive.cancel()
        if self._polling is not None:
            self._polling.cancel()
        await close_consumer(self.consumer, CLOSE_SECONDS, self.report_close)
        if self.commits is not None:
            # Only now: a commit that hangs ends with its connection, and somebody has to take its error.
            await self.commits.close()


def _seen(task: asyncio.Task[object]) -> None:
    """Take notice of an error: the next fetch meets it too."""
    if not task.cancelled():
        task.exception()
