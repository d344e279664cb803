"""Which topics are answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi_stream_core import topic_reply
from fastapi_stream_core.errors import BrokerUnavailable, PublishError
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.topic_reply import ReplyTopics, TopicAnswers, name_refusal, topic_fault


class Cluster:
    def __init__(self, **topics: bool) -> None:
        self.topics: dict[str, bool] = topics
        self.asked: list[str] = []

    async def find(self, topic: str) -> bool | None:
        self.asked.append(topic)
        return self.topics.get(topic)


@pytest.mark.parametrize("name", ["a", "a.b_c-D9", "x" * 249, "..."])
def test_names(name: str) -> None:
    assert topic_fault(name) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ä", "a\n", "a\0", "x" * 250, "a,b", "*"])
async def test_what_is_no_name_is_never_asked_for(name: str) -> None:
    cluster = Cluster()
    assert topic_fault(name) is not None
    assert await ReplyTopics(cluster.find).refusal(name) == topic_fault(name)
    assert cluster.asked == []


async def test_topics_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(topic_reply, "monotonic", lambda: now)
    cluster = Cluster(answers=False, _private=True)
    topics = ReplyTopics(cluster.find)
    assert await topics.refusal("answers") is None
    assert await topics.refusal("answers") is None
    assert await topics.refusal("_private") == await topics.refusal("__consumer_offsets") == name_refusal("__x")
    assert await topics.refusal("new") == "there is no such topic"
    assert await topics.refusal("new") is not None
    assert cluster.asked == ["answers", "_private", "new"]
    cluster.topics["new"] = False
    now += topic_reply.MISSING_SECONDS
    assert await topics.refusal("new") is None
    assert cluster.asked[3:] == ["new"]
    now += topic_reply.THERE_SECONDS
    del cluster.topics["answers"]
    assert await topics.refusal("answers") is not None


async def test_what_senders_ask_for_is_not_remembered_for_ever() -> None:
    cluster = Cluster(answers=False)
    topics = ReplyTopics(cluster.find)
    for number in range(3 * topic_reply.MOST):
        await topics.refusal(f"made-up-{number}")
    assert len(topics._known) == topic_reply.MOST
    assert await topics.refusal("answers") is None


class Partitions:
    """Topics of one partition; those without a leader confirm nothing."""

    def __init__(self, *leaderless: str) -> None:
        self.leaderless = set(leaderless)
        self.began: list[str] = []
        self.given_up: list[str] = []
        self.moved = asyncio.Event()

    async def publish(self, message: Outgoing) -> Any:
        self.began.append(message.address)
        try:
            if message.address in self.leaderless or message.address == "slow":
                await self.moved.wait()
        except asyncio.CancelledError:
            self.given_up.append(message.address)
            raise
        if message.address == "away":
            raise BrokerUnavailable("here", "publish", 0, "away")
        return message.address

    async def is_led(self, topic: str) -> bool:
        return topic not in self.leaderless


class TestAnswers:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(topic_reply, "LEADER_SECONDS", 0.05)

    async def test_a_topic_that_nobody_leads_is_waited_for_once(self) -> None:
        partitions = Partitions("dead")
        answers = TopicAnswers(partitions.publish, partitions.is_led)
        for _ in range(3):
            with pytest.raises(PublishError, match="has no leader"):
                await answers.publish(Outgoing("dead", b"", "1"))
        await asyncio.sleep(0)
        assert partitions.began == partitions.given_up == ["dead"]
        assert await answers.publish(Outgoing("there", b"", "1")) == "there"
        partitions.leaderless.clear()
        for _ in range(2):
            assert await answers.publish(Outgoing("dead", b"", "1")) == "dead"

    async def test_a_topic_that_has_a_leader_is_waited_for(self) -> None:
        partitions = Partitions()
        answers = TopicAnswers(partitions.publish, partitions.is_led)
        waiting = asyncio.ensure_future(answers.publish(Outgoing("slow", b"", "1")))
        done, _ = await asyncio.wait((waiting,), timeout=0.3)
        assert not done
        partitions.moved.set()
        assert await waiting == "slow"
        assert partitions.began == ["slow"]

    async def test_what_publishing_says_is_said(self) -> None:
        partitions = Partitions()
        with pytest.raises(BrokerUnavailable):
            await TopicAnswers(partitions.publish, partitions.is_led).publish(Outgoing("away", b"", "1"))

    async def test_who_is_cancelled_gives_it_up(self) -> None:
        partitions = Partitions("dead")
        answers = TopicAnswers(partitions.publish, partitions.is_led)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(answers.publish(Outgoing("dead", b"", "1")), 0.01)
        await asyncio.sleep(0)
        assert partitions.given_up == ["dead"]
