"""What a record costs from aiokafka's object to the noted acknowledgement, counted."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from fastapi_stream_core.partition import Commits, Offsets, Partition
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.work import count_work
from fastapi_stream_kafka import KafkaBroker, KafkaMessage
from pydantic import BaseModel

# Python and C calls of one message: made of the record, decoded, validated, handled, its offset noted for a commit.
# About 15 % above the highest count of Python 3.10 to 3.13.
CALLS = 44
TASKS = 0.02
FUTURES = 0.02
KEPT = 0.02

PARTITION = TopicPartition("orders", 0)
HEADERS = [("content-type", b"application/json"), ("correlation_id", b"c-1")]
BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5}'


class Order(BaseModel):
    id: int
    name: str
    price: float


class KafkaFeed(Feed["ConsumerRecord[bytes, bytes]"]):
    """Keeps offsets and commits them, as the real source does."""

    def __init__(self, broker: KafkaBroker) -> None:
        super().__init__(broker, record, self.received, self.settled_one)
        self.offsets: dict[Partition, Offsets] = {PARTITION: Offsets(0)}
        self.commits = Commits(self.commit, self.offsets, print)
        self.committed = 0

    def received(self, record: ConsumerRecord[bytes, bytes]) -> KafkaMessage:
        self.offsets[PARTITION].fetched(record.offset)
        return KafkaMessage(record, PARTITION)

    def settled_one(self, message: Any) -> None:
        self.commits.done(message.lane, message.raw_message.offset)

    async def commit(self, positions: dict[Partition, int]) -> None:
        self.committed = positions[PARTITION]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await self.commits.flush()
        await self.commits.close()


def record(number: int) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("orders", 0, number, 0, 0, None, BODY, None, 0, len(BODY), HEADERS)


def test_a_record() -> None:
    broker = KafkaBroker("localhost:9092", logger=None)

    @broker.subscriber("orders", group_id="tea")
    async def handle(order: Order) -> None: ...

    feeds: list[KafkaFeed] = []

    def make() -> KafkaFeed:
        feeds.append(KafkaFeed(broker))
        return feeds[0]

    work = count_work(make)
    assert feeds[0].committed == feeds[0].settled
    work.check(all_calls=CALLS, tasks=TASKS, futures=FUTURES, log_calls=0, kept_objects=KEPT, kept_blocks=KEPT)
