"""What becomes of the topics of a subscription while it runs: deleted and made again, or not there at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import TimeoutError as NoAnswer
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from fastapi_stream_core.topic_progress import Missing
from fastapi_stream_core.topic_source import listed

if TYPE_CHECKING:
    from fastapi_stream_core.partition import Partition
    from fastapi_stream_core.topic_progress import TopicProgress

    from .consumer import ConsumerThread
    from .metadata import Topics, TopicState
    from .source import KafkaSource

__all__ = ("LOOK_SECONDS", "TopicWatch")

SEE_SECONDS = 10.0
"""How long the thread waits for a look; while a rebalance waits for it, too."""
LOOK_SECONDS = 3.0
"""Seconds between two looks at topics: which a pattern means, which do not exist yet, which were made again."""


class TopicWatch:
    """Looks again and again at the topics of one source, on the event loop; the subscriptions share the answers.

    Args:
        source: whose topics they are.
        topics: knows the topics.
        progress: what the subscription remembers of them.

    Attributes:
        awaits: whether none of what is named exists.
    """

    def __init__(self, source: KafkaSource, topics: Topics, progress: TopicProgress) -> None:
        self.awaits = False
        self._source = source
        self._topics = topics
        self._progress = progress
        self._task: asyncio.Task[None] | None = None
        self._missing = Missing(source.subscription)
        self._numbers: dict[str, tuple[int, ...]] = {}
        self._made_again: Callable[[], None] | None = None

    def have_seen(self, thread: ConsumerThread, topics: Collection[str]) -> Mapping[str, Collection[int]]:
        """Have it known which topics these are, and return their partitions; called on the thread, which waits."""
        with suppress(NoAnswer):  # then a later look tells
            thread.ask(partial(self._see, topics), SEE_SECONDS)
        return {name: numbers for name, numbers in self._numbers.items() if name in topics}

    async def _see(self, topics: Collection[str]) -> None:
        if await self.notice(0.0 if self._progress.positioned else LOOK_SECONDS, topics) and self._made_again:
            self._made_again()

    def start(
        self, renewed: Callable[[], None], grown: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Look from now on.

        Args:
            renewed: called when topics were made again, whatever the client has noticed.
            grown: called when there are other partitions than before.
            failed: told why the consumer is to be made anew: partitions that its group does not read, or an error that
                no cluster explains. Then nobody looks any more.
        """
        self._made_again = renewed
        self._task = asyncio.get_running_loop().create_task(self._look(renewed, grown, failed))

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look(
        self, renewed: Callable[[], None], grown: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        try:
            while True:
                awaited, numbers = self.awaits, self._numbers
                if await self.notice(LOOK_SECONDS / 2):
                    renewed()
                if awaited is not self.awaits:
                    self._source.wake()  # so that the core sees it
                if numbers != self._numbers:
                    grown()
                if self._source.in_group and (left_out := await self._left_out()):
                    raise ConnectionAbortedError(
                        f"no member of the group reads {listed(left_out)}, so it is joined again"
                    )
                await asyncio.sleep(LOOK_SECONDS)
        except Exception as error:
            failed(error)

    async def _left_out(self) -> list[Partition]:
        """Return partitions that the group does not read, as long as joining it again may mend that."""
        subscription = self._source.subscription
        there = {name: numbers for name, numbers in self._numbers.items() if subscription.takes(name)}
        group = str(subscription.group_id)
        again, in_vain = await self._progress.sharing.look(there, lambda: self._topics.taken(group))
        self._source.say_unread(in_vain)
        return again

    async def notice(self, age: float, topics: Collection[str] = ()) -> set[str]:
        """Note which topics there are, and forget what was known of those that were made again; return these.

        Args:
            age: how many seconds ago the cluster may have said what there is.
            topics: those to look at besides the ones that are named or known.
        """
        source, progress = self._source, self._progress
        try:
            read = {lane[0] for lane in source.offsets}
            names = read.union(source.subscription.topics, progress.identities.topics, topics)
            there = await self._topics.look(names, age)
        except KafkaException:  # the cluster is away, or tells nobody
            return set()
        self._see_missing(there)
        self._numbers = {name: one.partitions for name, one in there.items()}
        now = {name: one.identity for name, one in there.items()}
        renewed = progress.identities.renewed(now)
        progress.identities.note(now)
        self._renewed(renewed)
        gone = [one for one in source.offsets if one[0] in renewed]
        progress.committed.difference_update(gone)
        progress.forget_begun(renewed)
        for lane in gone:
            source.forget(lane)
        return renewed

    def _renewed(self, topics: Collection[str]) -> None:
        self._progress.renewed |= frozenset(topics)
        for topic in sorted(topics):
            self._source.say_renewed(topic)

    def found_renewed(self, topic: str) -> None:
        """Note a topic that was made again since the group committed, unless that is known already."""
        if topic not in self._progress.renewed:
            self._renewed([topic])

    def say_left(self, lane: Partition, offset: int, begin: int) -> None:
        """Say that the next offset of a partition left the log, and where it goes on."""
        subscription = self._source.subscription
        subscription.broker.report.line(
            logging.WARNING,
            "%s: offset %d of partition %d of %s is not in the log any more; reading it from its beginning, %d",
            subscription.label,
            offset,
            lane[1],
            lane[0],
            begin,
        )

    def _see_missing(self, there: Mapping[str, TopicState]) -> None:
        """Say what does not exist; it is read as soon as somebody makes it."""
        subscription = self._source.subscription
        partitions = subscription.partitions
        if partitions:
            count = len(partitions)
            exist = {(name, number) for name, one in there.items() for number in one.partitions}
            gone = sorted({(one.topic, one.partition) for one in partitions} - exist)
            missing = [f"partition {number} of {topic}" for topic, number in gone]
        else:
            count = len(subscription.topics)
            missing = [f"the topic {one}" for one in subscription.topics if one not in there]
        self.awaits = self._missing.see(missing, count)
