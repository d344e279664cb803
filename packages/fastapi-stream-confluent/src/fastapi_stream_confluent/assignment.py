"""Which partitions a consumer reads, and from where on. Everything here runs on the consumer's thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaException, TopicPartition
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.partition import Partition
from fastapi_stream_core.topic_identity import is_of_another

from .topics import partitions_of, persist

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from fastapi_stream_core.topic_progress import TopicProgress

    from .subscription import KafkaSubscription

__all__ = ("Assignment", "Findings", "see_topics")

ASK_SECONDS = 5.0
"""Longest wait for one answer of the broker."""


class Findings(NamedTuple):
    """Whom an assignment tells what, and asks; each is called on the consumer's thread.

    Attributes:
        asked: returns where this process was, of those partitions that it has read.
        assigned: takes the positions of partitions, before the first message of them is received.
        returned: takes a partition whose next offset left the log: that offset, and where it goes on.
        renewed: takes a topic that was made again since the group committed.
        lost: takes partitions that the group has lost its offset of: those that go on where this process was, and
            those that begin at their end.
        looked: has topics looked at, so that it is known which they are; returns the numbers of their partitions.
    """

    asked: Callable[[Collection[Partition]], Mapping[Partition, int]]
    assigned: Callable[[dict[Partition, int]], None]
    returned: Callable[[Partition, int, int], None]
    renewed: Callable[[str], None]
    lost: Callable[[Collection[Partition], Collection[Partition]], None]
    looked: Callable[[Collection[str]], Mapping[str, Collection[int]]]


class Assignment:
    """Finds the partitions of a subscription and resolves where each of them begins.

    Args:
        subscription: whose topics are read.
        progress: what is not new; other partitions began while this process ran, and are read from their beginning.
        told: takes what is found, before the first message of a partition is received; knows where this process was.
        incremental: whether the group's protocol adds partitions to those that a member has.

    Attributes:
        complete: whether every topic that is named exists.
    """

    def __init__(
        self,
        subscription: KafkaSubscription,
        progress: TopicProgress,
        told: Findings,
        incremental: bool,
    ) -> None:
        self.subscription = subscription
        self._progress = progress
        self._known = progress.known
        self._told = told
        self._incremental = incremental
        self._first = not progress.positioned
        self._renewed: set[str] = set()
        self._reads: set[Partition] = set()
        self._topics: list[str] = []
        self.complete = True

    # What there is.

    def find(self, client: Consumer) -> dict[str, list[int]]:
        """Return the topics that are meant and exist, with the numbers of their partitions."""
        named = None if self.subscription.pattern is not None else self.subscription.topics
        there = partitions_of(client, named, ASK_SECONDS)
        self.complete = there.keys() >= set(self.subscription.topics)
        return {topic: there[topic] for topic in sorted(there) if self.subscription.takes(topic)}

    def lanes(self, client: Consumer) -> list[Partition]:
        """Return the partitions that are meant."""
        if self.subscription.partitions:
            return [(one.topic, one.partition) for one in self.subscription.partitions]
        return _lanes(self.find(client))

    # A group says what is read.

    def join(
        self, client: Consumer, on_assign: Callable[..., None], on_revoke: Callable[..., None], on_lost: Any
    ) -> bool:
        """Subscribe; False when there is no topic to subscribe to yet: `rejoin` looks again."""
        self._callbacks = {"on_assign": on_assign, "on_revoke": on_revoke, "on_lost": on_lost}
        there = self.find(client)
        self._topics = list(there)
        if self._first:
            self._told.looked(self._topics)  # also what others read now: when it is made again it may come here
            self._known.update(_lanes(there))
            self._first = False
        if self._topics:
            client.subscribe(self._topics, **self._callbacks)
        return bool(self._topics)

    def rejoin(self, client: Consumer) -> None:
        """Look for topics that were not there before."""
        topics = list(self.find(client))
        if topics and topics != self._topics:
            self._topics = topics
            client.subscribe(topics, **self._callbacks)

    def take(self, client: Consumer, lanes: Iterable[Partition]) -> None:
        """Read what the group assigned."""
        positions = self._positions(client, list(lanes))
        self._told.assigned(positions)
        partitions = [TopicPartition(*lane, position) for lane, position in positions.items()]
        if self._incremental:
            client.incremental_assign(partitions)
        else:
            client.assign(partitions)

    # Without a group all is read.

    def assign(self, client: Consumer) -> None:
        """Read every partition that there is."""
        lanes = self.lanes(client)
        if self._first:
            self._known.update(lanes)
            self._first = False
        positions = self._positions(client, lanes)
        self._told.assigned(positions)
        self._reads = set(positions)
        client.assign([TopicPartition(*lane, position) for lane, position in positions.items()])

    def extend(self, client: Consumer) -> None:
        """Look for partitions that are new."""
        new = [lane for lane in self.lanes(client) if lane not in self._reads]
        if new:
            positions = self._positions(client, new)
            self._told.assigned(positions)
            self._reads.update(new)
            client.incremental_assign([TopicPartition(*lane, position) for lane, position in positions.items()])

    # Where.

    def _positions(self, client: Consumer, lanes: list[Partition]) -> dict[Partition, int]:
        """Return where each partition goes on: where the group was, where this process was, or where a reset says."""
        grouped, progress = self.subscription.group_id is not None, self._progress
        # What is read under a name is remembered under it, so it has to be known of which topic it is.
        there = self._told.looked({topic for topic, _ in lanes})
        # Before anything is asked: a topic that is made again meanwhile has none of the positions that are found.
        notes = {topic: progress.identities.note_of(topic) for topic, _ in lanes}
        positions: dict[Partition, int] = {}
        gone: set[Partition] = set()
        had_some = bool(progress.committed)
        if grouped and not self.subscription.partitions:
            persist(lambda: self._learn_begun(client, there), ASK_SECONDS)
        if grouped and lanes:
            positions, gone = persist(lambda: self._committed(client, lanes, notes), ASK_SECONDS)
            progress.committed.update(positions)
        missing = [lane for lane in lanes if lane not in positions]
        # What this process read of a topic that the group knows to be gone says nothing.
        went_on = self._told.asked([lane for lane in missing if lane not in gone])
        positions.update(went_on)
        returned = self._return_left(client, positions)
        begun = [lane for lane in missing if lane not in went_on]
        at_end = list(filter(self._begins_at_end, begun))
        for lane in begun:
            positions[lane] = self._begin(client, lane)
        self._known.update(lanes)
        progress.begin(lanes)
        if grouped and missing:
            self._told.lost(progress.committed & went_on.keys(), at_end if had_some else ())
        if grouped:
            # Without it a crash before the first commit would begin at an end that has moved on meanwhile, and the next
            # consumer where the log is no more.
            due: set[Partition] = {*went_on, *returned}
            if self.subscription.options["auto_offset_reset"] == "latest":
                due.update(begun)
            self._commit(
                client,
                [TopicPartition(*lane, positions[lane], progress.noted(notes[lane[0]], lane[0])) for lane in due],
            )
        return positions

    def _commit(self, client: Consumer, offsets: list[TopicPartition]) -> None:
        if offsets:
            persist(lambda: client.commit(offsets=offsets, asynchronous=False), ASK_SECONDS)
            self._progress.committed.update((one.topic, one.partition) for one in offsets)

    def _committed(
        self, client: Consumer, lanes: list[Partition], notes: Mapping[str, str]
    ) -> tuple[dict[Partition, int], set[Partition]]:
        """Return the group's offsets, and the partitions where it has one that is of a topic that is gone."""
        found = client.committed([TopicPartition(*lane) for lane in lanes], timeout=ASK_SECONDS)
        positions: dict[Partition, int] = {}
        gone: set[Partition] = set()
        for one in found:
            if one.error is not None:
                raise KafkaException(one.error)
            now = notes[one.topic]
            if is_of_another(_note(one), now):
                gone.add((one.topic, one.partition))
                self._renewed.add(one.topic)
                self._told.renewed(one.topic)
            elif one.offset >= 0:
                positions[one.topic, one.partition] = one.offset
        return positions, gone

    def _learn_begun(self, client: Consumer, there: Mapping[str, Collection[int]]) -> None:
        """Learn how many partitions of topics the group has begun, by what it noted at its offsets of any of them."""
        new = {topic: numbers for topic, numbers in there.items() if not self._progress.knows_begun(topic)}
        every = [TopicPartition(topic, number) for topic, numbers in new.items() for number in numbers]
        found = client.committed(every, timeout=ASK_SECONDS) if every else []
        for topic, numbers in new.items():
            notes = [_note(one) for one in found if one.topic == topic and one.error is None and one.offset >= 0]
            self._progress.learn_begun(topic, notes, len(numbers))

    def _return_left(self, client: Consumer, positions: dict[Partition, int]) -> list[Partition]:
        """Have partitions go on at their beginning whose next offset is not in the log any more; return these.

        What left the log in one partition has mostly left it in others: each of them would have the consumer made anew.
        """
        left = self._progress.left
        if left.isdisjoint(positions):
            return []
        returned: list[Partition] = []
        for lane in sorted(positions, key=lambda one: one not in left):
            offset = positions[lane]
            try:
                low, high = _watermarks(client, lane)
            except KafkaException:
                if lane in left:
                    raise
                break  # nobody leads it, so nothing says that it has left
            # Behind its end another one may only seem to be, while its leader is new: that is for the client to tell.
            if offset < low or (offset > high and lane in left):
                self._told.returned(lane, offset, low)
                positions[lane] = low
                returned.append(lane)
        return returned

    def _begin(self, client: Consumer, lane: Partition) -> int:
        if (named := self._named(lane)) >= 0:
            return named
        if self.subscription.options["auto_offset_reset"] == "none" and not self._is_renewed(lane):
            raise SetupError(
                self.subscription.label,
                f"auto_offset_reset='none', and the group {self.subscription.group_id!r} has no offset of"
                f" partition {lane[1]} of {lane[0]!r}",
                "commit one beforehand, or use 'latest' or 'earliest'",
            )
        low, high = _watermarks(client, lane)
        return high if self._begins_at_end(lane) else low

    def _begins_at_end(self, lane: Partition) -> bool:
        reset = self.subscription.options["auto_offset_reset"]
        is_old = lane in self._known and self._progress.is_begun(lane) and not self._is_renewed(lane)
        return reset == "latest" and is_old and self._named(lane) < 0

    def _is_renewed(self, lane: Partition) -> bool:
        return lane[0] in self._renewed or lane[0] in self._progress.renewed

    def _named(self, lane: Partition) -> int:
        """Return the offset that the user named for a partition; a negative number when there is none."""
        return next((one.offset for one in self.subscription.partitions if (one.topic, one.partition) == lane), -1)


def see_topics(client: Consumer) -> None:
    """Have the client see new partitions, so that it joins its group again: by itself it looks once in minutes."""
    with suppress(KafkaException):  # the broker may be away: whoever misses the partitions joins again
        client.list_topics(timeout=ASK_SECONDS)


def _lanes(topics: Mapping[str, list[int]]) -> list[Partition]:
    return [(topic, number) for topic, numbers in topics.items() for number in numbers]


def _note(committed: TopicPartition) -> str:
    """Return what is noted at a committed offset; the client reads beyond its end, where there may be anything."""
    try:
        return committed.metadata or ""
    except UnicodeDecodeError:
        return ""


def _watermarks(client: Consumer, lane: Partition) -> tuple[int, int]:
    partition = TopicPartition(*lane)
    low, high = persist(lambda: client.get_watermark_offsets(partition, timeout=ASK_SECONDS), ASK_SECONDS)
    return low, high
