"""Kafka in memory routes as Kafka does, and its messages are the client's."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

import pytest
from confluent_kafka import Message, TopicPartition
from fastapi import Path
from fastapi_stream_confluent import KafkaBroker, KafkaMessage, KafkaResponse, NotStarted, TestKafkaBroker


async def test_a_group_shares_and_everybody_else_gets_a_copy() -> None:
    broker = KafkaBroker()
    seen: dict[str, list[int]] = defaultdict(list)

    @broker.subscriber("orders", group_id="g")
    async def one(msg: int) -> None:
        seen["group"].append(msg)

    @broker.subscriber("orders", group_id="g")
    async def two(msg: int) -> None:
        seen["group"].append(msg)

    @broker.subscriber("orders", group_id="other")
    async def other(msg: int) -> None:
        seen["other"].append(msg)

    @broker.subscriber("orders", "returns")
    async def alone(msg: int) -> None:
        seen["alone"].append(msg)

    async with TestKafkaBroker(broker):
        for number in range(4):
            await broker.publish(number, "orders")
        await broker.publish(4, "returns")
        assert one.mock.call_count == two.mock.call_count == 2
    assert seen == {"group": [0, 1, 2, 3], "other": [0, 1, 2, 3], "alone": [0, 1, 2, 3, 4]}


async def test_a_key_stays_in_its_partition() -> None:
    broker = KafkaBroker()
    seen: dict[bytes | None, set[int]] = defaultdict(set)

    async def handler(message: KafkaMessage) -> None:
        seen[message.key].add(message.partition)

    for _ in range(3):
        broker.subscriber("orders", group_id="g")(handler)
    async with TestKafkaBroker(broker):
        for number in range(30):
            await broker.publish(number, "orders", key=f"k{number % 5}")
    assert len(seen) == 5
    assert all(len(partitions) == 1 for partitions in seen.values())


async def test_partitions_and_patterns() -> None:
    broker = KafkaBroker()
    seen: list[tuple[str, int]] = []

    @broker.subscriber(partitions=[TopicPartition("orders", 1)])
    async def second(msg: int) -> None:
        seen.append(("second", msg))

    @broker.subscriber(pattern="users.{uid}")
    async def user(uid: Annotated[int, Path()], msg: int) -> None:
        seen.append((f"user {uid}", msg))

    @broker.subscriber(pattern="log.*")
    async def log(msg: int) -> None:
        seen.append(("log", msg))

    async with TestKafkaBroker(broker):
        await broker.publish(1, "orders", partition=1)
        await broker.publish(2, "orders", partition=0)
        await broker.publish(3, "users.7")
        await broker.publish(4, "users.7.more")
        await broker.publish(5, "logging")
    assert seen == [("second", 1), ("user 7", 3), ("log", 5)]


async def test_messages_are_the_clients() -> None:
    broker = KafkaBroker()

    @broker.subscriber("orders")
    @broker.publisher("invoices", key="p")
    async def bill(message: KafkaMessage) -> KafkaResponse:
        raw = message.raw_message
        assert isinstance(raw, Message)
        assert (raw.topic(), raw.partition(), raw.offset(), raw.error()) == ("orders", 0, message.offset, None)
        assert message.message_id == f"{message.offset}-77"
        assert message.lane == ("orders", 0)
        return KafkaResponse(raw.value(), key=raw.key(), headers={"x": ["1", b"\xff"]})

    async with TestKafkaBroker(broker):
        confirmed = await broker.publish(b"\x00", "orders", key="k", timestamp_ms=77)
        await broker.publish(None, "orders", timestamp_ms=77)
        first, second = broker.published("invoices")
    assert (confirmed.topic(), confirmed.offset(), confirmed.key()) == ("orders", 0, b"k")
    assert (first.body, first.raw_message.key(), first.headers.getlist("X")) == (b"\x00", b"k", ["1", b"\xff"])
    assert (second.raw_message.value(), second.raw_message.key()) == (None, b"p")


async def test_nothing_is_published_before_the_start() -> None:
    with pytest.raises(NotStarted):
        await KafkaBroker().publish("x", "orders")


async def test_empty_technical_headers_are_none() -> None:
    """FastStream writes an empty content type for bytes."""
    broker = KafkaBroker()

    @broker.subscriber("orders")
    async def handler(message: KafkaMessage) -> str:
        assert (message.content_type, message.reply_to) == (None, None)
        return "not answered"

    async with TestKafkaBroker(broker):
        await broker.publish(b'{"a":1}', "orders", headers={"content-type": "", "reply_to": ""})
        handler.mock.assert_called_once_with({"a": 1})
        assert broker.published("") == []
