"""Offsets that are committed only up to the first unfinished message, and commits that are coalesced."""

from __future__ import annotations

import asyncio

import pytest
from fastapi_stream_core.partition import Commits, Offsets, Partition

LANE = ("orders", 0)


class TestOffsets:
    def test_commits_only_what_is_contiguous(self) -> None:
        offsets = Offsets(10)
        for offset in (10, 11, 12):
            assert offsets.fetched(offset)
        assert offsets.committable() is None
        assert offsets.done(11)
        assert offsets.committable() is None
        assert offsets.done(10)
        assert offsets.committable() == 12
        assert offsets.done(12)
        assert offsets.committable() == 13
        offsets.committed(13)
        assert offsets.committable() is None
        assert offsets.in_flight == 0

    def test_gaps_in_the_log_do_not_hold_it_up(self) -> None:
        offsets = Offsets(0)
        for offset in (0, 3, 7):
            offsets.fetched(offset)
        offsets.done(0)
        assert offsets.committable() == 3
        offsets.done(3)
        assert offsets.committable() == 7
        offsets.done(7)
        assert offsets.committable() == 8

    def test_what_was_finished_is_not_run_again_after_a_rejoin(self) -> None:
        offsets = Offsets(0)
        for offset in range(5):
            offsets.fetched(offset)
        for offset in (0, 1, 3):
            offsets.done(offset)
        offsets.revoked()
        assert offsets.committable() is None
        offsets.assigned(0)
        assert [offset for offset in range(7) if offsets.fetched(offset)] == [2, 4, 5, 6]
        assert offsets.committable() == 2
        offsets.done(2)
        assert offsets.committable() == 4

    def test_a_handler_that_ends_while_the_partition_is_away_counts(self) -> None:
        offsets = Offsets(0)
        offsets.fetched(0)
        offsets.fetched(1)
        offsets.revoked()
        assert not offsets.done(0)
        offsets.assigned(0)
        assert offsets.is_finished(0)
        assert not offsets.fetched(0)
        assert offsets.fetched(1)

    def test_what_the_log_lost_meanwhile_does_not_hold_up_the_commits(self) -> None:
        offsets = Offsets(0)
        for offset in range(4):
            offsets.fetched(offset)
        offsets.done(3)
        offsets.revoked()
        offsets.assigned(0)
        assert offsets.fetched(2)
        assert not offsets.fetched(3)
        offsets.done(2)
        assert offsets.committable() == 4

    def test_another_consumer_went_on(self) -> None:
        offsets = Offsets(0)
        offsets.fetched(0)
        offsets.revoked()
        offsets.assigned(50)
        assert offsets.committable() is None
        assert offsets.fetched(50)
        assert not offsets.done(0)
        assert offsets.done(50)
        assert offsets.committable() == 51

    def test_a_position_that_was_set_back_runs_everything_again(self) -> None:
        offsets = Offsets(5)
        offsets.fetched(5)
        offsets.done(5)
        offsets.committed(6)
        offsets.revoked()
        offsets.assigned(0)
        assert not offsets.is_finished(5)
        assert all(offsets.fetched(offset) for offset in range(7))

    def test_a_client_that_goes_back_by_itself(self) -> None:
        offsets = Offsets(0)
        for offset in range(3):
            offsets.fetched(offset)
        offsets.done(1)
        assert offsets.fetched(0)
        assert not offsets.fetched(1)
        assert offsets.fetched(2)
        assert offsets.position == 0

    def test_memory_is_bounded_by_what_is_in_flight(self) -> None:
        offsets = Offsets(0)
        offsets.fetched(0)
        for offset in range(1, 10_000):
            offsets.fetched(offset)
            offsets.done(offset)
        assert offsets.in_flight == 1
        assert offsets.position == 0
        assert offsets.is_finished(9_999)
        assert not offsets.is_finished(0)


class Log:
    """Takes commits, and says when one arrived."""

    def __init__(self) -> None:
        self.commits: list[dict[Partition, int]] = []
        self.times: list[float] = []
        self.errors: list[Exception] = []
        self.broken: Exception | None = None
        self.running = self.most = 0
        self.arrived = asyncio.Event()

    async def commit(self, offsets: dict[Partition, int]) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        self.times.append(asyncio.get_running_loop().time())
        self.arrived.set()
        if self.broken is not None:
            error, self.broken = self.broken, None
            raise error
        self.commits.append(offsets)

    async def next(self) -> None:
        await asyncio.wait_for(self.arrived.wait(), 5)
        self.arrived.clear()


