"""What sources of brokers with partitions have in common: acknowledging by the offsets that are finished."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from .partition import Commits, Offsets, Partition
from .transport import Source

if TYPE_CHECKING:
    from .message import StreamMessage
    from .subscription import Subscription
    from .topic_message import TopicMessage

__all__ = ("TopicSource",)


class TopicSource(Source):
    """Notes acknowledgements; `Commits` tells the broker of them.

    Args:
        subscription: whose messages it delivers.
        offsets: those of each partition that this process ever read.

    Attributes:
        offsets: as given.
        commits: None where nothing is committed.
    """

    def __init__(self, subscription: Subscription, offsets: dict[Partition, Offsets]) -> None:
        super().__init__(subscription)
        self.offsets = offsets
        self.commits: Commits | None = None

    def ack(self, message: StreamMessage) -> None:
        # A cast, a look-up of the partition and `Offsets.done` would each be a call for every message.
        offsets: Offsets = message.offsets  # type: ignore[attr-defined]
        offset: int = message.offset  # type: ignore[attr-defined]
        unfinished = offsets.unfinished
        if offset in unfinished and offsets.active:
            del unfinished[offset]
        elif not offsets.done(offset):
            self.dispatcher.late()
            return
        commits = self.commits
        if commits is not None and (commits.timer is None or not unfinished):
            commits.note()

    def is_finished(self, message: StreamMessage) -> bool:
        offsets = cast("TopicMessage", message).offsets
        return offsets is not None and offsets.is_finished(cast("TopicMessage", message).offset)

    def give_up(self, partitions: Iterable[Partition]) -> None:
        """Give partitions up: nothing of them is committed any more, and an acknowledgement is late."""
        for one in partitions:
            if one in self.offsets:
                self.offsets[one].revoked()

    def renew(self, partition: Partition, position: int) -> None:
        """Begin a partition anew at `position`: its log is another one, or what was to come next is no longer in it.

        What is in flight goes on, and is not acknowledged in the new log.
        """
        self.give_up([partition])
        self.offsets[partition] = Offsets(position, committed=False)
        if self.commits is not None:
            self.commits.note()

    def forget(self, partition: Partition) -> None:
        """Know nothing more of a partition whose log is gone."""
        self.give_up([partition])
        self.offsets.pop(partition, None)

    def say_renewed(self, topic: str) -> None:
        """Log that a topic was deleted and made again."""
        self.subscription.broker.report.line(
            logging.WARNING,
            "%s: %s was deleted and made again; reading it from its beginning",
            self.subscription.label,
            topic,
        )
