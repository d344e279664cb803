"""What is taken from the client before the core asks for it is bounded in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from fastapi_stream_confluent import KafkaBroker, consumer
from fastapi_stream_confluent.consumer import ConsumerThread
from fastapi_stream_confluent.log import ClientLog

DEADLINE = 15.0
TOPIC = "large"
SIZE = 10_000
COUNT = 200
MOST = 20 * SIZE
LANE = TopicPartition(TOPIC, 0, 0)


@pytest.fixture
def address() -> Iterator[str]:
    """The broker inside of librdkafka, with large messages in one partition."""
    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    server = next(iter(cluster.list_topics(TOPIC, timeout=DEADLINE).brokers.values()))
    for number in range(COUNT):
        cluster.produce(TOPIC, b"x" if number % 2 else b"x" * SIZE, headers=[("y", b"y" * SIZE)], partition=0)
    assert cluster.flush(DEADLINE) == 0
    yield f"{server.host}:{server.port}"
    cluster.flush(0)  # it lives until here


class Deliveries:
    """What the thread delivers."""

    def __init__(self, address: str, most_bytes: int = MOST) -> None:
        self.sizes: list[int] = []
        self.messages = 0
        self._came = asyncio.Event()
        config = {"bootstrap.servers": address, "group.id": "readers", "auto.offset.reset": "earliest"}
        log = ClientLog(KafkaBroker(address).report)
        self.thread = ConsumerThread(config, 0.05, most_bytes, self._deliver, lambda _: None, log)
        self.thread.start()

    def _deliver(self, messages: list[Message]) -> None:
        self.messages += len(messages)
        self.sizes.append(sum(len(one.value() or b"") + SIZE for one in messages))
        self._came.set()

    async def take(self, count: int) -> None:
        self._came.clear()
        self.thread.want(count)
        await asyncio.wait_for(self._came.wait(), DEADLINE)

    async def position(self) -> int:
        def work(client: Consumer) -> int:
            return int(client.position([LANE])[0].offset)

        return await self.thread.call(work)


async def test_a_delivery_is_bounded(address: str) -> None:
    deliveries = Deliveries(address)
    try:
        await deliveries.thread.call(lambda client: client.assign([LANE]))
        while deliveries.messages < COUNT:
            await deliveries.take(500)
    finally:
        await deliveries.thread.close()
    assert max(deliveries.sizes) <= 2 * MOST  # the size of what comes is guessed by what came
    assert deliveries.messages == COUNT


async def test_what_is_kept_while_nobody_asks_is_bounded(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "IDLE_SECONDS", 0.0)
    deliveries = Deliveries(address)
    try:
        await deliveries.thread.call(lambda client: client.assign([LANE]))

        async def several() -> None:
            while await deliveries.position() < 10:
                pass

        await asyncio.wait_for(several(), DEADLINE)
        for _ in range(80):  # each makes a turn of the thread, which may keep one more
            await deliveries.position()
        await deliveries.take(1)
        assert MOST // 2 < deliveries.sizes[0] <= MOST + 2 * SIZE
    finally:
        await deliveries.thread.close()


@pytest.mark.parametrize("paused", ["held", "idle"])
async def test_what_comes_back_is_not_paused(address: str, paused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client keeps a partition paused that is taken away and assigned again."""
    monkeypatch.setattr(consumer, "IDLE_SECONDS", 0.0)
    deliveries = Deliveries(address)
    thread, lane = deliveries.thread, (LANE.topic, LANE.partition)

    def leave(client: Consumer) -> None:
        client.unassign()
        thread.gone({lane})

    def come_back(client: Consumer) -> None:
        thread.come(client, {lane})
        client.assign([LANE])

    try:
        await thread.call(lambda client: client.assign([LANE]))
        if paused == "held":
            await deliveries.take(1)
            thread.hold(lane)
        else:

            async def all_is_paused() -> None:
                while not thread._all_paused:
                    await deliveries.position()

            await asyncio.wait_for(all_is_paused(), DEADLINE)
        await thread.call(leave)
        before, deliveries.messages = deliveries.messages, 0
        thread.want(500)
        await thread.call(come_back)
        while deliveries.messages < COUNT:
            await deliveries.take(500)
    finally:
        await thread.close()
    assert before <= COUNT
    assert deliveries.messages == COUNT
