"""Topics that are deleted and made again, and offsets that left the log, on a real Kafka."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import KafkaTimeoutError
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_kafka import BrokerUnavailable, KafkaRouter, PublishError
from fastapi_stream_kafka.source import KafkaSource

from servers import Server
from test_kafka import admin_of, committed, make_topic
from waiting import until

SECONDS = 20.0


@pytest.fixture
def url(kafka_server: Server) -> str:
    return kafka_server.url


@pytest.fixture
def topic() -> str:
    return f"recreated-{uuid4().hex[:10]}"


async def delete(url: str, topic: str) -> None:
    async with admin_of(url) as admin:
        await admin.delete_topics([topic])

        async def is_gone() -> bool:
            return topic not in await admin.list_topics()

        await until(is_gone)


async def make_again(url: str, topic: str, partitions: int) -> None:
    await delete(url, topic)
    await make_topic(url, topic, partitions)


async def commit(url: str, group: str, topic: str, offset: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=url, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): offset})
    finally:
        await consumer.stop()


SUBSCRIBERS = [
    pytest.param({"group_id": "g"}, id="group"),
    pytest.param({}, id="no group"),
    pytest.param({"group_id": "g", "pattern": True}, id="group, pattern"),
    pytest.param({"pattern": True}, id="no group, pattern"),
]


class TestMadeAgain:
    @pytest.mark.parametrize("reset", ["latest", "earliest"])
    @pytest.mark.parametrize(("before", "after"), [(5, 50), (60, 10)])
    @pytest.mark.parametrize("options", SUBSCRIBERS)
    async def test_every_new_message_is_handled_soon(
        self, url: str, topic: str, options: dict[str, Any], before: int, after: int, reset: Any, caplog: Any
    ) -> None:
        await make_topic(url, topic, 2)
        seen, router = Inbox(), KafkaRouter(url)
        given: dict[str, Any] = {"auto_offset_reset": reset}
        if "group_id" in options:
            given["group_id"] = topic
        if "pattern" in options:
            given["pattern"] = f"{topic}.*"

        @router.subscriber(*(() if "pattern" in options else (topic,)), **given)
        async def handler(msg: int) -> None:
            seen.put(msg)

        async with router.broker as broker:
            await asyncio.gather(*(broker.publish(number, topic, partition=number % 2) for number in range(before)))
            await seen.take_many(before)
            await make_again(url, topic, 2)
            new = range(1000, 1000 + after)
            await asyncio.gather(*(broker.publish(number, topic, partition=number % 2) for number in new))
            await until(lambda: set(new) <= set(seen.all), SECONDS)
            await until(lambda: _lines(caplog, "was deleted and made again") == 1, SECONDS)
            if "group_id" in given:
                await until(lambda: _is(committed(url, topic, topic), after // 2), SECONDS)
            assert broker.report.counts.get("restarted", 0) == 0
        (line,) = [one for one in caplog.records if "made again" in one.getMessage()]
        assert line.levelno == logging.WARNING
        assert line.getMessage().endswith(f": {topic} was deleted and made again; reading it from its beginning")

    @pytest.mark.parametrize("group", [True, False])
    async def test_where_it_begins_is_asked_again(
        self, url: str, topic: str, group: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await make_topic(url, topic, 1)
        seen, router = Inbox(), KafkaRouter(url)
        told = KafkaSource.beginnings
        refused: list[int] = []

        @router.subscriber(topic, group_id=topic if group else None)
        async def handler(msg: int) -> None:
            seen.put(msg)

        async def refuses(source: KafkaSource, partitions: Any) -> Any:
            if list(partitions) and len(refused) < 2:
                refused.append(1)
                raise KafkaTimeoutError
            return await told(source, partitions)

        async with router.broker as broker:
            await asyncio.gather(*(broker.publish(number, topic) for number in range(5)))
            await seen.take_many(5)
            monkeypatch.setattr(KafkaSource, "beginnings", refuses)
            await make_again(url, topic, 1)
            await asyncio.gather(*(broker.publish(number, topic) for number in range(100, 150)))
            await until(lambda: set(range(100, 150)) <= set(seen.all), 2 * SECONDS)
            assert len(refused) == 2

    async def test_with_less_partitions_than_before(self, url: str, topic: str) -> None:
        await make_topic(url, topic, 3)
        seen, router = Inbox(), KafkaRouter(url)

        @router.subscriber(topic)
        async def alone(msg: int) -> None:
            seen.put(("alone", msg))

        @router.subscriber(topic, group_id=topic)
        async def member(msg: int) -> None:
            seen.put(("member", msg))

        async with router.broker as broker:
            for number in range(3):
                await broker.publish(number, topic, partition=number)
            await seen.take_many(6)
            await make_again(url, topic, 1)

            async def published() -> bool:
                try:  # the producer may still mean a partition that is gone
                    await broker.publish(7, topic, partition=0)
                except (BrokerUnavailable, PublishError):
                    return False
                return True

            await until(published)
            await until(lambda: {("alone", 7), ("member", 7)} <= set(seen.all), SECONDS)

    async def test_what_is_in_flight_says_nothing_of_the_new_topic(self, url: str, topic: str) -> None:
        await make_topic(url, topic, 1)
        seen, release, router = Inbox(), asyncio.Event(), KafkaRouter(url)

        @router.subscriber(topic, group_id=topic, max_workers=20)
        async def handler(msg: int) -> None:
            if msg == 0:
                await release.wait()
            seen.put(msg)

        async with router.broker as broker:
            await asyncio.gather(*(broker.publish(number, topic) for number in range(10)))
            await seen.take_many(9)
            await make_again(url, topic, 1)
            for number in range(100, 103):
                await broker.publish(number, topic)
            await until(lambda: {100, 101, 102} <= set(seen.all), SECONDS)
            release.set()
            await until(lambda: 0 in seen.all)
            await until(lambda: _is(committed(url, topic, topic), 3), SECONDS)


class TestLeftTheLog:
    @pytest.mark.parametrize("reset", ["latest", "earliest"])
    async def test_a_committed_offset_that_was_deleted(self, url: str, topic: str, reset: Any) -> None:
        await make_topic(url, topic, 1)
        seen, router = Inbox(), KafkaRouter(url)

        @router.subscriber(topic, group_id=topic, auto_offset_reset=reset)
        async def handler(msg: int) -> None:
            seen.put(msg)

        async with KafkaRouter(url).broker as broker:
            await asyncio.gather(*(broker.publish(number, topic) for number in range(20)))
        await commit(url, topic, topic, 3)
        async with admin_of(url) as admin:
            await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=10)})
        async with router.broker as broker:
            assert len(await seen.take_many(10)) == 10
            await broker.publish(20, topic)
            assert await seen.take() == 20
            await until(lambda: _is(committed(url, topic, topic), 21))
        assert len(seen.all) == 11

    @pytest.mark.parametrize("reset", ["latest", "earliest"])
    async def test_a_committed_offset_beyond_the_end(self, url: str, topic: str, reset: Any, caplog: Any) -> None:
        await make_topic(url, topic, 1)
        seen, router = Inbox(), KafkaRouter(url)

        @router.subscriber(topic, group_id=topic, auto_offset_reset=reset)
        async def handler(msg: int) -> None:
            seen.put(msg)

        await commit(url, topic, topic, 1000)
        async with router.broker as broker:
            await asyncio.gather(*(broker.publish(number, topic) for number in range(30)))
            assert sorted(await seen.take_many(30)) == list(range(30))
            await until(lambda: _is(committed(url, topic, topic), 30))
        assert _lines(caplog, "is not in the log any more") == 1


def _lines(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in one.getMessage() for one in caplog.records)


async def _is(work: Any, expected: Any) -> bool:
    return bool(await work == expected)


async def test_publishing_goes_on_when_the_new_topic_has_fewer_partitions(url: str, topic: str) -> None:
    """The client still knows the partitions of the old one, and chooses among them."""
    count = 60
    await make_topic(url, topic, 6)
    async with KafkaRouter(url).broker as broker:

        async def publish_all() -> list[object]:
            work = (broker.publish(number, topic, key=str(number)) for number in range(count))
            return await asyncio.gather(*work, return_exceptions=True)

        assert len(await publish_all()) == count
        await make_again(url, topic, 2)
        failed = [one for one in await publish_all() if isinstance(one, BaseException)]
        assert not [one for one in failed if not isinstance(one, BrokerUnavailable)]
        assert not [one for one in await publish_all() if isinstance(one, BaseException)]
        with pytest.raises(PublishError, match="Unrecognized partition 5"):
            await broker.publish(0, topic, partition=5)
