"""What was handled is acknowledged, whatever Redis says to that at first."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_redis import AckPolicy, RedisBroker, RedisStreamMessage, StreamSub, ledger
from fastapi_stream_redis.commands import Commands

ENTRIES = [[b"%d-0" % number, [b"__data__", b"%d" % number]] for number in range(1, 4)]
IDS = [b"1-0", b"2-0", b"3-0"]
STREAM = [b"length", 3, b"last-generated-id", b"3-0", b"first-entry", ENTRIES[0], b"entries-added", 3]
GROUP = [b"name", b"g", b"last-delivered-id", b"3-0"]
DEADLINE = 20.0


class Group:
    """Three entries of a group, at a server that says what a test wants to their acknowledgement.

    Attributes:
        runs: the bodies that were handled.
        acked: the ids of every XACK that came.
        taken: the ids that the server took.
        hold: cleared to have the handler wait until it is set.
    """

    def __init__(self, wire: Any, refusals: list[str], idle: int = 300, **options: Any) -> None:
        self.runs: list[int] = []
        self.acked: list[list[bytes]] = []
        self.taken: list[bytes] = []
        self._refusals = refusals
        self._wire = wire
        self.hold = asyncio.Event()
        self.hold.set()
        new = wire.once([[b"s", ENTRIES]])
        wire.answers["XREADGROUP"] = lambda words: new(words) if words[-1] == b">" else [[b"s", []]]
        wire.answers["XACK"] = self._ack
        wire.answers["XRANGE"] = lambda words: [one for one in ENTRIES if one[0] == words[2]]
        wire.answers["XINFO"] = lambda words: {b"STREAM": STREAM, b"GROUPS": [GROUP]}.get(words[1], [])
        self.broker = RedisBroker(wire.url, **options)

        @self.broker.subscriber(stream=StreamSub("s", group="g", consumer="c", claim_min_idle_time=idle))
        async def handle(body: int) -> None:
            self.runs.append(body)
            await self.hold.wait()

    async def acknowledged(self) -> None:
        """Wait until everything is acknowledged, it is known here, and nothing more is asked for."""
        await until(
            lambda: sorted(self.taken) == IDS and self._wire.has_waiting, what="an acknowledgement of everything"
        )
        assert await self.broker.ping()

    def give_new(self) -> None:
        """Give the entries once more as new ones."""
        new = self._wire.once([[b"s", ENTRIES]])
        self._wire.answers["XREADGROUP"] = lambda words: new(words) if words[-1] == b">" else [[b"s", []]]

    def give_pending(self, idle: int) -> None:
        """Have the entries pending, as long as nobody acknowledges them; delivered `idle` milliseconds ago."""

        def pending(words: list[bytes]) -> Any:
            if words[-1] == b">":
                return self._wire.never
            return [[b"s", [one for one in ENTRIES if words[-1] == b"0" and one[0] not in self.taken]]]

        self._wire.answers["XREADGROUP"] = pending
        self._wire.answers["XPENDING"] = [[one, b"c", idle, 1] for one in IDS]

    def _ack(self, words: list[bytes]) -> Any:
        self.acked.append(words[3:])
        if self._refusals:
            return Exception(self._refusals.pop(0))
        known = [one for one in words[3:] if one not in self.taken]
        self.taken += known
        return len(known)


@pytest.mark.parametrize(
    "said",
    [
        "NOPERM User u has no permissions to run the 'xack' command",
        "MISCONF Errors writing to the AOF file: No space left on device",
    ],
)
async def test_a_refused_acknowledgement_is_sent_again(wire: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
    group = Group(wire, [said] * 3)
    with caplog.at_level(logging.WARNING):
        async with group.broker as broker:
            await until(lambda: sorted(group.taken) == IDS, what="an acknowledgement of everything")
    assert group.runs == [1, 2, 3]
    assert "late" not in broker.report.counts
    told = [record.getMessage() for record in caplog.records if "no acknowledgements" in record.getMessage()]
    assert len(told) == said.startswith("NOPERM")
    assert all(said.split(None, 1)[1] in one for one in told)


async def test_what_waits_for_its_acknowledgement_is_claimed_by_nobody_else(wire: Any) -> None:
    group = Group(wire, ["NOPERM no permissions"] * 1000, logger=None)
    claimed: set[bytes] = set()
    wire.answers["XCLAIM"] = lambda words: claimed.update(words[5:-1]) or []
    async with group.broker:
        await until(lambda: group.runs == [1, 2, 3], what="handling everything")
        claimed.clear()
        await until(lambda: {*IDS} <= claimed, what="the extension of the claims")
        group._refusals.clear()
        await until(lambda: sorted(group.taken) == IDS, what="an acknowledgement of everything")


async def test_claims_are_renewed_at_most_ten_times_a_second(wire: Any) -> None:
    group, count = Group(wire, ["NOPERM no permissions"] * 1000, logger=None), 5
    claims: list[float] = []
    now = asyncio.get_running_loop().time
    wire.answers["XCLAIM"] = lambda _: claims.append(now()) or []
    async with group.broker:
        await until(lambda: len(claims) > count, what="the extension of the claims")
    assert claims[count] - claims[0] > (count - 1) / 10


async def test_an_acknowledgement_that_redis_forgot_is_sent_again(wire: Any) -> None:
    """A failover loses the newest of them, and the entries are pending again: delivered before they were finished."""
    group = Group(wire, [], logger=None)
    async with group.broker as broker:
        await group.acknowledged()
        group.taken.clear()
        group.give_pending(idle=60_000)
        wire.cut()
        await group.acknowledged()
        assert "late" not in broker.report.counts
    assert group.runs == [1, 2, 3]


@pytest.mark.parametrize("how", ["claimed", "lost", "claimed and new", "lost and new"])
async def test_what_is_delivered_after_redis_took_its_acknowledgement_runs(wire: Any, how: str) -> None:
    """The group was set back, or the stream made again with the same ids.

    Another consumer died with the entries, or the reply that had them was lost; then the group is set back once more.
    """
    group = Group(wire, [], logger=None)
    async with group.broker as broker:
        await group.acknowledged()
        for number, one in enumerate(how.split(" and "), 2):
            group.taken.clear()
            wire.answers["XAUTOCLAIM"] = [b"0-0", [], []]
            if one == "claimed":
                given = [ENTRIES]
                wire.answers["XAUTOCLAIM"] = lambda words, given=given: [b"0-0", given.pop() if given else [], []]
            elif one == "lost":
                group.give_pending(idle=0)
            else:
                group.give_new()
            wire.cut()
            await group.acknowledged()
            assert group.runs == [1, 2, 3] * number
        assert "late" not in broker.report.counts


async def test_an_acknowledgement_that_redis_did_not_take_is_not_one_of_a_later_delivery(wire: Any) -> None:
    group = Group(wire, ["NOPERM no permissions"] * 1000, logger=None)
    async with group.broker as broker:
        await until(lambda: len(group.runs) == 3 and bool(group.acked), what="an acknowledgement that is refused")
        acked = asyncio.Event()
        wire.answers["XAUTOCLAIM"] = lambda words: acked.set() or [b"0-0", ENTRIES, []]
        wire.cut()
        await asyncio.wait_for(acked.wait(), DEADLINE)
        wire.answers["XAUTOCLAIM"] = [b"0-0", [], []]
        refused = len(group.acked)
        await until(lambda: len(group.acked) > refused, what="one more attempt")
        assert group.runs == [1, 2, 3]
        group.hold.clear()
        group.give_new()
        wire.cut()
        await until(lambda: len(group.runs) > 3, what="another run")
        assert await broker.ping()  # what was on its way is answered
        group.acked.clear()
        group._refusals.clear()
        assert not group.taken
        group.hold.set()
        await group.acknowledged()
        assert group.runs == [1, 2, 3] * 2
        assert broker.report.counts["late"] == 3


async def test_a_stream_that_is_something_else_now_takes_no_acknowledgement(wire: Any) -> None:
    group = Group(wire, ["WRONGTYPE Operation against a key holding the wrong kind of value"] * 100, logger=None)
    async with group.broker as broker:
        await until(lambda: broker.report.counts.get("late") == 3, what="giving it up")


async def test_what_a_server_refuses_for_ever_is_bounded(wire: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The entries stay pending at Redis; here no more than so many acknowledgements of them wait."""
    count, said = 14_000, "NOPERM User u has no permissions to run the 'xack' command"
    group = Group(wire, [said] * 1_000_000)
    numbers = iter(range(1, count + 1))

    def entries(words: list[bytes]) -> Any:
        if words[-1] != b">":
            return [[b"s", []]]
        most = int(words[words.index(b"COUNT") + 1])
        taken = [number for _, number in zip(range(most), numbers, strict=False)]
        some = [[b"%d-0" % number, [b"__data__", b"%d" % number]] for number in taken]
        return [[b"s", some]] if some else wire.never

    wire.answers["XREADGROUP"] = entries
    claimed: set[bytes] = set()
    wire.answers["XCLAIM"] = lambda words: claimed.update(words[5:-1]) or []
    with caplog.at_level(logging.WARNING):
        async with group.broker as broker:
            await until(lambda: len(group.runs) == count, what="handling everything")
            for _ in range(2):  # the first one may have begun before the oldest were given up
                claimed.clear()
                await until(lambda: b"%d-0" % count in claimed, what="the extension of the claims")
            assert len(claimed) <= 10_000
            assert broker.report.counts["late"] == count - 10_000
            group._refusals.clear()
            await until(lambda: len(group.taken) == 10_000, what="an acknowledgement of the rest")
    assert sum("are given up" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("count", [3, 1000])
async def test_an_acknowledgement_after_the_end_is_late(wire: Any, count: int) -> None:
    """A handler that outlives the stop, or somebody who kept a message and settles it by hand."""
    entries = [[b"%d-0" % number, [b"__data__", b"%d" % number]] for number in range(1, count + 1)]
    new = wire.once([[b"s", entries]])
    wire.answers["XREADGROUP"] = lambda words: new(words) if words[-1] == b">" else [[b"s", []]]
    broker = RedisBroker(wire.url, logger=None)
    kept: list[RedisStreamMessage] = []

    @broker.subscriber(stream=StreamSub("s", group="g", consumer="c"), ack_policy=AckPolicy.MANUAL, max_workers=count)
    async def handle(msg: RedisStreamMessage) -> None:
        kept.append(msg)

    async with broker:
        await until(lambda: len(kept) == count, what="handling everything")
    before = asyncio.all_tasks()
    for one in kept:
        await one.ack()
    assert broker.report.counts["late"] == count
    assert asyncio.all_tasks() == before
    assert "XACK" not in wire.names()


async def test_acknowledging_waits_longer_and_longer_for_a_server_that_is_away(
    wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(wire, ["LOADING Redis is loading the dataset in memory"] * 1000, logger=None)
    monkeypatch.setattr(ledger, "ACK_SECONDS", 0.0)
    attempts: list[float] = []
    clock = asyncio.get_running_loop().time
    execute = Commands.execute

    async def noted(self: Commands, *command: Any, timeout: float) -> Any:
        if command[0] == "XACK":
            attempts.append(clock())
        return await execute(self, *command, timeout=timeout)

    monkeypatch.setattr(Commands, "execute", noted)
    async with group.broker:
        await until(lambda: len(attempts) == 4, what="four attempts")
        gaps = [later - earlier for earlier, later in pairwise(attempts)]
        assert all(gap >= least for gap, least in zip(gaps, (0.2, 0.4, 0.8), strict=True)), gaps
        group._refusals.clear()
        monkeypatch.undo()
        await until(lambda: sorted(group.taken) == IDS, what="an acknowledgement of everything")
