"""Kafka refuses a whole batch for one record, or for the size of all: who shares it is not to suffer; both packages."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import fastapi_stream_confluent as with_confluent
import fastapi_stream_kafka as with_aiokafka
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from servers import Server
from test_kafka import make_topic
from waiting import until

BOTH = pytest.mark.parametrize(
    "routers", [pytest.param(with_aiokafka, id="aiokafka"), pytest.param(with_confluent, id="confluent")]
)
LIMIT = 50_000
SMALL = 1000
TOGETHER: dict[str, Any] = {"linger_ms": 50, "max_batch_size": 1_000_000}
COMPACTED = {"cleanup.policy": "compact"}


@pytest.fixture
def url(kafka_server: Server) -> str:
    return kafka_server.url


@pytest.fixture
def topic() -> str:
    return f"batches-{uuid4().hex[:10]}"


async def bodies_of(url: str, topic: str, count: int) -> list[bytes]:
    """Return what is in a topic of one partition, when that is `count` records or more."""
    found: list[bytes] = []
    async with AIOKafkaConsumer(topic, bootstrap_servers=url, auto_offset_reset="earliest") as consumer:

        async def enough() -> bool:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found.extend(one.value for one in records)
            return len(found) >= count

        await until(enough)
    return found


@BOTH
async def test_messages_that_are_too_large_together(url: str, topic: str, routers: Any) -> None:
    await make_topic(url, topic, 1, {"max.message.bytes": str(LIMIT)})
    bodies = [b"%03d" % number + b"x" * SMALL for number in range(200)]
    async with routers.KafkaBroker(url, **TOGETHER) as broker:
        await asyncio.gather(*(broker.publish(one, topic) for one in bodies))
        assert await bodies_of(url, topic, len(bodies)) == bodies
        await broker.publish(b"the last one", topic)
    assert await bodies_of(url, topic, len(bodies) + 1) == [*bodies, b"the last one"]


@BOTH
async def test_only_what_is_too_large_alone_is_refused(url: str, topic: str, routers: Any) -> None:
    await make_topic(url, topic, 1, {"max.message.bytes": str(LIMIT)})
    bodies = [b"%d" % number for number in range(20)]
    async with routers.KafkaBroker(url, **TOGETHER) as broker:
        publications = [broker.publish(one, topic) for one in [*bodies[:10], b"x" * (LIMIT + 1), *bodies[10:]]]
        results = await asyncio.gather(*publications, return_exceptions=True)
    assert [type(one) for one in results if isinstance(one, Exception)] == [routers.PublishError]
    assert isinstance(results[10], routers.PublishError)
    assert await bodies_of(url, topic, len(bodies)) == bodies


@BOTH
async def test_only_the_record_that_is_invalid_is_refused(url: str, topic: str, routers: Any) -> None:
    await make_topic(url, topic, 1, COMPACTED)
    async with routers.KafkaBroker(url, **TOGETHER) as broker:
        for number in range(3):
            publications = [broker.publish(b"%d" % one, topic, key=f"{number}-{one}") for one in range(20)]
            *good, bad = await asyncio.gather(*publications, broker.publish(b"x", topic), return_exceptions=True)
            assert not [one for one in good if isinstance(one, BaseException)]
            assert isinstance(bad, routers.PublishError)
    assert Counter(await bodies_of(url, topic, 60)) == Counter(b"%d" % one for one in range(20) for _ in range(3))


@BOTH
async def test_the_answer_of_a_stranger(url: str, topic: str, routers: Any) -> None:
    """It goes to a topic that the app publishes to with keys."""
    state, asked = f"{topic}-state", f"{topic}-asked"
    await make_topic(url, state, 1, COMPACTED)
    for name in (topic, asked):
        await make_topic(url, name, 1)
    count, router = 50, routers.KafkaRouter(url, **TOGETHER)

    @router.subscriber(topic, group_id=topic, max_workers=count, auto_offset_reset="earliest")
    @router.publisher(state)
    async def handler(msg: int) -> Any:
        return routers.KafkaResponse(msg, key=f"{msg}")

    @router.subscriber(asked, group_id=topic, max_workers=count, auto_offset_reset="earliest")
    async def answer(msg: int) -> int:
        return msg

    async with router.broker as broker:
        publications = [broker.publish(one, topic) for one in range(count)]
        await asyncio.gather(*publications, *(broker.publish(one, asked, reply_to=state) for one in range(count)))
        found = await bodies_of(url, state, count)
        await until(lambda: broker.report.counts.get("replies_refused") == count)
        assert broker.report.counts == {"replies_refused": count}
    assert sorted(map(int, found)) == list(range(count))


async def test_the_next_message_needs_no_other_producer(url: str, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka leaves a gap in the sequence where a batch was refused."""
    await make_topic(url, topic, 1, COMPACTED)
    start, started = AIOKafkaProducer.start, 0

    async def counted(producer: AIOKafkaProducer) -> None:
        nonlocal started
        started += 1
        await start(producer)

    monkeypatch.setattr(AIOKafkaProducer, "start", counted)
    async with with_aiokafka.KafkaBroker(url) as broker:
        for number in range(5):
            with pytest.raises(with_aiokafka.PublishError):
                await broker.publish("no key", topic)
            await broker.publish(number, topic, key=f"{number}")
    assert started == 1
    assert await bodies_of(url, topic, 5) == [b"%d" % one for one in range(5)]
