"""Another entry with the id of one in hand: the stream was made again, or its server restored from a backup."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_redis import NackMessage, RedisBroker, RedisStreamMessage, StreamSub

IDS = [b"1-0", b"2-0", b"3-0"]
OLD, NEW = [1, 2, 3], [11, 12, 13]


def entries(bodies: list[int]) -> list[Any]:
    return [[one, [b"__data__", b"%d" % body]] for one, body in zip(IDS, bodies, strict=True)]


class Stream:
    """Three entries of a group, and three others with their ids, at a server that says what a test wants.

    Attributes:
        runs: body and attempt of each run that began.
        acked: the ids that were acknowledged, in their order.
        release: by body: a run waits until it is set.
        fails: the old ones are handed back for an hour instead.
    """

    def __init__(self, wire: Any, fails: bool = False) -> None:
        self.runs: list[tuple[int, int]] = []
        self.acked: list[bytes] = []
        self.release = {body: asyncio.Event() for body in (*OLD, *NEW)}
        self._wire = wire
        self._now = OLD
        self.fails = fails
        self.new = [OLD]
        self.pending: list[int] = []
        wire.answers["XREADGROUP"] = self._read
        wire.answers["XACK"] = lambda words: self.acked.extend(words[3:]) or len(words) - 3
        wire.answers["XRANGE"] = lambda words: [one for one in entries(self._now) if one[0] == words[2]]
        wire.answers["XINFO"] = self._info
        self.broker = RedisBroker(wire.url, logger=None)

        @self.broker.subscriber(stream=StreamSub("s", group="g", consumer="c", claim_min_idle_time=300), max_workers=10)
        async def handle(body: int, message: RedisStreamMessage) -> None:
            self.runs.append((body, message.attempt))
            if self.fails and body in OLD:
                raise NackMessage(3600)
            await self.release[body].wait()

    def give(self, bodies: list[int], how: str) -> None:
        """Have the stream hold these, and give them: as new, as pending, or as those of a consumer that died."""
        self._now = bodies
        if how == "new":
            self.new.append(bodies)
        elif how == "pending":
            self.pending = bodies
            self._wire.answers["XPENDING"] = lambda words: [[one, b"c", 0, 1] for one in IDS if one >= words[3]]
        else:
            given = [entries(bodies)]
            self._wire.answers["XAUTOCLAIM"] = lambda _: [b"0-0", given.pop() if given else [], []]
        self._wire.cut()

    def _read(self, words: list[bytes]) -> Any:
        if words[-1] == b">":
            return [[b"s", entries(self.new.pop())]] if self.new else self._wire.never
        return [[b"s", entries(self.pending) if self.pending and words[-1] == b"0" else []]]

    def _info(self, words: list[bytes]) -> Any:
        if words[1] == b"GROUPS":
            return [[b"name", b"g", b"last-delivered-id", IDS[-1]]]
        if words[1] == b"STREAM":
            first = entries(self._now)[0]
            return [b"length", 3, b"last-generated-id", IDS[-1], b"first-entry", first, b"entries-added", 3]
        return []

    def bodies(self) -> list[int]:
        return sorted(body for body, _ in self.runs)


@pytest.mark.parametrize("how", ["new", "pending", "claimed"])
async def test_other_contents_with_the_id_of_what_runs_are_another_message(wire: Any, how: str) -> None:
    """It is handled, and the acknowledgement of the old one does not settle it."""
    stream = Stream(wire)
    async with stream.broker as broker:
        await until(lambda: stream.bodies() == OLD, what="the runs of the old ones")
        stream.give(NEW, how)
        await until(lambda: stream.bodies() == OLD + NEW, what="the runs of the new ones")
        for body in OLD:
            stream.release[body].set()
        await until(lambda: broker.report.counts.get("late") == len(OLD), what="the end of the old ones")
        assert await broker.ping()
        assert not stream.acked
        for body in NEW:
            stream.release[body].set()
        await until(lambda: sorted(stream.acked) == IDS, what="the acknowledgement of the new ones")
    assert sorted(stream.runs) == [(body, 1) for body in OLD + NEW]


@pytest.mark.parametrize("how", ["new", "pending", "claimed"])
async def test_other_contents_do_not_wait_for_the_time_of_the_old_ones(wire: Any, how: str) -> None:
    """Nor do they go on with their count of deliveries."""
    stream = Stream(wire, fails=True)
    async with stream.broker:
        await until(lambda: stream.bodies() == OLD, what="the runs of the old ones")
        stream.give(NEW, how)
        await until(lambda: stream.bodies() == OLD + NEW, what="the runs of the new ones")
        for body in NEW:
            stream.release[body].set()
        await until(lambda: sorted(stream.acked) == IDS, what="the acknowledgement of the new ones")
    assert sorted(stream.runs) == [(body, 1) for body in OLD + NEW]


@pytest.mark.parametrize("how", ["new", "pending", "claimed"])
async def test_the_same_contents_with_the_id_of_what_runs_are_the_same_message(wire: Any, how: str) -> None:
    stream = Stream(wire)
    async with stream.broker:
        await until(lambda: stream.bodies() == OLD, what="the runs")
        before = wire.connections
        stream.give(OLD, how)
        await until(lambda: wire.connections > before and wire.has_waiting, what="another connection")
        for body in OLD:
            stream.release[body].set()
        await until(lambda: sorted(stream.acked) == IDS, what="the acknowledgement")
    assert sorted(stream.runs) == [(body, 1) for body in OLD]
