"""Kafka in memory routes as Kafka does, and its messages carry the same."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from fastapi_stream_kafka import (
    ConsumerRecord,
    KafkaMessage,
    KafkaPublisher,
    KafkaResponse,
    KafkaRouter,
    TestKafkaBroker,
    TopicPartition,
)


def collect(router: KafkaRouter, seen: list[Any], name: str, *topics: str, **options: Any) -> None:
    @router.subscriber(*topics, **options)
    async def handler(msg: Any) -> None:
        seen.append((name, msg))


async def test_groups_share_and_others_get_copies() -> None:
    router, seen = KafkaRouter(), []
    for name in ("a", "b"):
        collect(router, seen, name, "t", group_id="g")
    collect(router, seen, "c", "t", group_id="h")
    collect(router, seen, "d", "t")
    collect(router, seen, "e", "t")
    async with TestKafkaBroker(router.broker) as broker:
        for number in range(10):
            await broker.publish(number, "t")
    counts = {name: sum(one == name for one, _ in seen) for name in "abcde"}
    assert counts == {"a": 5, "b": 5, "c": 10, "d": 10, "e": 10}


async def test_a_key_always_goes_to_the_same_member() -> None:
    router, seen = KafkaRouter(), []
    for name in ("a", "b", "c"):
        collect(router, seen, name, "t", group_id="g")
    async with TestKafkaBroker(router.broker) as broker:
        for _ in range(3):
            for key in ("one", "two", "three", "four"):
                await broker.publish(key, "t", key=key)
    for key in ("one", "two", "three", "four"):
        assert len({name for name, msg in seen if msg == key}) == 1
    assert len(seen) == 12


async def test_partitions_and_offsets() -> None:
    router, seen = KafkaRouter(), []
    collect(router, seen, "one", partitions=[TopicPartition("t", 1)])
    collect(router, seen, "all", "t")
    async with TestKafkaBroker(router.broker) as broker:
        sent = [await broker.publish(number, "t", partition=number % 2) for number in range(4)]
    assert [(one.partition, one.offset) for one in sent] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert sent[0].topic_partition == TopicPartition("t", 0)
    assert [msg for name, msg in seen if name == "one"] == [1, 3]
    assert [msg for name, msg in seen if name == "all"] == [0, 1, 2, 3]


async def test_a_pattern_gives_path_parameters() -> None:
    router, seen = KafkaRouter(), []

    @router.subscriber(pattern="users.{uid}")
    async def handler(msg: str, uid: Annotated[int, Path()]) -> None:
        seen.append((msg, uid))

    async with TestKafkaBroker(router.broker) as broker:
        await broker.publish("hi", "users.7")
        await broker.publish("no", "users.7.x")
        await broker.publish("no", "other")
    assert seen == [("hi", 7)]


async def test_a_message_carries_what_a_record_has() -> None:
    router = KafkaRouter()
    seen: list[KafkaMessage] = []

    @router.subscriber("t")
    async def handler(message: KafkaMessage) -> None:
        seen.append(message)

    async with TestKafkaBroker(router.broker) as broker:
        await broker.publish({"a": 1}, "t", key="k", timestamp_ms=5, headers={"X-One": ["1", "2"]}, reply_to="answers")
        await broker.publish(None, "t", key=b"gone")
        await broker.publish(None, "t")
        (answer, *_) = broker.published("t")
    message, gone, empty = seen
    record = message.raw_message
    assert isinstance(record, ConsumerRecord)
    assert (record.topic, record.key, record.value, record.timestamp) == ("t", b"k", b'{"a":1}', 5)
    assert (message.key, message.message_id, message.position) == (b"k", "0-5", "partition 0 offset 0")
    assert (message.reply_to, message.content_type) == ("answers", "application/json")
    assert message.headers.getlist("x-one") == ["1", "2"]
    assert (gone.raw_message.value, await gone.decode()) == (None, None)
    assert (empty.raw_message.value, await empty.decode()) == (None, None)
    assert await answer.decode() == {"a": 1}


async def test_keys_of_publishers_and_responses() -> None:
    router = KafkaRouter()
    publisher: KafkaPublisher = router.publisher("out", key="publisher", partition=1)

    @router.subscriber("in")
    @publisher
    async def handler(msg: str) -> Any:
        return KafkaResponse(msg, key=b"response", partition=2, timestamp_ms=9) if msg == "full" else msg

    async with TestKafkaBroker(router.broker) as broker:
        await broker.publish("plain", "in")
        await broker.publish("full", "in")
        await publisher.publish("hand", key="hand", headers={"x": "1"})
        await publisher.publish("else", "elsewhere")
        records = [message.raw_message for message in broker.published("out")]
        assert len(broker.published("elsewhere")) == 1
    assert [(one.value, one.key, one.partition) for one in records] == [
        (b"plain", b"publisher", 1),
        (b"full", b"response", 2),
        (b"hand", b"hand", 1),
    ]
    assert records[1].timestamp == 9


async def test_batches() -> None:
    router, seen = KafkaRouter(), []

    @router.subscriber("t", batch=True, max_records=2)
    async def handler(msgs: list[int]) -> None:
        seen.append(msgs)

    async with TestKafkaBroker(router.broker) as broker:
        await broker.publish(1, "t")
        await broker.publish(2, "t")
    assert [number for batch in seen for number in batch] == [1, 2]


async def test_an_answer_goes_to_reply_to() -> None:
    router = KafkaRouter()

    @router.subscriber("questions")
    async def handler(msg: int) -> int:
        return msg * 2

    async with TestKafkaBroker(router.broker) as broker:
        await broker.publish(21, "questions", reply_to="answers", correlation_id="c")
        (answer,) = broker.published("answers")
    assert (await answer.decode(), answer.correlation_id) == (42, "c")


async def test_technical_headers_of_others_may_be_empty() -> None:
    router = KafkaRouter()
    seen: list[Any] = []

    @router.subscriber("t")
    async def handler(body: dict[str, int], message: KafkaMessage) -> str:
        seen.append((body, message.content_type, message.reply_to))
        return "no answer is expected"

    async with TestKafkaBroker(router.broker) as broker:
        await broker.publish(b'{"a":1}', "t", headers={"content-type": "", "reply_to": ""})
        assert [message.body for message in broker.published("t")] == [b'{"a":1}']
    assert seen == [({"a": 1}, None, None)]
