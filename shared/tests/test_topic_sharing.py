"""Partitions that no member of a group has."""

from __future__ import annotations

import pytest
from fastapi_stream_core.partition import Partition
from fastapi_stream_core.topic_sharing import MOST_TRIES, PATIENCE_SECONDS, Sharing


class Group:
    """A cluster that knows what the members of a group have, and a clock."""

    def __init__(self) -> None:
        self.taken: set[Partition] | None = set()
        self.asked = 0
        self.now = 0.0
        self.sharing = Sharing(lambda: self.now)

    async def ask(self) -> set[Partition] | None:
        self.asked += 1
        return self.taken

    async def look(self, later: float = PATIENCE_SECONDS, **there: int) -> tuple[list[Partition], list[Partition]]:
        self.now += later
        return await self.sharing.look({topic: range(count) for topic, count in there.items()}, self.ask)


@pytest.fixture
def group() -> Group:
    return Group()


async def test_a_group_that_reads_everything_is_asked_once(group: Group) -> None:
    group.taken = {("a", 0), ("a", 1)}
    for _ in range(5):
        assert await group.look(a=2) == ([], [])
    assert group.asked == 1


async def test_new_partitions_have_time_to_be_shared_out(group: Group) -> None:
    group.taken = {("a", 0)}
    await group.look(a=1)
    await group.look(a=1)
    assert await group.look(a=2) == ([], [])
    assert await group.look(PATIENCE_SECONDS / 2, a=2) == ([], [])
    assert group.asked == 1
    assert await group.look(PATIENCE_SECONDS / 2, a=2) == ([("a", 1)], [])


async def test_other_members_may_read_them(group: Group) -> None:
    group.taken = {("a", 0), ("a", 1), ("other", 0)}
    await group.look(a=2)
    assert await group.look(a=2) == ([], [])


@pytest.mark.parametrize("taken", [None, {("a", 0), ("a", 1)}])
async def test_a_group_that_settles_meanwhile(group: Group, taken: set[Partition] | None) -> None:
    group.taken = None
    await group.look(a=2)
    assert await group.look(a=2) == ([], [])
    group.taken = taken
    assert await group.look(a=2) == ([], [])
    assert group.asked == 2


async def test_what_joining_does_not_mend_is_told_once(group: Group) -> None:
    group.taken = {("a", 0)}
    await group.look(a=2)
    told = [await group.look(a=2) for _ in range(MOST_TRIES + 3)]
    assert told == [([("a", 1)], [])] * MOST_TRIES + [([], [("a", 1)])] + [([], [])] * 2


async def test_a_topic_that_went_is_looked_at_anew(group: Group) -> None:
    group.taken = {("a", 0)}
    await group.look(a=1)
    await group.look(a=1)
    await group.look()
    await group.look(a=1)
    await group.look(a=1)
    assert group.asked == 2