class TestCommits:
    @pytest.fixture
    async def log(self) -> Log:
        return Log()

    async def test_at_once_when_nothing_is_in_flight(self, log: Log) -> None:
        offsets = {LANE: Offsets(0)}
        commits = Commits(log.commit, offsets, log.errors.append)
        offsets[LANE].fetched(0)
        assert commits.done(LANE, 0)
        assert commits.timer is not None
        assert commits.timer.when() <= asyncio.get_running_loop().time()
        await log.next()
        assert log.commits == [{LANE: 1}]
        await commits.close()

    async def test_ten_a_second_at_most(self, log: Log) -> None:
        offsets = {LANE: Offsets(0)}
        commits = Commits(log.commit, offsets, log.errors.append)
        for offset in range(4):
            offsets[LANE].fetched(offset)
            commits.done(LANE, offset)
            await log.next()
        assert [one[LANE] for one in log.commits] == [1, 2, 3, 4]
        assert log.times[-1] - log.times[0] >= 0.29
        await commits.close()

    async def test_every_second_under_load(self, log: Log) -> None:
        offsets = {LANE: Offsets(0)}
        commits = Commits(log.commit, offsets, log.errors.append)
        for offset in range(10):
            offsets[LANE].fetched(offset)
        commits.done(LANE, 0)
        await log.next()
        for offset in range(1, 9):
            commits.done(LANE, offset)
        await log.next()
        assert log.commits == [{LANE: 1}, {LANE: 9}]
        assert 0.9 < log.times[1] - log.times[0] < 2
        await commits.close()

    async def test_the_last_message_is_not_kept_waiting(self, log: Log) -> None:
        offsets = {LANE: Offsets(0)}
        commits = Commits(log.commit, offsets, log.errors.append)
        for offset in range(3):
            offsets[LANE].fetched(offset)
        commits.done(LANE, 0)
        await log.next()
        await asyncio.sleep(0)  # since Python 3.12 `wait_for` goes on before the commit is over
        commits.done(LANE, 1)
        assert commits.timer is not None
        under_load = commits.timer.when()
        commits.done(LANE, 2)
        assert commits.timer.when() < under_load - 0.5
        await log.next()
        assert log.commits == [{LANE: 1}, {LANE: 3}]
        await commits.close()

    async def test_a_failed_commit_is_reported_and_tried_again(self, log: Log) -> None:
        offsets = {LANE: Offsets(0)}
        commits = Commits(log.commit, offsets, log.errors.append)
        log.broken = OSError("away")
        offsets[LANE].fetched(0)
        commits.done(LANE, 0)
        await log.next()
        await log.next()
        assert [str(error) for error in log.errors] == ["away"]
        assert log.commits == [{LANE: 1}]
        await commits.close()

    async def test_flush_commits_now_and_one_at_a_time(self, log: Log) -> None:
        other = ("orders", 1)
        offsets = {LANE: Offsets(0), other: Offsets(0)}
        commits = Commits(log.commit, offsets, log.errors.append)
        for partition in (LANE, other):
            offsets[partition].fetched(0)
            offsets[partition].fetched(1)
            commits.done(partition, 0)
        await asyncio.gather(commits.flush(), commits.flush())
        assert log.commits == [{LANE: 1, other: 1}]
        assert log.most == 1
        await commits.close()

    @pytest.mark.parametrize("renewed", [True, False], ids=["made-again", "set-back"])
    async def test_a_commit_in_flight_says_nothing_of_the_log_that_came_meanwhile(
        self, log: Log, renewed: bool
    ) -> None:
        started, goes_on = asyncio.Event(), asyncio.Event()

        async def commit(offsets: dict[Partition, int]) -> None:
            started.set()
            await goes_on.wait()
            await log.commit(offsets)

        offsets = {LANE: Offsets(100)}
        commits = Commits(commit, offsets, log.errors.append)
        offsets[LANE].fetched_all(range(100, 500))
        for offset in range(100, 500):
            commits.done(LANE, offset)
        await asyncio.wait_for(started.wait(), 5)
        if renewed:
            offsets[LANE].revoked()
            offsets[LANE] = Offsets(0, committed=False)
        else:
            offsets[LANE].revoked()
            offsets[LANE].assigned(0)
        offsets[LANE].fetched_all(range(50))
        goes_on.set()
        await log.next()
        for offset in range(50):
            offsets[LANE].done(offset)
        await commits.flush()
        assert log.commits == [{LANE: 500}, {LANE: 50}]
        await commits.close()

    @pytest.mark.parametrize("scheduled", [False, True])
    async def test_a_flush_that_is_given_up_gives_up_the_commit_in_flight(self, scheduled: bool) -> None:
        asked, ended = asyncio.Event(), asyncio.Event()

        async def commit(offsets: dict[Partition, int]) -> None:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        offsets = Offsets(0)
        commits = Commits(commit, {LANE: offsets}, pytest.fail)
        offsets.fetched(0)
        offsets.done(0)
        if scheduled:
            commits.note()
            await asyncio.wait_for(asked.wait(), 5)
        flushing = asyncio.create_task(commits.flush())
        await asyncio.sleep(0)  # since Python 3.12 `wait_for` does not when there is nothing to wait for
        await asyncio.wait_for(asked.wait(), 5)
        flushing.cancel()
        await asyncio.wait([flushing])
        await asyncio.wait_for(ended.wait(), 5)
        await commits.close()

    async def test_too_late_is_told_and_never_raised(self, log: Log) -> None:
        offsets = {LANE: Offsets(0)}
        commits = Commits(log.commit, offsets, log.errors.append)
        offsets[LANE].fetched(0)
        offsets[LANE].revoked()
        assert not commits.done(LANE, 0)
        assert not commits.done(("gone", 0), 0)
        await commits.flush()
        assert log.commits == []
        await commits.close()
        offsets[LANE].assigned(1)
        offsets[LANE].fetched(1)
        assert not commits.done(LANE, 1)
        assert offsets[LANE].is_finished(1)


