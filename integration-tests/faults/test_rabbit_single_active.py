"""A queue with a single active consumer: one process at a time, in the order of the queue."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import aio_pika
import pytest
from fastapi_stream_rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from servers import Server
from waiting import until

WORK_SECONDS = 0.02
STARTED = 3
"""Messages after which the first consumer is stopped, with more in hand."""
COUNT = 60

types = pytest.mark.parametrize("queue_type", [QueueType.CLASSIC, QueueType.QUORUM])


class Log:
    """What two consumers did: the messages in the order of their begin, and those that began beside another."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.beside: list[tuple[str, int]] = []
        self.done: set[int] = set()
        self._running = 0

    def consumer(self, server: Server, queue: RabbitQueue, name: str) -> RabbitBroker:
        broker = RabbitBroker(server.url, logger=None, default_channel=Channel(prefetch_count=20))

        @broker.subscriber(queue, max_workers=1)
        async def handle(msg: int) -> None:
            self.begun.append((name, msg))
            if self._running:
                self.beside.append((name, msg))
            self._running += 1
            await asyncio.sleep(WORK_SECONDS)  # it works
            self._running -= 1
            self.done.add(msg)

        return broker


def single(queue_type: QueueType, declare: bool = True) -> RabbitQueue:
    arguments = {"x-single-active-consumer": True}
    name = f"single-{uuid4().hex[:10]}"
    return RabbitQueue(name, queue_type=queue_type, declare=declare, arguments=arguments)


async def delete(server: Server, queue: RabbitQueue) -> None:
    async with await aio_pika.connect(server.url) as connection, connection.channel() as channel:
        await channel.queue_delete(queue.name)


@types
@pytest.mark.parametrize("declare", [True, False])
async def test_the_other_consumer_waits_while_messages_come(
    rabbit_server: Server, queue_type: QueueType, declare: bool
) -> None:
    queue, log = single(queue_type, declare), Log()
    async with await aio_pika.connect(rabbit_server.url) as connection, connection.channel() as channel:
        await channel.declare_queue(queue.name, durable=True, arguments=queue.declared_arguments())
    async with log.consumer(rabbit_server, queue, "first") as first, log.consumer(rabbit_server, queue, "second"):
        for number in range(COUNT):
            await first.publish(number, queue.name)
        await until(lambda: len(log.done) == COUNT, what="handling everything")
    await delete(rabbit_server, queue)
    assert log.begun == [("first", number) for number in range(COUNT)]


@types
async def test_a_stop_hands_on_in_order_what_it_did_not_begin(rabbit_server: Server, queue_type: QueueType) -> None:
    queue, log = single(queue_type), Log()
    first, second = (log.consumer(rabbit_server, queue, name) for name in ("first", "second"))
    await first.start()
    try:
        async with second:
            for number in range(COUNT):
                await second.publish(number, queue.name)
            await until(lambda: len(log.begun) > STARTED, what="the first messages")
            await first.stop()
            await until(lambda: len(log.done) == COUNT, what="handling everything")
    finally:
        await first.stop()
    await delete(rabbit_server, queue)
    assert log.beside == []
    assert [number for _, number in log.begun] == list(range(COUNT))
    assert {name for name, _ in log.begun} == {"first", "second"}
