"""What a record costs from aiokafka's object to the noted acknowledgement, counted."""

from __future__ import annotations

from aiokafka import ConsumerRecord, TopicPartition
from fastapi_stream_core.testing.feed import PartitionFeed
from fastapi_stream_core.testing.work import count_work
from fastapi_stream_kafka import KafkaBroker, KafkaMessage
from pydantic import BaseModel

# Python and C calls of one message: made of the record, decoded, validated, handled, its offset noted for a commit.
# About 15 % above the highest count of Python 3.10 to 3.13.
CALLS = 26
TASKS = 0.02
FUTURES = 0.02
KEPT = 0.05

PARTITION = TopicPartition("orders", 0)
HEADERS = [("content-type", b"application/json"), ("correlation_id", b"c-1")]
BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5}'


class Order(BaseModel):
    id: int
    name: str
    price: float


def record(number: int) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("orders", 0, number, 0, 0, None, BODY, None, 0, len(BODY), HEADERS)


def message(record: ConsumerRecord[bytes, bytes]) -> KafkaMessage:
    return KafkaMessage(record, record.value, record.offset, PARTITION)


def offset(message: KafkaMessage) -> int:
    return message.offset


def test_a_record() -> None:
    broker = KafkaBroker("localhost:9092", logger=None)

    @broker.subscriber("orders", group_id="tea")
    async def handle(order: Order) -> None: ...

    work = count_work(lambda: PartitionFeed(broker, record, message, PARTITION, offset))
    work.check(all_calls=CALLS, tasks=TASKS, futures=FUTURES, log_calls=0, kept_objects=KEPT, kept_blocks=KEPT)
