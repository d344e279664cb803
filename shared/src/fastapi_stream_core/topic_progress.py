"""What a subscription of topics remembers when its consumer is made anew, and what of it does not exist."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .topic_identity import TopicIdentities, begun_in, is_of_another, with_begun
from .topic_sharing import Sharing

if TYPE_CHECKING:
    from .partition import Offsets, Partition
    from .subscription import Subscription

__all__ = ("Missing", "TopicProgress")


class TopicProgress:
    """What a subscription remembers when its consumer is made anew.

    The event loop owns it. A client's thread may read `renewed` and `left`, which are replaced and never changed, and
    `identities`, whose answers are one look each; `known`, `committed` and what is begun belong to whoever finds the
    partitions.

    Attributes:
        offsets: what is fetched and finished, of each partition that was ever read.
        known: the partitions that are not new: those of the first start, and those that were assigned since.
        committed: the partitions that the group was seen with an offset of.
        positioned: whether there was a first start.
        identities: which topics these were.
        renewed: the topics that were made again since; what is in them is new, also in partitions that are known.
        left: the partitions whose next offset is not in the log; nothing that is there was handled.
        sharing: knows which partitions the group has to share out.
    """

    def __init__(self) -> None:
        self.identities = TopicIdentities()
        self.renewed: frozenset[str] = frozenset()
        self.left: frozenset[Partition] = frozenset()
        self.offsets: dict[Partition, Offsets] = {}
        self.known: set[Partition] = set()
        self.committed: set[Partition] = set()
        self.positioned = False
        self.sharing = Sharing()
        self._begun: dict[str, int] = {}

    def note_of(self, topic: str) -> str:
        """Return what is noted at a committed offset: which topic it is of, and how many partitions are begun."""
        return self.noted(self.identities.note_of(topic), topic)

    def noted(self, note: str, topic: str) -> str:
        """Return a note of which topic an offset is of, with how many partitions are begun."""
        return with_begun(note, self._begun.get(topic, 0))

    def knows_begun(self, topic: str) -> bool:
        """Tell whether it is known how many partitions of a topic the group has begun."""
        return topic in self._begun

    def learn_begun(self, topic: str, notes: Iterable[str], count: int) -> None:
        """Learn how many partitions of a topic the group has begun.

        Args:
            topic: which one.
            notes: what the group noted at its offsets of it.
            count: how many there are: as many as are begun, when the notes do not say it.
        """
        now = self.identities.note_of(topic)
        begun = max((begun_in(one) for one in notes if not is_of_another(one, now)), default=0)
        self._begun[topic] = begun or count

    def begin(self, partitions: Iterable[Partition]) -> None:
        """Note partitions whose positions the group has now."""
        for topic, number in partitions:
            if topic in self._begun:
                self._begun[topic] = max(self._begun[topic], number + 1)

    def is_begun(self, partition: Partition) -> bool:
        """Tell whether the group may have begun a partition: others were made since, and nothing in them is old."""
        count = self._begun.get(partition[0])
        return count is None or partition[1] < count

    def forget_begun(self, topics: Iterable[str]) -> None:
        """Know nothing of topics that were made again."""
        for topic in topics:
            self._begun.pop(topic, None)


class Missing:
    """Says what of a subscription does not exist, each thing once; it is read as soon as somebody makes it."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._said: Sequence[str] = ()

    def see(self, missing: Sequence[str], count: int) -> bool:
        """Say what is missing and was not before.

        Args:
            missing: the topics, or partitions.
            count: how many there should be.

        Returns:
            Whether there is none of them.
        """
        subscription = self._subscription
        for one in missing:
            if one not in self._said:
                subscription.broker.report.line(
                    logging.WARNING,
                    "%s: %s does not exist; it is read as soon as somebody makes it",
                    subscription.label,
                    one,
                )
        self._said = missing
        return 0 < count == len(missing)
