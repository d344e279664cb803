"""Whether the members of a group read all of its partitions: who shares them out may not have seen the newest ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from time import monotonic

from .partition import Partition

__all__ = ("PATIENCE_SECONDS", "Sharing")

PATIENCE_SECONDS = 9.0
"""How long the group may take until it shares new partitions out; three looks at the topics."""
MOST_TRIES = 2


class Sharing:
    """Finds partitions of a subscription that no member of its group has, long after they were made.

    The leader of a group shares out the partitions that it knows of. One that reads other topics may never look at
    these again, and one that came back under the name of a static member does not know that it leads.

    Args:
        clock: tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._complete: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._tries: dict[Partition, int] = {}

    async def look(
        self,
        there: Mapping[str, Collection[int]],
        ask: Callable[[], Awaitable[Collection[Partition] | None]],
    ) -> tuple[list[Partition], list[Partition]]:
        """Look whether all that there is has a reader; the cluster is asked only when there is another number of it.

        Args:
            there: the partitions of the subscription's topics.
            ask: returns the partitions that the members have; None while the group has not settled, or nobody says.

        Returns:
            The partitions to join the group again for, and those for which that was done and did not help.
        """
        now = self._clock()
        self._complete = {topic: count for topic, count in self._complete.items() if topic in there}
        waiting = [topic for topic, numbers in there.items() if self._complete.get(topic) != len(numbers)]
        self._since = {topic: self._since.get(topic, now) for topic in waiting}
        due = [topic for topic in waiting if now - self._since[topic] >= PATIENCE_SECONDS]
        if not due:
            return [], []
        self._since.update(dict.fromkeys(due, now))
        taken = await ask()
        if taken is None:
            return [], []
        again: list[Partition] = []
        in_vain: list[Partition] = []
        for topic in due:
            left_out = [(topic, number) for number in sorted(there[topic]) if (topic, number) not in taken]
            if left_out and self._tries.get(left_out[-1], 0) < MOST_TRIES:
                self._tries[left_out[-1]] = self._tries.get(left_out[-1], 0) + 1
                again += left_out
            else:
                in_vain += left_out
                self._complete[topic] = len(there[topic])
                del self._since[topic]
                self._tries = {one: count for one, count in self._tries.items() if one[0] != topic}
        return again, in_vain
