"""A consumer that is in no group: it reads every partition, or those that the user names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka import TopicPartition

from .source import KafkaSource

__all__ = ("AssignedSource",)

LOOK_SECONDS = 3.0
"""Seconds between two looks for topics of a pattern, and for more partitions of a topic."""


class AssignedSource(KafkaSource):
    """Reads all partitions of its topics, each from a concrete offset on.

    Partitions that appear later are read from their beginning. With given partitions and a `group_id` the group keeps
    the offsets, and shares nothing.
    """

    async def start(self) -> None:
        subscription = self.subscription
        await self.topics.ensure(subscription.topics)
        await self.consumer.start()
        partitions = await self._partitions()
        positions = await self._positions(partitions)
        self._assign(positions)
        if self.commits is not None:
            await self.consumer.commit(positions)
        self.progress.positioned = True
        self._looked = asyncio.get_running_loop().time()
        self.keep_alive()

    async def _partitions(self) -> list[TopicPartition]:
        subscription = self.subscription
        if subscription.partitions:
            return list(subscription.partitions)
        if subscription.pattern is None:
            return await self.topics.partitions(subscription.topics)
        return await self.topics.partitions(await self.matching())

    async def _positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where each partition goes on: where this process was, where the group was, or where a reset says."""
        positions: dict[TopicPartition, int] = {}
        missing: list[TopicPartition] = []
        for one in partitions:
            known = self.offsets.get(one)
            if known is not None:
                positions[one] = known.position
            elif self.commits is not None and (committed := await self._committed(one)) is not None:
                positions[one] = committed
            else:
                missing.append(one)
        if missing:
            reset = self.options["auto_offset_reset"]
            if reset == "none":
                raise self.no_offset(missing[0])
            end = reset == "latest" and not self.progress.positioned
            positions |= await (self.consumer.end_offsets if end else self.consumer.beginning_offsets)(missing)
        return positions

    async def _committed(self, partition: TopicPartition) -> int | None:
        committed: int | None = await self.consumer.committed(partition)
        return committed

    def _assign(self, positions: dict[TopicPartition, int]) -> None:
        """Read these partitions from these offsets on."""
        self.consumer.assign(list(positions))
        for one, offset in positions.items():
            self.consumer.seek(one, offset)
            self.position(one, offset)

    async def look_around(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.subscription.partitions or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        new = [one for one in await self._visible() if one not in self.offsets]
        if new:
            positions = await self._positions(new)
            current = {one: self.offsets[one].top for one in self.consumer.assignment()}
            self.consumer.assign([*current, *positions])
            for one, offset in {**current, **positions}.items():
                self.consumer.seek(one, offset)
            for one, offset in positions.items():
                self.position(one, offset)
            held = self._held.intersection(current)
            if held:
                self.consumer.pause(*held)

    async def _visible(self) -> list[TopicPartition]:
        """Return the partitions there are now; of the topics that are read already, what the client knows is enough."""
        if self.subscription.pattern is not None:
            return await self._partitions()
        known: list[TopicPartition] = []
        missing: list[str] = []
        for topic in self.subscription.topics:
            numbers = self.consumer.partitions_for_topic(topic)
            known += [TopicPartition(topic, number) for number in numbers or ()]
            if not numbers:
                missing.append(topic)
        return known + (await self.topics.partitions(missing) if missing else [])