class TestPassedOver:
    def test_what_is_passed_over_counts_as_finished(self) -> None:
        offsets = Offsets(5)
        offsets.fetched(5)
        offsets.passed(9)
        assert offsets.position == 5
        offsets.done(5)
        assert (offsets.committable(), offsets.fetched(9), offsets.seen(8)) == (9, True, True)

    def test_what_is_passed_over_on_a_second_way_is_not_waited_for(self) -> None:
        offsets = Offsets(0)
        offsets.fetched_all(range(4))
        offsets.revoked()
        offsets.assigned(0)
        assert [offsets.fetched(0), offsets.fetched(1)] == [True, True]
        offsets.passed(3)
        assert offsets.fetched(3)
        for one in (0, 1, 3):
            offsets.done(one)
        assert offsets.committable() == 4


class TestGivenBack:
    def test_it_comes_once_more_and_what_is_finished_does_not(self) -> None:
        offsets = Offsets(0)
        offsets.fetched_all(range(10))
        offsets.done(7)
        assert offsets.give_back([8, 9])
        assert offsets.give_back([6])
        assert offsets.next == 6
        assert not offsets.fetched_all(range(6, 10))
        assert [offsets.fetched(one) for one in range(6, 12)] == [True, False, True, True, True, True]
        assert offsets.next == 12
        for one in offsets.unfinished.copy():
            offsets.done(one)
        assert offsets.committable() == 12

    def test_what_left_the_log_meanwhile_is_not_waited_for(self) -> None:
        offsets = Offsets(0)
        offsets.fetched_all(range(10))
        assert offsets.give_back(range(5, 10))
        assert offsets.fetched(9)
        for one in offsets.unfinished.copy():
            offsets.done(one)
        assert offsets.committable() == 10

    def test_nothing_when_others_behind_it_run_or_failed(self) -> None:
        offsets = Offsets(0)
        offsets.fetched_all(range(10))
        assert not offsets.give_back([5, 6, 7, 9])  # one of the five runs
        assert (offsets.next, offsets.in_flight) == (10, 10)
        offsets.done(8)
        assert offsets.give_back([5, 6, 7, 9])

    def test_nothing_when_as_many_are_others(self) -> None:
        """A count would agree: one of them is away with an outage, and what is given back is from before it."""
        offsets = Offsets(0)
        offsets.fetched_all(range(10))
        offsets.done(9)
        assert not offsets.give_back([6, 7, 9])
        assert not offsets.give_back([7, 6, 8])
        assert (offsets.next, offsets.in_flight) == (10, 9)
        assert offsets.give_back([6, 7, 8])

    def test_nothing_of_a_partition_that_is_gone(self) -> None:
        offsets = Offsets(0)
        offsets.fetched_all(range(10))
        offsets.revoked()
        assert not offsets.give_back(range(5, 10))


class TestRenewed:
    def test_the_beginning_is_committed(self) -> None:
        offsets = Offsets(0, committed=False)
        assert offsets.committable() == 0
        offsets.committed(0)
        assert offsets.committable() is None
