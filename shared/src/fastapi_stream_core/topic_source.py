"""What sources of brokers with partitions have in common: acknowledging by the offsets that are finished."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, cast

from .partition import Commits, Offsets, Partition
from .recurrence import Recurrence
from .transport import Source

if TYPE_CHECKING:
    from .message import StreamMessage
    from .subscription import Subscription
    from .topic_message import TopicMessage

__all__ = ("TopicSource", "listed")

FLUSH_SECONDS = 5.0


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
        self._failures = Recurrence()

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

    def give_back(self, lane: Hashable, messages: Sequence[StreamMessage]) -> bool:
        partition, first = cast("Partition", lane), cast("TopicMessage", messages[0])
        offsets = self.offsets.get(partition)
        if offsets is None or offsets is not first.offsets or not self.may_go_back(partition):
            return False
        if not offsets.give_back([cast("TopicMessage", one).offset for one in messages]):
            return False
        self.go_back(partition, first.offset)
        return True

    def may_go_back(self, partition: Partition) -> bool:
        """Tell whether a partition is held, and the client's to go back in."""
        return False

    def go_back(self, partition: Partition, offset: int) -> None:
        """Have the client fetch from `offset` on, when the partition is resumed."""

    def commit_failed(self, error: Exception, reason: object, is_late: bool) -> None:
        """Take the error of a commit; one that lasts is said now and then.

        Args:
            error: of which kind it is.
            reason: what the client said.
            is_late: whether the group went on: who has the partition now handles the messages again.
        """
        if is_late:
            self.dispatcher.late()
            return
        if not self._failures.is_due(error):
            return
        report = self.subscription.broker.report
        report.line(logging.WARNING, "%s: a commit failed, it is tried again: %s", self.subscription.label, reason)

    async def flush(self) -> None:
        if self.commits is None:
            return
        try:
            await asyncio.wait_for(self.commits.flush(), FLUSH_SECONDS)
        except asyncio.TimeoutError:
            self.subscription.broker.report.line(
                logging.WARNING,
                "%s: the last commit was not confirmed within %g s; what it said is delivered again",
                self.subscription.label,
                FLUSH_SECONDS,
            )

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

    def say_lost(self, went_on: Collection[Partition], begun: Collection[Partition]) -> None:
        """Log that the group has lost offsets.

        Args:
            went_on: partitions that this process has read; it goes on where it was.
            begun: partitions that somebody else has read; where they begin the reset says.
        """
        line, label = self.subscription.broker.report.line, self.subscription.label
        if went_on:
            line(
                logging.WARNING,
                "%s: the group has lost its offset of %s; going on where this process was",
                label,
                listed(went_on),
            )
        if begun:
            line(
                logging.WARNING,
                "%s: the group has no offset of %s, though it had some, and this process has not read it;"
                " auto_offset_reset=%r says where it begins, and messages may be passed over",
                label,
                listed(begun),
                self.subscription.options["auto_offset_reset"],
            )

    def say_unread(self, partitions: Collection[Partition]) -> None:
        """Log that no member of the group reads partitions, whatever is done."""
        if partitions:
            self.subscription.broker.report.line(
                logging.WARNING,
                "%s: the group does not share out %s, so nobody reads them",
                self.subscription.label,
                listed(partitions),
            )

    def say_renewed(self, topic: str) -> None:
        """Log that a topic was deleted and made again."""
        self.subscription.broker.report.line(
            logging.WARNING,
            "%s: %s was deleted and made again; reading it from its beginning",
            self.subscription.label,
            topic,
        )


def listed(partitions: Collection[Partition]) -> str:
    """Return partitions as a text for people."""
    return ", ".join(f"partition {number} of {topic}" for topic, number in sorted(partitions))
