"""What every source of a broker with partitions does: giving back, commits that come too late, the last commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi_stream_core import topic_source
from fastapi_stream_core.dispatch import Dispatcher
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.partition import Commits, Offsets, Partition
from fastapi_stream_core.topic_message import TopicMessage
from fastapi_stream_core.topic_source import TopicSource

from scripted import ScriptedBroker

LANE = ("orders", 0)


class Message(TopicMessage):
    __slots__ = ()
    pairs_of = staticmethod(lambda raw: raw)


class Source(TopicSource):
    """A source without a client; it notes where it went back to.

    Attributes:
        held: whether its partition is held.
        went_back: the offsets that it went back to.
    """

    held = True

    def __init__(self, count: int = 10) -> None:
        broker = ScriptedBroker()
        subscription = broker.subscriber("in")

        @subscription
        async def handler(body: bytes) -> None: ...

        super().__init__(subscription, {LANE: Offsets(0)})
        self.dispatcher = Dispatcher(subscription)
        self.report = broker.report
        self.went_back: list[int] = []
        self.offsets[LANE].fetched_all(range(count))

    def messages(self, *offsets: int) -> list[StreamMessage]:
        return [Message((), b"", one, LANE, self.offsets[LANE]) for one in offsets]

    async def start(self) -> None: ...

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        return []

    async def close(self) -> None: ...

    def may_go_back(self, partition: Partition) -> bool:
        return self.held

    def go_back(self, partition: Partition, offset: int) -> None:
        self.went_back.append(offset)


class TestGivingBack:
    async def test_the_last_messages_of_a_held_partition(self) -> None:
        source = Source()
        assert source.give_back(LANE, source.messages(7, 8, 9))
        assert source.give_back(LANE, source.messages(5, 6))
        assert (source.went_back, source.offsets[LANE].next) == ([7, 5], 5)

    async def test_not_when_another_one_behind_them_runs_or_failed(self) -> None:
        source = Source()
        assert not source.give_back(LANE, source.messages(7, 9))
        assert (source.went_back, source.offsets[LANE].next) == ([], 10)

    async def test_not_when_the_partition_is_not_held(self) -> None:
        source = Source()
        source.held = False
        assert not source.give_back(LANE, source.messages(8, 9))

    async def test_not_when_the_partition_is_gone_or_another_one(self) -> None:
        source = Source()
        messages = source.messages(8, 9)
        source.give_up([LANE])
        assert not source.give_back(LANE, messages)
        source.renew(LANE, 0)
        assert not source.give_back(LANE, messages)
        source.forget(LANE)
        assert not source.give_back(LANE, messages)
        assert source.went_back == []


class TestCommits:
    @pytest.mark.parametrize("is_late", [True, False])
    async def test_one_that_comes_too_late_is_counted_and_another_error_is_said(
        self, is_late: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = Source()
        with caplog.at_level(logging.WARNING):
            source.commit_failed(OSError("no answer"), "no answer", is_late)
        said = [record.getMessage().partition(": ")[2] for record in caplog.records]
        assert said == ([] if is_late else ["a commit failed, it is tried again: no answer"])
        assert source.report.counts.get("late", 0) == is_late

    async def test_the_last_one_is_bounded_in_time(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(topic_source, "FLUSH_SECONDS", 0.05)
        source = Source()

        async def commit(due: dict[Partition, int]) -> None:
            await asyncio.Event().wait()

        failures: list[Any] = []
        source.commits = Commits(commit, source.offsets, failures.append)
        source.offsets[LANE].done(0)
        with caplog.at_level(logging.WARNING):
            await source.flush()
        await source.commits.close()
        (line,) = [record.getMessage() for record in caplog.records]
        assert "the last commit was not confirmed within 0.05 s" in line
        assert failures == []
