"""What was handled is acknowledged, whatever Redis says to that at first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from fastapi_stream_redis import AckPolicy, RedisBroker, RedisStreamMessage, StreamSub, ledger
from fastapi_stream_redis.commands import Commands

ENTRIES = [[b"%d-0" % number, [b"__data__", b"%d" % number]] for number in range(1, 4)]
IDS = [b"1-0", b"2-0", b"3-0"]
DEADLINE = 20.0


async def until(condition: Callable[[], bool], what: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE
    while not condition():
        assert loop.time() < deadline, f"{what} did not happen"
        tick = asyncio.Event()
        loop.call_later(0.01, tick.set)
        await tick.wait()


class Group:
    """Three entries of a group, at a server that says what a test wants to their acknowledgement.

    Attributes:
        runs: the bodies that were handled.
        acked: the ids of every XACK that came.
        taken: the ids that the server took.
    """

    def __init__(self, wire: Any, refusals: list[str], idle: int = 300, **options: Any) -> None:
        self.runs: list[int] = []
        self.acked: list[list[bytes]] = []
        self.taken: list[bytes] = []
        self._refusals = refusals
        self._wire = wire
        new = wire.once([[b"s", ENTRIES]])
        wire.answers["XREADGROUP"] = lambda words: new(words) if words[-1] == b">" else [[b"s", []]]
        wire.answers["XACK"] = self._ack
        self.broker = RedisBroker(wire.url, **options)

        @self.broker.subscriber(stream=StreamSub("s", group="g", consumer="c", claim_min_idle_time=idle))
        async def handle(body: int) -> None:
            self.runs.append(body)

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
            await until(lambda: sorted(group.taken) == IDS, "an acknowledgement of everything")
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
        await until(lambda: group.runs == [1, 2, 3], "handling everything")
        claimed.clear()
        await until(lambda: {*IDS} <= claimed, "the extension of the claims")
        group._refusals.clear()
        await until(lambda: sorted(group.taken) == IDS, "an acknowledgement of everything")


async def test_claims_are_renewed_at_most_ten_times_a_second(wire: Any) -> None:
    group, count = Group(wire, ["NOPERM no permissions"] * 1000, idle=1, logger=None), 5
    claims: list[float] = []
    now = asyncio.get_running_loop().time
    wire.answers["XCLAIM"] = lambda _: claims.append(now()) or []
    async with group.broker:
        await until(lambda: len(claims) > count, "the extension of the claims")
    assert claims[count] - claims[0] > (count - 1) / 10


async def test_an_acknowledgement_that_redis_forgot_is_sent_again(wire: Any) -> None:
    """A failover loses the newest of them, and the entries are pending again."""
    group = Group(wire, [], logger=None)
    async with group.broker as broker:
        await until(lambda: sorted(group.taken) == IDS, "an acknowledgement of everything")
        group.taken.clear()
        wire.answers["XAUTOCLAIM"] = lambda words: [b"0-0", [] if group.taken else ENTRIES, []]
        new = wire.once([[b"s", []]])
        wire.answers["XREADGROUP"] = lambda words: new(words) or [[b"s", []]]
        await until(lambda: sorted(group.taken) == IDS, "another acknowledgement of everything")
        assert "late" not in broker.report.counts
    assert group.runs == [1, 2, 3]


async def test_a_stream_that_is_something_else_now_takes_no_acknowledgement(wire: Any) -> None:
    group = Group(wire, ["WRONGTYPE Operation against a key holding the wrong kind of value"] * 100, logger=None)
    async with group.broker as broker:
        await until(lambda: broker.report.counts.get("late") == 3, "giving it up")


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
            await until(lambda: len(group.runs) == count, "handling everything")
            for _ in range(2):  # the first one may have begun before the oldest were given up
                claimed.clear()
                await until(lambda: b"%d-0" % count in claimed, "the extension of the claims")
            assert len(claimed) <= 10_000
            assert broker.report.counts["late"] == count - 10_000
            group._refusals.clear()
            await until(lambda: len(group.taken) == 10_000, "an acknowledgement of the rest")
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
        await until(lambda: len(kept) == count, "handling everything")
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
        await until(lambda: len(attempts) == 4, "four attempts")
        gaps = [later - earlier for earlier, later in pairwise(attempts)]
        assert all(gap >= least for gap, least in zip(gaps, (0.2, 0.4, 0.8), strict=True)), gaps
        group._refusals.clear()
        monkeypatch.undo()
        await until(lambda: sorted(group.taken) == IDS, "an acknowledgement of everything")
