"""A consumer that is in no group: it reads every partition, or those that the user names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition

from .client import start
from .metadata import TopicState
from .source import KafkaSource

__all__ = ("AssignedSource",)


class AssignedSource(KafkaSource):
    """Reads all partitions of its topics, each from a concrete offset on.

    Partitions that appear later are read from their beginning. With given partitions and a `group_id` the group keeps
    the offsets, and shares nothing.
    """

    async def start(self) -> None:
        await self.topics.ensure(self.subscription.topics)
        await start(self.consumer)
        there = await self._there()
        self.notice(there)
        positions, new = await self._positions(self._partitions(there))
        self._assign(positions)
        await self.group_offsets.commit_new(new)
        self.progress.positioned = True
        self._see(there)
        self.keep_alive()
        self.look_again()

    async def _there(self) -> dict[str, TopicState]:
        """Return the topics that are meant and exist."""
        subscription = self.subscription
        return await self.topics.look(
            subscription.topics if subscription.pattern is None else await self.matching(), self.look_age
        )

    def _partitions(self, there: Mapping[str, TopicState]) -> set[TopicPartition]:
        """Return the partitions that are meant and exist."""
        existing = {TopicPartition(name, number) for name, one in there.items() for number in one.partitions}
        named = self.subscription.partitions
        return existing.intersection(named) if named else existing

    async def _positions(
        self, partitions: Iterable[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Return where each partition goes on, and once more alone where a reset says it.

        That is where this process was, where the group was, or where a reset says.
        """
        positions: dict[TopicPartition, int] = {}
        missing: set[TopicPartition] = set()
        for one in partitions:
            known = self.offsets.get(one)
            if known is None:
                missing.add(one)
            else:
                positions[one] = known.position
        if self.commits is not None and missing:
            positions |= await self.group_offsets.committed(missing)
            missing -= positions.keys()
        reset, progress = self.options["auto_offset_reset"], self.progress
        for one in missing:
            if reset == "none" and one.topic not in progress.renewed:
                raise self.group_offsets.none_of(one)
        at_end = set[TopicPartition]()
        new: dict[TopicPartition, int] = {}
        if reset == "latest" and not progress.positioned:
            at_end = {one for one in missing if one.topic not in progress.renewed}
            new = await self.consumer.end_offsets(list(at_end))
        new |= await self.beginnings(missing - at_end)
        return positions | new, new

    def _assign(self, positions: dict[TopicPartition, int]) -> None:
        """Read these partitions from these offsets on."""
        self.consumer.assign(list(positions))
        self.share_fetch(positions)
        for one, offset in positions.items():
            self.consumer.seek(one, offset)
            self.position(one, offset)

    def _see(self, there: Mapping[str, TopicState]) -> None:
        named = self.subscription.partitions
        if not named:
            return self.see_topics(there)
        missing = sorted(set(named) - self._partitions(there))
        self.see_missing([f"partition {one.partition} of {one.topic}" for one in missing], len(named))

    async def look(self) -> None:
        there = await self._there()
        self._see(there)
        renewed = self.notice(there)
        wanted, current = self._partitions(there), self.consumer.assignment()
        for one in wanted.intersection(current):
            if one.topic in renewed:
                self.leave(one)  # should the cluster not tell where it begins, the next look asks again
        if renewed or wanted != current:
            # A partition that is gone is not asked for any more: the client would ask in a hot loop.
            positions, new = await self._positions(
                one for one in wanted if one not in current or one not in self.offsets
            )
            going_on = {one: self.offsets[one].next for one in wanted if one not in positions}
            self.consumer.assign([*going_on, *positions])
            self.share_fetch(wanted)
            for one, offset in {**going_on, **positions}.items():
                self.consumer.seek(one, offset)
            for one, offset in positions.items():
                self._left.pop(one, None)
                if one.topic in self.progress.renewed and one not in self.offsets:
                    self.renew(one, offset)
                else:
                    self.position(one, offset)
            held = self._held.intersection(wanted)
            if held:
                self.consumer.pause(*held)
            await self.group_offsets.commit_new(new)
        await self.return_left()
