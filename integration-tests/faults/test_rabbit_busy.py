"""A consumer is lost while every worker is busy: the next one does not wait until one of them is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractExchange
from aiormq.abc import DeliveredMessage
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

from proxy import Proxy
from servers import Server
from waiting import until

WORKERS = 2
CONSUME = b"\x00\x3c\x00\x14"
"""The class and the method of `basic.consume`."""


@pytest.fixture
async def channel(rabbit_server: Server) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(rabbit_server.url) as connection:
        yield await connection.channel()


class Busy:
    """A subscriber whose first messages keep all of its workers until `free` is set."""

    def __init__(self, url: str, queue: RabbitQueue, exchange: RabbitExchange | None = None) -> None:
        self.broker = RabbitBroker(url)
        self.begun, self.free = Inbox(), asyncio.Event()

        @self.broker.subscriber(queue, exchange, max_workers=WORKERS)
        async def handler(msg: int) -> None:
            self.begun.put(msg)
            if msg < WORKERS:
                await self.free.wait()

    async def is_there_again(self, exchange: AbstractExchange, routing_key: str) -> None:
        """Wait until the queue takes a message, which waits for a worker."""

        async def is_taken() -> bool:
            returned = await exchange.publish(aio_pika.Message(b"7"), routing_key, mandatory=True)
            return not isinstance(returned, DeliveredMessage)

        await until(is_taken, 20, "that the queue is there again")
        assert self.begun.all == [0, 1]
        self.free.set()
        assert await self.begun.take() == 7


async def test_a_queue_of_its_own_is_bound_again(rabbit_server: Server, channel: AbstractChannel, name: str) -> None:
    exchange = RabbitExchange(name, type=ExchangeType.FANOUT)
    async with Proxy(rabbit_server.url) as proxy:
        app = Busy(proxy.url, RabbitQueue(f"{name}-own", exclusive=True), exchange)
        async with app.broker:
            fanout = await channel.get_exchange(name)
            for number in range(WORKERS):
                await fanout.publish(aio_pika.Message(b"%d" % number), "")
            await app.begun.take_many(WORKERS)
            await proxy.cut()
            await proxy.open()
            # Until then the server may still have the queue of the lost connection, and it goes with what it has.
            await until(lambda: proxy.sent.count(CONSUME) == 2, 20, "that the queue is consumed again")
            await app.is_there_again(fanout, "")


async def test_a_queue_that_was_deleted_is_made_again(
    rabbit_server: Server, channel: AbstractChannel, name: str
) -> None:
    app = Busy(rabbit_server.url, RabbitQueue(name))
    async with app.broker:
        for number in range(WORKERS):
            await channel.default_exchange.publish(aio_pika.Message(b"%d" % number), name)
        await app.begun.take_many(WORKERS)
        await channel.queue_delete(name)
        await app.is_there_again(channel.default_exchange, name)


async def test_others_get_what_would_wait_behind_busy_workers(
    rabbit_server: Server, channel: AbstractChannel, name: str
) -> None:
    async with Proxy(rabbit_server.url) as proxy:
        app, other = Busy(proxy.url, RabbitQueue(name)), Busy(rabbit_server.url, RabbitQueue(name))
        other.free.set()
        async with app.broker:
            for number in range(WORKERS):
                await channel.default_exchange.publish(aio_pika.Message(b"%d" % number), name)
            await app.begun.take_many(WORKERS)
            await proxy.cut()
            await proxy.open()

            async def is_consumed() -> bool:
                queue = await channel.declare_queue(name, passive=True)
                return queue.declaration_result.consumer_count == 1

            await until(lambda: proxy.sent.count(CONSUME) == 2, 20, "that there is another consumer")
            await until(is_consumed, 20, "that it is the only one")
            async with other.broker:
                for number in range(10, 20):
                    await channel.default_exchange.publish(aio_pika.Message(b"%d" % number), name)
                await until(lambda: len(set(other.begun.all)) == 11, 20, "that the other one has all but one")
                app.free.set()
                await until(lambda: {*app.begun.all, *other.begun.all} == {0, 1, *range(10, 20)}, 20)
