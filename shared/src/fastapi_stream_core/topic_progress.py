"""What a subscription of topics remembers when its consumer is made anew, and what of it does not exist."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .topic_identity import TopicIdentities
from .topic_sharing import Sharing

if TYPE_CHECKING:
    from .partition import Offsets, Partition
    from .subscription import Subscription

__all__ = ("Missing", "TopicProgress")


class TopicProgress:
    """What a subscription remembers when its consumer is made anew.

    The event loop owns it. A client's thread may read `renewed` and `left`, which are replaced and never changed, and
    `identities`, whose answers are one look each; `known` and `committed` belong to whoever finds the partitions.

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
