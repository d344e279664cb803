"""A member of a consumer group: the group says which partitions it reads."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from fastapi_stream_core.topic_source import listed

from .client import end_waiting, group_topics, refresh, rejoin, start
from .source import KafkaSource
from .topics import partitions_of

if TYPE_CHECKING:
    from fastapi_stream_core.topic_progress import TopicProgress

    from .subscription import KafkaSubscription
    from .transport import KafkaTransport

__all__ = ("GroupSource",)

DRAIN_SHARE, COMMIT_SHARE = 0.6, 0.2
"""Parts of the time that the group waits for a member in a rebalance: for running handlers, and for the last commit."""
POSITION_SECONDS = 20.0
"""Longest time until every position is resolved."""
PATIENCE_SECONDS = 30.0
"""How much longer than it should take a member waits for the end of a rebalance, until its client counts as stuck."""


class GroupSource(KafkaSource):
    """Reads the partitions that the group assigns, from the group's offsets on."""

    def __init__(self, subscription: KafkaSubscription, transport: KafkaTransport, progress: TopicProgress) -> None:
        super().__init__(subscription, transport, progress)
        self._settled = asyncio.Event()
        self._rebalance_seconds = subscription.rebalance_seconds
        self._patience = subscription.join_seconds + PATIENCE_SECONDS
        self._unsettled_at: float | None = None

    async def start(self) -> None:
        subscription = self.subscription
        expected: set[str] = set()
        listener = _Listener(self)
        if subscription.pattern is not None:
            expected = await self.matching()
            self.consumer.subscribe(pattern=subscription.pattern.regex.pattern, listener=listener)
        else:
            missing = await self.topics.ensure(subscription.topics)
            expected = set(subscription.topics) - missing
            if missing:
                # A subscription by name would make them, or fail; by pattern they are found when somebody made them.
                names = "|".join(map(re.escape, subscription.topics))
                self.consumer.subscribe(pattern=f"(?:{names})$", listener=listener)
            else:
                self.consumer.subscribe(topics=subscription.topics, listener=listener)
        if not self.progress.positioned:
            there = await self.topics.look(expected)
            self.notice(there)  # also of what others read now: when it is made again it may come here
            self.progress.known.update(partitions_of(there))
        await start(self.consumer)
        while True:
            await self._settled.wait()
            if self._error is not None:
                raise self._error
            if expected <= set(self.consumer.subscription()):
                break
            self._settled.clear()
        self.progress.positioned = True
        self.see_topics(expected)
        self.keep_alive()
        self.look_again()

    async def look(self) -> None:
        self._watch()
        subscription, consumer = self.subscription, self.consumer
        named = subscription.pattern is None
        names = set(subscription.topics) if named else {one.topic for one in consumer.assignment()}
        names |= self.progress.identities.topics
        there = await self.topics.look(names | group_topics(consumer), self.look_age)
        self.see_topics(there)
        if any(len(one.partitions) != len(consumer.partitions_for_topic(name) or ()) for name, one in there.items()):
            refresh(consumer)  # it would find out within five minutes, and read nothing meanwhile
        there = {name: one for name, one in there.items() if name in names}
        if renewed := self.notice(there):
            for one in consumer.assignment():
                if one.topic in renewed and one.partition in there[one.topic].partitions:
                    self.leave(one)
        await self.return_left()
        await self._look_at_shares({name: one.partitions for name, one in there.items() if subscription.takes(name)})

    async def _look_at_shares(self, there: Mapping[str, Collection[int]]) -> None:
        """Join the group again when it reads not all that this subscription is about."""
        group = str(self.subscription.group_id)
        again, in_vain = await self.progress.sharing.look(there, lambda: self.topics.taken(group))
        self.say_unread(in_vain)
        if not again:
            return
        if self.options["group_instance_id"] is None:
            self._error = KafkaError(f"no member of the group reads {listed(again)}, so it is joined again")
        else:
            rejoin(self.consumer)  # a static member does not leave; the cluster may take it for the leader

    def _watch(self) -> None:
        """Have the consumer made anew when the group's decision does not come: the client may wait for it for ever."""
        now = asyncio.get_running_loop().time()
        if self._settled.is_set():
            self._unsettled_at = None
        elif self._unsettled_at is None:
            self._unsettled_at = now
        elif now - self._unsettled_at > self._patience:
            self._error = KafkaError(f"the group has not settled for {self._patience:g} s")
            end_waiting(self.consumer, self._error)

    async def revoked(self, partitions: set[TopicPartition]) -> None:
        """Finish what runs, commit, and give the partitions up."""
        self._settled.clear()
        if not partitions or self.closed:
            return
        await self.dispatcher.revoke(partitions, self._rebalance_seconds * DRAIN_SHARE)
        if self.commits is not None:
            try:
                await asyncio.wait_for(self.commits.flush(), self._rebalance_seconds * COMMIT_SHARE)
            except asyncio.TimeoutError:
                self.dispatcher.late()
        self.give_up(partitions)

    async def assigned(self, partitions: set[TopicPartition]) -> None:
        """Resolve the positions, and make them the group's own before the first message is fetched."""
        try:
            self.consumer.pause(*partitions)
            self.share_fetch(partitions)
            await asyncio.wait_for(self._position(partitions), POSITION_SECONDS)
            self._held.clear()
            self._left.clear()
            self.consumer.resume(*partitions)
        except (IllegalStateError, asyncio.TimeoutError) as error:
            if self.consumer.assignment() == partitions:
                self._error = error
            # Otherwise the group is about to assign anew, and calls again.
        except Exception as error:
            self._error = error
        self._settled.set()

    async def _position(self, partitions: set[TopicPartition]) -> None:
        async with self.positioning:
            there = await self.topics.look({one.topic for one in partitions})
            self.notice(there)
            await self.group_offsets.learn_begun(there)
            had_some = bool(self.progress.committed)
            positions = await self.group_offsets.committed(partitions)
            missing = partitions - positions.keys()
            went_on = {one: self.offsets[one].position for one in missing if one in self.offsets}
            at_end, begun = await self._begin(missing - went_on.keys())
            self.say_lost(self.progress.committed & went_on.keys(), at_end if had_some else ())
            self.progress.known |= partitions
            self.progress.begin(partitions)
            positions |= {**went_on, **begun}
            for one, position in positions.items():
                self.consumer.seek(one, position)
            await self.group_offsets.commit_new(begun, went_on)
            for one, position in positions.items():
                self.position(one, position)

    async def _begin(self, partitions: set[TopicPartition]) -> tuple[set[TopicPartition], dict[TopicPartition, int]]:
        """Return which partitions begin at their end, and where each begins, as a reset says.

        Partitions that appeared while this process runs are read from their beginning: nothing in them is old.
        """
        reset, progress = self.options["auto_offset_reset"], self.progress
        for one in partitions:
            if reset == "none" and one.topic not in progress.renewed:
                raise self.group_offsets.none_of(one)
        old = set(filter(progress.is_begun, progress.known)) if reset == "latest" else set()
        at_end = {one for one in partitions if one in old and one.topic not in progress.renewed}
        begun = await self.beginnings(partitions - at_end)
        if at_end:
            begun |= await self.consumer.end_offsets(list(at_end))
        return at_end, begun


class _Listener(ConsumerRebalanceListener):
    """Passes the group's decisions on to the source."""

    def __init__(self, source: GroupSource) -> None:
        self._source = source

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> Any:
        return self._source.revoked(set(revoked))

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> Any:
        return self._source.assigned(set(assigned))
