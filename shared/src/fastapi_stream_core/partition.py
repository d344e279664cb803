"""Offsets of partitioned logs: what was fetched, what is finished, and what may be committed when.

For brokers where a consumer acknowledges by committing one number for each partition: everything below it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice

__all__ = ("Commits", "Offsets", "Partition")

Partition = tuple[str, int]
"""Topic and number of a partition: the lane of its messages."""

UNDER_LOAD = 1.0
"""Seconds between two commits while messages are in flight."""
WHEN_IDLE = 0.1
"""Least seconds between two commits when nothing is left in flight."""
AFTER_ERROR = 1.0
"""Seconds until a commit that failed is tried again."""


class Offsets:
    """The offsets of one partition, for as long as the process lives.

    Offsets in a log have gaps (compaction, markers of transactions), so nothing is ever counted up: what is unfinished
    is remembered, and everything else that was seen is finished. That also says what was finished before the
    partition went away and came back. The memory is bounded by the messages in flight.

    Args:
        position: the offset of the next message that will be fetched.
        committed: whether the broker knows that; otherwise it is committed as soon as may be.

    Attributes:
        active: whether the consumer has the partition, so that a commit can say what is finished.
        term: how often the consumer took the partition; what was committed in an earlier term says nothing of this one.
        unfinished: the offsets that are fetched and not finished, ascending.
    """

    __slots__ = ("_again", "_base", "_committed", "_top", "active", "term", "unfinished")

    def __init__(self, position: int, committed: bool = True) -> None:
        self._base = self._top = self._committed = position
        if not committed:
            self._committed = -1
        self.unfinished: dict[int, None] = {}
        self._again: int | None = None  # while what was seen before is fetched again: the next offset of it
        self.active = True
        self.term = 0

    def assigned(self, position: int) -> None:
        """Take the partition again; fetching goes on at `position`.

        A position below what was committed means that somebody set it back, or made the topic anew: then everything
        runs again.
        """
        if not self._committed <= position <= self._top:
            self._base = self._top = position
            self.unfinished.clear()
        for offset in [one for one in self.unfinished if one < position]:
            del self.unfinished[offset]
        self._committed = position
        self._again = position if position < self._top else None
        self.active = True
        self.term += 1

    def revoked(self) -> None:
        """Give the partition up: nothing of it is committed any more. What runs may still finish."""
        self.active = False

    @property
    def top(self) -> int:
        """The offset after the last message that was fetched."""
        return self._top

    def seen(self, offset: int) -> bool:
        """Tell whether this process has fetched the message before."""
        return self._base <= offset < self._top

    def fetched(self, offset: int) -> bool:
        """Note a message that was fetched, in the order of the log; tell whether it has to be handled.

        It has not when this process has finished it before.
        """
        if self._again is None and offset < self._top:
            self.assigned(offset)  # the client went back by itself
        if self._again is not None:
            return self._fetched_again(offset, self._again)
        self.unfinished[offset] = None
        self._top = offset + 1
        return True

    def fetched_all(self, offsets: Sequence[int]) -> bool:
        """Note many messages at once, in the order of the log; all of them have to be handled.

        Args:
            offsets: at least one; a `range` where the log has no gaps.

        Returns:
            False, and nothing is noted, when this process may have fetched one of them before: `fetched` knows of each.
        """
        if self._again is not None or offsets[0] < self._top:
            return False
        self.unfinished.update(dict.fromkeys(offsets))
        self._top = offsets[-1] + 1
        return True

    def _fetched_again(self, offset: int, expected: int) -> bool:
        # What was unfinished and does not come again is no longer in the log; it must not hold up the commits.
        for gone in [one for one in self.unfinished if expected <= one < offset]:
            del self.unfinished[gone]
        if offset < self._top:
            self._again = offset + 1 if offset + 1 < self._top else None
            return offset in self.unfinished
        self._again = None
        return self.fetched(offset)

    def give_back(self, offsets: Sequence[int]) -> bool:
        """Note that fetching goes back to the first of `offsets`: what is unfinished from there on comes once more.

        Args:
            offsets: those of what is given back, ascending; at least one.

        Returns:
            False, and nothing is noted, when others from there on run or failed, which would be here twice, or when
            one of these does not come again.
        """
        offset, after = offsets[0], self.next
        if not self.active or [one for one in self.unfinished if offset <= one < after] != list(offsets):
            return False
        if offset < self._top:
            self._again = offset if self._again is None else min(self._again, offset)
        return True

    @property
    def next(self) -> int:
        """The offset that fetching goes on at."""
        return self._top if self._again is None else self._again

    def passed(self, position: int) -> None:
        """Note that nothing up to `position` comes any more: there it can't be read, and fetching goes on behind it."""
        if self._again is not None:
            for gone in [one for one in self.unfinished if self._again <= one < position]:
                del self.unfinished[gone]
            self._again = position if position < self._top else None
        self._top = max(self._top, position)

    def done(self, offset: int) -> bool:
        """Note that a message is finished; tell whether a commit can still say so."""
        unfinished = self.unfinished
        if offset in unfinished:
            del unfinished[offset]
            return self.active
        return self.active and offset >= self._base

    def is_finished(self, offset: int) -> bool:
        """Tell whether this process has fetched and finished the message."""
        return self._base <= offset < self._top and offset not in self.unfinished

    @property
    def in_flight(self) -> int:
        """How many messages are fetched and not finished."""
        return len(self.unfinished)

    @property
    def position(self) -> int:
        """The first offset that is not finished: where a consumer has to go on."""
        return next(iter(self.unfinished), self._top)

    def committable(self) -> int | None:
        """Return the next offset to commit; None when there is nothing new, or the partition is gone."""
        if not self.active:
            return None
        position = self.position
        return position if position > self._committed else None

    def committed(self, position: int) -> None:
        """Note that a commit of `position` succeeded."""
        self._committed = max(self._committed, position)

    def __repr__(self) -> str:
        unfinished = ", ".join(map(str, islice(self.unfinished, 5)))
        return f"{type(self).__name__}(position={self.position}, top={self._top}, unfinished=[{unfinished}])"


