"""A commit that waits for the thread while a rebalance takes its partitions away does not set the group back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from fastapi_stream_confluent import KafkaBroker
from fastapi_stream_confluent.consumer import ConsumerThread
from fastapi_stream_confluent.transport import KafkaTransport
from fastapi_stream_core.dispatch import Dispatcher

DEADLINE = 30.0
TOPIC = "tea"
GROUP = "readers"
LANE = (TOPIC, 0)
COUNT = 3
STRATEGY = "roundrobin"


@pytest.fixture
def address() -> Iterator[str]:
    """The broker inside of librdkafka, with messages in one partition."""
    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    server = next(iter(cluster.list_topics(TOPIC, timeout=DEADLINE).brokers.values()))
    for number in range(COUNT):
        cluster.produce(TOPIC, str(number).encode(), partition=0)
    assert cluster.flush(DEADLINE) == 0
    yield f"{server.host}:{server.port}"
    cluster.flush(0)  # it lives until here


class Draining(Dispatcher):
    """Waits, while partitions are taken away, until it may go on: as long as a handler runs."""

    def __init__(self, subscription: Any) -> None:
        super().__init__(subscription)
        self.began, self.may_end = asyncio.Event(), asyncio.Event()

    async def revoke(self, lanes: Iterable[Hashable], timeout: float) -> None:
        self.began.set()
        await self.may_end.wait()
        await super().revoke(lanes, timeout)


@contextmanager
def another_member(address: str) -> Iterator[None]:
    """Be a second member of the group, without handling anything."""
    ended = threading.Event()
    config = {
        "bootstrap.servers": address,
        "group.id": GROUP,
        "enable.auto.commit": False,
        "partition.assignment.strategy": STRATEGY,
        "log_level": 0,
    }

    def run() -> None:
        member = Consumer(config)
        member.subscribe([TOPIC])
        while not ended.is_set():
            member.poll(0.1)
        member.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(DEADLINE)


class Noting:
    """The client's consumer; it notes what it is to commit."""

    def __init__(self, client: Consumer, commits: list[int]) -> None:
        self._client = client
        self._commits = commits

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> object:
        self._commits += [one.offset for one in offsets]
        return self._client.commit(offsets=offsets, asynchronous=asynchronous)


async def test_an_older_commit_is_dropped(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = KafkaBroker(address, allow_auto_create_topics=False)
    subscription = broker.subscriber(
        TOPIC, group_id=GROUP, auto_offset_reset="earliest", partition_assignment_strategy=[STRATEGY]
    )

    @subscription
    async def handler(msg: str) -> None: ...

    transport = KafkaTransport(broker)
    source: Any = transport.source(subscription)
    source.dispatcher = dispatcher = Draining(subscription)
    await asyncio.wait_for(source.start(), DEADLINE)
    commits, posted, post = list[int](), asyncio.Event(), ConsumerThread.post

    def post_noted(thread: ConsumerThread, job: Callable[[Any], object]) -> None:
        post(thread, lambda client: job(Noting(client, commits)))
        posted.set()

    try:
        messages: list[Any] = []
        while len(messages) < COUNT:
            messages += await asyncio.wait_for(source.fetch(COUNT), DEADLINE)
        with another_member(address):
            await asyncio.wait_for(dispatcher.began.wait(), DEADLINE)
            monkeypatch.setattr(ConsumerThread, "post", post_noted)
            source.ack(messages[0])
            flushing = asyncio.create_task(source.flush())
            await asyncio.wait_for(posted.wait(), DEADLINE)
            source.ack(messages[1])
            dispatcher.may_end.set()
            await asyncio.wait_for(flushing, DEADLINE)
        assert commits == []
        assert not source.offsets[LANE].done(messages[2].offset)
        assert "a commit failed" not in caplog.text
    finally:
        dispatcher.may_end.set()
        await source.close()
        await transport.close()
