"""Which topics are answered."""

from __future__ import annotations

import pytest
from fastapi_stream_core import topic_reply
from fastapi_stream_core.topic_reply import ReplyTopics, name_refusal, topic_fault


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