class Commits:
    """Commits the offsets of one consumer, coalesced, on the event loop it is made on.

    At most one commit is in flight: every second under load, at once when nothing is left in flight, but at most ten a
    second. One that failed is reported and tried again; an error never reaches a handler.

    Args:
        commit: commits the next offset of each partition; returns when the broker has confirmed it.
        offsets: the partitions of the consumer; it may change all the time.
        failed: told of each commit that failed.

    Attributes:
        timer: the next commit. While there is one, and something of a partition is in flight, a source may note on
            its `Offsets` alone that a message is finished; otherwise it calls `note` too.
    """

    def __init__(
        self,
        commit: Callable[[dict[Partition, int]], Awaitable[None]],
        offsets: Mapping[Partition, Offsets],
        failed: Callable[[Exception], None],
    ) -> None:
        self._commit = commit
        self._offsets = offsets
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time() - UNDER_LOAD
        self.timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[bool] | None = None
        self._closed = False

    def done(self, partition: Partition, offset: int) -> bool:
        """Note a finished message; tell whether a commit will say so (it is too late when the partition is gone)."""
        known = self._offsets.get(partition)
        if known is None or not known.done(offset):
            return False
        if self.timer is None or not known.unfinished:
            self.note()
        return not self._closed

    def note(self) -> None:
        """Note that there may be something to commit."""
        if self._task is not None or self._closed:
            return
        idle = not any(one.in_flight and one.active for one in self._offsets.values())
        self._arm(WHEN_IDLE if idle else UNDER_LOAD)

    def _arm(self, interval: float) -> None:
        at = max(self._loop.time(), self._last + interval)
        if self.timer is not None:
            if self.timer.when() <= at:
                return
            self.timer.cancel()
        self.timer = self._loop.call_at(at, self._begin)

    def _begin(self) -> asyncio.Task[bool]:
        self.timer = None
        if self._task is None:
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(self._ran)
        return self._task

    async def _run(self) -> bool:
        """Commit once; tell whether that went well."""
        due: dict[Partition, int] = {}
        said: list[tuple[Offsets, int, int]] = []
        for partition, one in self._offsets.items():
            if (position := one.committable()) is not None:
                due[partition] = position
                said.append((one, one.term, position))
        if not due:
            return True
        self._last = self._loop.time()
        try:
            await self._commit(due)
        except Exception as error:
            self._failed(error)
            return False
        for one, term, position in said:
            # Meanwhile the partition may have been taken again, or begun anew with other `Offsets`.
            if one.active and one.term == term:
                one.committed(position)
        return True

    def _ran(self, task: asyncio.Task[bool]) -> None:
        if self._task is task:
            self._task = None
        if self._closed or task.cancelled():
            return
        if not task.result():
            self._arm(AFTER_ERROR)
        elif any(one.committable() is not None for one in self._offsets.values()):
            self.note()

    async def flush(self) -> None:
        """Commit now what may be committed; for a partition that goes, and for the end. Raises nothing.

        Who waits no longer gives up the commit that is in flight: the client would go on with it when the partition is
        somebody else's, who has committed more.
        """
        try:
            while self._task is not None:
                await asyncio.wait([self._task])
            if self.timer is not None:
                self.timer.cancel()
            await asyncio.wait([self._begin()])
        except asyncio.CancelledError:
            if self._task is not None:
                self._task.cancel()
            raise

    async def close(self) -> None:
        """Commit nothing more; a commit in flight is given up."""
        self._closed = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
