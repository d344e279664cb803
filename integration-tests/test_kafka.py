"""What is Kafka's own, with aiokafka, on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from fastapi import Path
from fastapi_stream_core.testing.conformance import DEADLINE, Inbox
from fastapi_stream_kafka import (
    BrokerUnavailable,
    KafkaBroker,
    KafkaMessage,
    KafkaResponse,
    KafkaRouter,
    PublishError,
    SetupError,
)

from servers import Server, free_port
from waiting import until


@pytest.fixture
def url(kafka_server: Server) -> str:
    return kafka_server.url


@pytest.fixture
def topic() -> str:
    return f"kafka-{uuid4().hex[:10]}"


@asynccontextmanager
async def admin_of(url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=url)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def make_topic(url: str, topic: str, partitions: int, config: dict[str, str] | None = None) -> None:
    async with admin_of(url) as admin:
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])

        async def led() -> bool:
            (found,) = await admin.describe_topics([topic])
            return len(found["partitions"]) == partitions and all(one["leader"] >= 0 for one in found["partitions"])

        await until(led)


async def committed(url: str, group: str, topic: str, partition: int = 0) -> int | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=url, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        offset: int | None = await consumer.committed(TopicPartition(topic, partition))
        return offset
    finally:
        await consumer.stop()


ODD_PLACES: list[dict[str, Any]] = [
    {"key": 3},
    {"key": "\ud800"},
    {"partition": -1},
    {"partition": 2**40},
    {"partition": "1"},
    {"timestamp_ms": -1},
    {"timestamp_ms": 2**70},
    {"timestamp_ms": 1.5},
]


class TestPublishing:
    async def test_everything_that_a_record_has(self, url: str, topic: str) -> None:
        await make_topic(url, topic, 3)
        router, seen = KafkaRouter(url), Inbox()

        @router.subscriber(topic)
        async def handler(message: KafkaMessage) -> None:
            seen.put(message)

        async with router.broker as broker:
            sent = await broker.publish(
                {"a": 1},
                topic,
                key="k",
                partition=2,
                timestamp_ms=1_700_000_000_000,
                headers={"x-one": "1", "x-many": ["a", "b"], "x-bin": b"\xff"},
                correlation_id="c-1",
            )
            message: KafkaMessage = await seen.take()
        assert (sent.topic, sent.partition, sent.offset) == (topic, 2, 0)
        record = message.raw_message
        assert (record.topic, record.partition, record.offset) == (topic, 2, 0)
        assert (record.key, record.value, record.timestamp) == (b"k", b'{"a":1}', 1_700_000_000_000)
        assert (message.correlation_id, message.content_type) == ("c-1", "application/json")
        assert message.headers.getlist("X-Many") == ["a", "b"]
        assert message.headers["x-bin"] == b"\xff"
        assert message.message_id == "0-1700000000000"

    async def test_a_place_that_the_wire_does_not_have(self, url: str, topic: str) -> None:
        await make_topic(url, topic, 1)
        async with KafkaBroker(url) as broker:
            for odd in ODD_PLACES:
                with pytest.raises(PublishError):
                    await broker.publish("odd", topic, **odd)
            assert (await broker.publish("right", topic)).offset == 0

    async def test_none_is_a_null_record_on_every_way(self, url: str, topic: str) -> None:
        router, seen = KafkaRouter(url), Inbox()
        publisher = router.publisher(topic)
        await make_topic(url, topic, 1)

        @router.subscriber(topic)
        async def handler(message: KafkaMessage) -> None:
            seen.put((message.raw_message.key, message.raw_message.value, await message.decode()))

        async with router.broker as broker:
            await broker.publish(None, topic, key=b"gone")
            await broker.publish(None, topic)
            await broker.publish(None, topic, partition=0, timestamp_ms=5)
            await broker.publish(None, topic, headers={"x": "1"}, reply_to="answers")
            await broker.publish(KafkaResponse(None), topic)
            await publisher.publish(None)
            await broker.publish(b"", topic)
            nulls = [(None, None, None)] * 5
            assert await seen.take_many(7) == [(b"gone", None, None), *nulls, (None, b"", None)]

    async def test_an_answer_of_none_and_a_published_one_are_null_records(self, url: str, topic: str) -> None:
        router, seen = KafkaRouter(url), Inbox()
        answers, out = f"{topic}-answers", f"{topic}-out"

        @router.subscriber(answers)
        @router.subscriber(out)
        async def sink(message: KafkaMessage) -> None:
            seen.put((message.address, message.raw_message.value))

        @router.subscriber(topic)
        @router.publisher(out)
        async def handler(msg: str) -> Any:
            return KafkaResponse(None) if msg == "published" else None

        async with router.broker as broker:
            await broker.publish("answered", topic, reply_to=answers)
            assert await seen.take() == (answers, None)
            await broker.publish("published", topic)
            assert await seen.take() == (out, None)

    async def test_a_response_has_the_last_word(self, url: str, topic: str) -> None:
        router, seen = KafkaRouter(url), Inbox()
        target = f"{topic}-out"
        publisher = router.publisher(target, key="publisher", headers={"x-by": "publisher", "x-and": "publisher"})

        @router.subscriber(target)
        async def sink(message: KafkaMessage) -> None:
            seen.put((message.key, message.headers["x-by"], message.headers["x-and"]))

        @router.subscriber(topic)
        @publisher
        async def handler(msg: str) -> Any:
            return KafkaResponse(msg, key=b"response", headers={"x-by": "response"}) if msg == "full" else msg

        async with router.broker as broker:
            await broker.publish("plain", topic)
            await broker.publish("full", topic)
            await publisher.publish("by hand", key="hand")
            got = await seen.take_many(3)
        assert sorted(got) == [
            (b"hand", "publisher", "publisher"),
            (b"publisher", "publisher", "publisher"),
            (b"response", "response", "publisher"),
        ]

    async def test_what_others_read(self, url: str, topic: str) -> None:
        await make_topic(url, topic, 1)
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=url, auto_offset_reset="earliest")
        await consumer.start()
        try:
            async with KafkaRouter(url).broker as broker:
                await broker.publish("hi", topic, correlation_id="c", reply_to="answers")
                await broker.publish(b"\xff", topic, correlation_id="c")
            text, raw = [await asyncio.wait_for(consumer.getone(), DEADLINE) for _ in range(2)]
        finally:
            await consumer.stop()
        assert (text.value, raw.value) == (b"hi", b"\xff")
        assert sorted(text.headers) == [
            ("content-type", b"text/plain"),
            ("correlation_id", b"c"),
            ("reply_to", b"answers"),
        ]
        assert list(raw.headers) == [("correlation_id", b"c")]

    async def test_a_refused_message(self, url: str, topic: str) -> None:
        async with KafkaRouter(url).broker as broker:
            await broker.publish("first", topic)
            with pytest.raises(PublishError, match="larger than"):
                await broker.publish(b"x" * 2_000_000, topic)
            with pytest.raises(PublishError, match="partition 77"):
                await broker.publish("x", topic, partition=77)
            await broker.publish("last", topic)

    async def test_many_at_the_same_time(self, url: str, topic: str) -> None:
        async with KafkaRouter(url).broker as broker:
            sent = await asyncio.gather(*(broker.publish({"n": number}, topic) for number in range(300)))
        assert sorted(one.offset for one in sent) == list(range(300))

    async def test_nobody_answers(self, topic: str) -> None:
        router = KafkaRouter(f"127.0.0.1:{free_port()}", startup_timeout=1.0)
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"connect to the broker at 127\.0\.0\.1"):
            await router.broker.start()
        assert time.monotonic() - began < 3
        assert not router.broker.running

    async def test_the_broker_goes_away_and_comes_back(self, kafka_server: Server, topic: str) -> None:
        async with KafkaRouter(kafka_server.url, publish_timeout=2.0).broker as broker:
            await broker.publish("before", topic)
            kafka_server.stop()
            try:
                with pytest.raises(BrokerUnavailable, match="publish to the broker") as refused:
                    await asyncio.wait_for(broker.publish("meanwhile", topic), DEADLINE)
                assert refused.value.seconds == 2.0
                assert not await broker.ping(1.0)
            finally:
                kafka_server.start()

            async def published() -> bool:
                try:
                    await broker.publish("after", topic)
                except BrokerUnavailable:
                    return False
                return True

            await until(published)
            assert await broker.ping(5.0)


class TestPositions:
    async def test_a_new_group_at_the_end_does_not_skip_after_a_crash(self, url: str, topic: str) -> None:
        seen, group = Inbox(), f"{topic}-group"
        stuck = asyncio.Event()
        router = KafkaRouter(url, graceful_timeout=0.0)

        @router.subscriber(topic, group_id=group)
        async def crashes(msg: str) -> None:
            seen.put(msg)
            await stuck.wait()

        async with router.broker as broker:
            await broker.publish("first", topic)
            assert await seen.take() == "first"

        again = KafkaRouter(url)

        @again.subscriber(topic, group_id=group)
        async def handler(msg: str) -> None:
            seen.put(msg)

        async with again.broker:
            assert await seen.take() == "first"

    async def test_only_what_is_contiguous_is_committed(self, url: str, topic: str) -> None:
        seen, group, release = Inbox(), f"{topic}-group", asyncio.Event()
        router = KafkaRouter(url)

        @router.subscriber(topic, group_id=group, max_workers=4)
        async def handler(msg: int) -> None:
            if msg == 2:
                await asyncio.wait_for(release.wait(), DEADLINE)
            seen.put(msg)

        async with router.broker as broker:
            for number in range(10):
                await broker.publish(number, topic)
            await seen.take_many(9)
            await until(lambda: _is(committed(url, group, topic), 2))
            release.set()
            assert await seen.take() == 2
            await until(lambda: _is(committed(url, group, topic), 10))

    async def test_without_a_group_it_begins_where_it_is_told(self, url: str, topic: str) -> None:
        seen = Inbox()
        async with KafkaRouter(url).broker as broker:
            await broker.publish("old", topic)
        router = KafkaRouter(url)

        @router.subscriber(topic)
        async def at_the_end(msg: str) -> None:
            seen.put(("latest", msg))

        @router.subscriber(topic, auto_offset_reset="earliest")
        async def at_the_beginning(msg: str) -> None:
            seen.put(("earliest", msg))

        async with router.broker as broker:
            await broker.publish("new", topic)
            got = await seen.take_many(3)
        assert sorted(got) == [("earliest", "new"), ("earliest", "old"), ("latest", "new")]

    async def test_given_partitions(self, url: str, topic: str) -> None:
        await make_topic(url, topic, 3)
        seen, group = Inbox(), f"{topic}-group"
        router = KafkaRouter(url)

        @router.subscriber(partitions=[TopicPartition(topic, 1)], group_id=group)
        async def one(msg: str) -> None:
            seen.put(("group", msg))

        @router.subscriber(partitions=[TopicPartition(topic, 2)])
        async def two(msg: str) -> None:
            seen.put(("none", msg))

        async with router.broker as broker:
            for number in range(3):
                await broker.publish(f"p{number}", topic, partition=number)
            assert sorted(await seen.take_many(2)) == [("group", "p1"), ("none", "p2")]
        assert await committed(url, group, topic, 1) == 1

    @pytest.mark.parametrize("group", [True, False])
    async def test_a_pattern_picks_up_new_topics_from_their_beginning(self, url: str, topic: str, group: bool) -> None:
        seen = Inbox()
        router = KafkaRouter(url)

        @router.subscriber(pattern=f"{topic}.{{uid}}", group_id=f"{topic}-group" if group else None)
        async def handler(msg: str, uid: Annotated[int, Path()]) -> None:
            seen.put((msg, uid))

        async with router.broker as broker:
            await broker.publish("first", f"{topic}.7")
            await broker.publish("second", f"{topic}.7")
            assert await seen.take_many(2) == [("first", 7), ("second", 7)]
            await broker.publish("other", f"{topic}.8")
            assert await seen.take() == ("other", 8)

    @pytest.mark.parametrize("group", [True, False])
    async def test_a_regular_expression_leaves_out_the_topics_of_the_broker(
        self, url: str, topic: str, group: bool
    ) -> None:
        await make_topic(url, f"{topic}-a", 1)
        seen = Inbox()
        router = KafkaRouter(url)

        @router.subscriber(pattern=f"__consumer_offsets|{topic}-.*", group_id=f"{topic}-group" if group else None)
        async def handler(msg: str) -> None:
            seen.put(msg)

        async with router.broker as broker:
            await broker.publish("hi", f"{topic}-a")
            assert await seen.take() == "hi"
        assert seen.all == ["hi"]

    async def test_new_partitions_are_read_from_their_beginning(self, url: str, topic: str) -> None:
        await make_topic(url, topic, 1)
        seen = Inbox()
        router = KafkaRouter(url, metadata_max_age_ms=500)

        @router.subscriber(topic)
        async def handler(msg: str) -> None:
            seen.put(msg)

        async with router.broker as broker:
            await broker.publish("one", topic)
            assert await seen.take() == "one"
            async with admin_of(url) as admin:
                await admin.create_partitions({topic: NewPartitions(3)})

            async def published() -> bool:
                try:
                    await broker.publish("two", topic, partition=2)
                except PublishError:
                    return False
                return True

            await until(published)
            assert await seen.take() == "two"
            await broker.publish("three", topic, partition=0)
            assert await seen.take() == "three"

    @pytest.mark.parametrize("group", [True, False])
    async def test_a_topic_that_must_not_be_made_is_waited_for(self, url: str, topic: str, group: bool) -> None:
        seen = Inbox()
        router = KafkaRouter(url, allow_auto_create_topics=False)

        @router.subscriber(topic, group_id=f"{topic}-group" if group else None)
        async def handler(msg: int) -> None:
            seen.put(msg)

        async with router.broker as broker:
            async with admin_of(url) as admin:
                assert topic not in await admin.list_topics()
            await make_topic(url, topic, 1)
            await broker.publish(1, topic)
            assert await seen.take() == 1
            assert "restarted" not in broker.report.counts

    async def test_nowhere_to_begin(self, url: str, topic: str) -> None:
        router = KafkaRouter(url)

        @router.subscriber(topic, group_id=f"{topic}-group", auto_offset_reset="none")
        async def handler(msg: int) -> None: ...

        with pytest.raises(SetupError, match="auto_offset_reset='none'"):
            await router.broker.start()

    async def test_a_topic_that_is_deleted_and_made_again_is_read_again(self, url: str, topic: str) -> None:
        seen = Inbox()
        router = KafkaRouter(url)

        @router.subscriber(topic)
        async def handler(msg: int) -> None:
            seen.put(msg)

        async with router.broker as broker:
            await broker.publish(0, topic)
            assert await seen.take() == 0
            async with admin_of(url) as admin:
                await admin.delete_topics([topic])

            async def read_again() -> bool:
                await broker.publish(1, topic)
                return 1 in seen.all

            await until(read_again)


class TestGroups:
    async def test_a_rebalance_loses_and_repeats_nothing(self, url: str, topic: str) -> None:
        await make_topic(url, topic, 4)
        seen, group = Inbox(), f"{topic}-group"

        def member(name: str) -> KafkaRouter:
            router = KafkaRouter(url)

            @router.subscriber(topic, group_id=group, max_workers=3)
            async def handler(msg: int) -> None:
                await asyncio.sleep(0.002)
                seen.put((msg, name))

            return router

        async def send(broker: KafkaBroker, numbers: range) -> None:
            await asyncio.gather(*(broker.publish(number, topic, partition=number % 4) for number in numbers))

        async with member("a").broker as broker:
            sending = asyncio.ensure_future(send(broker, range(600)))
            await seen.take_many(50)
            async with member("b").broker:
                await sending
                await send(broker, range(600, 700))
                await until(lambda: len(seen.all) >= 700)
            await send(broker, range(700, 800))
            await until(lambda: len(seen.all) >= 800)
        assert sorted(number for number, _ in seen.all) == list(range(800))
        assert {name for _, name in seen.all} == {"a", "b"}

    async def test_a_running_handler_outlives_a_rebalance_and_its_message_is_not_run_again(
        self, url: str, topic: str
    ) -> None:
        seen, group, release = Inbox(), f"{topic}-group", asyncio.Event()
        started: list[int] = []
        router = KafkaRouter(url)

        @router.subscriber(topic, group_id=group, max_workers=3, session_timeout_ms=6000, rebalance_timeout_ms=1500)
        async def handler(msg: int) -> None:
            started.append(msg)
            if msg == 0:
                await asyncio.wait_for(release.wait(), DEADLINE)
            seen.put(msg)

        other = KafkaRouter(url)

        @other.subscriber(f"{topic}-other", group_id=group)
        async def elsewhere(msg: int) -> None: ...

        async with router.broker as broker:
            for number in range(6):
                await broker.publish(number, topic)
            assert sorted(await seen.take_many(5)) == [1, 2, 3, 4, 5]
            async with other.broker:
                await broker.publish(6, topic)
                assert await seen.take() == 6
            release.set()
            assert await seen.take() == 0
            await until(lambda: _is(committed(url, group, topic), 7))
        assert sorted(started) == [0, 1, 2, 3, 4, 5, 6]

    async def test_a_failing_message_holds_only_its_partition(self, url: str, topic: str) -> None:
        await make_topic(url, topic, 2)
        seen, group = Inbox(), f"{topic}-group"
        router = KafkaRouter(url)

        @router.subscriber(topic, group_id=group)
        async def handler(msg: str, message: KafkaMessage) -> None:
            if msg == "bad" and message.attempt < 3:
                raise RuntimeError("not yet")
            seen.put(msg)

        async with router.broker as broker:
            await broker.publish("bad", topic, partition=0)
            await broker.publish("behind", topic, partition=0)
            await broker.publish("beside", topic, partition=1)
            assert await seen.take_many(3) == ["beside", "bad", "behind"]

    async def test_a_handler_may_take_longer_than_the_poll_interval(self, url: str, topic: str) -> None:
        seen, group = Inbox(), f"{topic}-group"
        router = KafkaRouter(url)

        @router.subscriber(topic, group_id=group, max_poll_interval_ms=1000, heartbeat_interval_ms=300)
        async def handler(msg: int) -> None:
            if msg == 0:
                waiting = asyncio.Event()
                asyncio.get_running_loop().call_later(3.0, waiting.set)
                await waiting.wait()
            seen.put(msg)

        async with router.broker as broker:
            await asyncio.gather(*(broker.publish(number, topic) for number in range(600)))
            got = await seen.take_many(600)
        assert got == list(range(600))
        assert len(seen.all) == 600
        assert await committed(url, group, topic) == 600

    async def test_batches(self, url: str, topic: str) -> None:
        seen, group = Inbox(), f"{topic}-group"
        router = KafkaRouter(url)

        @router.subscriber(topic, group_id=group, batch=True, max_records=4, batch_timeout_ms=500)
        async def handler(msgs: list[int]) -> None:
            seen.put(msgs)

        async with router.broker as broker:
            await asyncio.gather(*(broker.publish(number, topic) for number in range(10)))
            got: list[int] = []
            while len(got) < 10:
                batch = await seen.take()
                assert 1 <= len(batch) <= 4
                got += batch
        assert got == list(range(10))
        assert await committed(url, group, topic) == 10

    async def test_without_a_group_it_goes_on_where_it_was(self, kafka_server: Server, topic: str) -> None:
        seen = Inbox()
        router = KafkaRouter(kafka_server.url)

        @router.subscriber(topic)
        async def handler(msg: int) -> None:
            seen.put(msg)

        async with router.broker as broker:
            await broker.publish(0, topic)
            assert await seen.take() == 0
            kafka_server.restart()
            producer = AIOKafkaProducer(bootstrap_servers=kafka_server.url)
            await producer.start()
            try:
                await producer.send_and_wait(topic, b"1")
            finally:
                await producer.stop()
            assert await seen.take() == 1
        assert seen.all == [0, 1]


async def _is(work: Any, expected: Any) -> bool:
    return bool(await work == expected)
