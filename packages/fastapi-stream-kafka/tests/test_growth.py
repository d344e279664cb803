"""A test broker keeps what a test may ask for, and nothing of it when it is over."""

from __future__ import annotations

import gc
import sys

import pytest
from fastapi_stream_core import Retry
from fastapi_stream_kafka import KafkaMessage, KafkaRouter, TestKafkaBroker
from pydantic import BaseModel

TEST_BROKERS = 20
MESSAGES = 200
BLOCKS = 200
"""Blocks of memory of any object; one that is kept for each message would be 3,600."""


class Order(BaseModel):
    number: int


def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


async def test_a_test_broker_gives_everything_back() -> None:
    router = KafkaRouter("localhost:9092", logger=None)
    subscriber = router.subscriber("orders", group_id="tea", max_workers=3)
    subscriber.retry = Retry(attempts=2)

    @subscriber
    @router.publisher("out")
    async def handle(order: Order, message: KafkaMessage) -> Order:
        if order.number % 50 == 7 and message.attempt == 1:
            raise RuntimeError("once")
        if order.number % 50 == 8:
            raise RuntimeError("always")
        return order

    @router.subscriber("out")
    async def listen(order: Order) -> None: ...

    before = 0
    for _ in range(TEST_BROKERS):
        async with TestKafkaBroker(router.broker) as broker:
            for number in range(MESSAGES):
                if number % 50 == 8:
                    with pytest.raises(RuntimeError, match="always"):
                        await broker.publish(Order(number=number), "orders", key=b"tea")
                else:
                    await broker.publish(Order(number=number), "orders", key=b"tea")
            assert len(broker.published("out")) == MESSAGES * 49 // 50
            handle.mock.reset_mock()
            listen.mock.reset_mock()
        before = before or blocks()
    assert blocks() - before < BLOCKS
