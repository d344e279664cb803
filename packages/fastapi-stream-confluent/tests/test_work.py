"""What a record costs from the client's object to the noted acknowledgement, counted."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from confluent_kafka import Message
from fastapi_stream_confluent import KafkaBroker, KafkaMessage
from fastapi_stream_core.partition import Commits, Offsets, Partition
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.work import count_work
from pydantic import BaseModel

# Python and C calls of one message: made of the record, decoded, validated, handled, its offset noted for a commit.
# About 15 % above the highest count of Python 3.10 to 3.13.
CALLS = 50
TASKS = 0.02
FUTURES = 0.02
KEPT = 0.02

PARTITION = ("orders", 0)
HEADERS = [("content-type", b"application/json"), ("correlation_id", b"c-1")]
BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5}'


class Order(BaseModel):
    id: int
    name: str
    price: float


class KafkaFeed(Feed[Message]):
    """Keeps offsets and commits them, as the real source does."""

    def __init__(self, broker: KafkaBroker) -> None:
        super().__init__(broker, record, self.received, self.settled_one)
        self.offsets: dict[Partition, Offsets] = {PARTITION: Offsets(0)}
        self.commits = Commits(self.commit, self.offsets, print)
        self.committed = 0

    def received(self, record: Message) -> KafkaMessage:
        offset = record.offset()
        self.offsets[record.topic(), record.partition()].fetched(offset)
        return KafkaMessage(record, PARTITION, offset)

    def settled_one(self, message: Any) -> None:
        self.commits.done(message.lane, message.offset)

    async def commit(self, positions: dict[Partition, int]) -> None:
        self.committed = positions[PARTITION]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await self.commits.flush()
        await self.commits.close()


def record(number: int) -> Message:
    return Message(topic="orders", partition=0, offset=number, value=BODY, headers=HEADERS)


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
