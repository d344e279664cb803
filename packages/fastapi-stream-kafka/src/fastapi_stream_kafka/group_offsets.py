"""The offsets that a group keeps, each with the topic that it is of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import TopicPartition
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.topic_identity import is_of_another

from .client import NoSuchTopic, commit_offsets, committed_offsets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .metadata import TopicState
    from .source import KafkaSource

__all__ = ("GroupOffsets",)

AGAIN_SECONDS = 0.1


class GroupOffsets:
    """The offsets that the group of one source keeps.

    Args:
        source: whose group it is.
    """

    def __init__(self, source: KafkaSource) -> None:
        self._source = source
        self._progress = source.progress

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return what the group committed of partitions; not what it committed of a topic that is gone."""
        progress = self._progress
        found: dict[TopicPartition, int] = {}
        for one, (offset, note) in (await committed_offsets(self._source.consumer, partitions)).items():
            if not is_of_another(note, progress.identities.note_of(one.topic)):
                found[one] = offset
                continue
            self._source.forget(one)  # it may be that the group knows a newer topic than this process
            if one.topic not in progress.renewed:
                progress.renewed |= {one.topic}
                self._source.say_renewed(one.topic)
        progress.committed |= found.keys()
        return found

    async def learn_begun(self, there: Mapping[str, TopicState]) -> None:
        """Learn how many partitions of topics the group has begun, by what it noted at its offsets of any of them."""
        new = {name: one.partitions for name, one in there.items() if not self._progress.knows_begun(name)}
        every = [TopicPartition(name, number) for name, numbers in new.items() for number in numbers]
        found = await committed_offsets(self._source.consumer, every) if every else {}
        for name, numbers in new.items():
            notes = [note for one, (_, note) in found.items() if one.topic == name]
            self._progress.learn_begun(name, notes, len(numbers))

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit next offsets, with the topics they are of."""
        note_of = self._progress.note_of
        noted = {one: (offset, note_of(one.topic)) for one, offset in offsets.items()}
        await commit_offsets(self._source.consumer, noted)
        self._progress.committed |= offsets.keys()

    async def commit_new(
        self, begun: Mapping[TopicPartition, int], went_on: Mapping[TopicPartition, int] | None = None
    ) -> None:
        """Commit where partitions go on that the group has no offset of.

        Args:
            begun: where a reset says it. That is committed when it is at an end: without it a crash before the first
                commit would begin at an end that has moved on meanwhile.
            went_on: where this process was, when the group has lost its offsets.
        """
        due = dict(went_on or {})
        if self._source.options["auto_offset_reset"] == "latest":
            due |= begun
        while due and self._source.commits is not None:
            try:
                return await self.commit(due)
            except NoSuchTopic:  # it has just been made, and the group's server does not know it yet
                await asyncio.sleep(AGAIN_SECONDS)

    def none_of(self, partition: TopicPartition) -> SetupError:
        """Return the error of a partition where nothing says where to begin."""
        subscription = self._source.subscription
        return SetupError(
            subscription.label,
            f"auto_offset_reset='none', and the group {subscription.group_id!r} has no offset of"
            f" partition {partition.partition} of {partition.topic!r}",
            "commit one beforehand, or use 'latest' or 'earliest'",
        )
