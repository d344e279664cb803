"""Where a sender may have an answer sent to, and what is published to topics that do not exist, on a real Kafka."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_kafka import KafkaRouter, PublishError

from servers import Server
from test_kafka import admin_of, committed, make_topic
from waiting import until


@pytest.fixture
def url(kafka_server: Server) -> str:
    return kafka_server.url


@pytest.fixture
def topic() -> str:
    return f"replies-{uuid4().hex[:10]}"


async def topics_of(url: str) -> set[str]:
    async with admin_of(url) as admin:
        return set(await admin.list_topics())


async def test_a_sender_makes_no_topics(url: str, topic: str) -> None:
    seen, router = Inbox(), KafkaRouter(url)

    @router.subscriber(topic, group_id=topic)
    async def handler(msg: int) -> str:
        seen.put(msg)
        return "answer"

    async with router.broker as broker:
        before = await topics_of(url)
        began = time.monotonic()
        for number in range(40):
            await broker.publish(number, topic, reply_to=f"{topic}-{number}")
        for reply_to in ("__consumer_offsets", "a b", "x" * 5000, "a\nb", "\x00"):
            await broker.publish(40, topic, reply_to=reply_to)
        assert (await seen.take_many(45))[:40] == list(range(40))
        await until(lambda: broker.report.counts.get("replies_refused") == 45)
        assert time.monotonic() - began < 20
        await until(lambda: _is(committed(url, topic, topic), 45))
        assert len(seen.all) == 45
        assert await topics_of(url) == before


async def test_a_topic_that_there_is_gets_the_answer(url: str, topic: str) -> None:
    answers = f"{topic}-answers"
    seen, router = Inbox(), KafkaRouter(url)

    @router.subscriber(topic, group_id=topic)
    async def handler(msg: str) -> str:
        return msg.upper()

    async with router.broker as broker:
        await broker.publish("too soon", topic, reply_to=answers)
        await until(lambda: broker.report.counts.get("replies_refused") == 1)
    await make_topic(url, answers, 1)

    @router.subscriber(answers, auto_offset_reset="earliest")
    async def answered(msg: str) -> None:
        seen.put(msg)

    async with router.broker as broker:
        await broker.publish("hi", topic, reply_to=answers)
        assert await seen.take() == "HI"


async def test_a_topic_of_no_name_is_refused_at_once(url: str) -> None:
    async with KafkaRouter(url).broker as broker:
        for name in ("a b", "..", "ä", "x" * 250):
            # Without a suspension: nobody was asked and nothing was waited for.
            with pytest.raises(PublishError, match="topic"):
                broker.publish("x", name).send(None)
        with pytest.raises(PublishError, match="key=3"):
            await broker.publish("x", "a", key=3)  # type: ignore[arg-type]
        with pytest.raises(PublishError, match="partition=-1"):
            await broker.publish("x", "a", partition=-1)


async def _is(work: Any, expected: Any) -> bool:
    return bool(await work == expected)
