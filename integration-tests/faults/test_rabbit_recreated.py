"""Exchanges and queues that somebody deletes, and perhaps makes again, while the app runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractExchange
from fastapi_stream_rabbit import ExchangeType, RabbitExchange, RabbitQueue, RabbitRouter

from proxy import Proxy
from servers import Server
from waiting import until

DEADLINE = 60.0
NOTICED_SECONDS = 15.0


class App:
    """A subscriber of an exchange, and what it got."""

    def __init__(self, url: str, *, bind_to: RabbitExchange | None = None) -> None:
        name = f"recreated-{uuid4().hex[:10]}"
        self.router = RabbitRouter(url)
        self.exchange = RabbitExchange(
            name, type=ExchangeType.TOPIC, bind_to=bind_to, routing_key="#" if bind_to else ""
        )
        self.queue = RabbitQueue(name, routing_key="a.#")
        self.publisher = self.router.publisher("a.b", self.exchange)
        self.seen: set[bytes] = set()

        @self.router.subscriber(self.queue, self.exchange)
        async def handler(msg: bytes) -> None:
            self.seen.add(msg)

    async def arrives(self, exchange: AbstractExchange, body: bytes) -> float:
        """Publish until something arrives; return how long that took."""
        began, number = time.monotonic(), 0
        while time.monotonic() < began + NOTICED_SECONDS:
            number += 1
            await exchange.publish(aio_pika.Message(b"%s %d" % (body, number)), "a.b", mandatory=False)
            if await settled(lambda: any(one.startswith(body) for one in self.seen), 0.2):
                return time.monotonic() - began
        raise AssertionError(f"nothing arrived within {NOTICED_SECONDS} s")


async def settled(condition: Callable[[], bool], seconds: float = DEADLINE) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        tick = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, tick.set)
        await tick.wait()
    return True


@asynccontextmanager
async def operator(server: Server, app: App) -> AsyncIterator[AbstractChannel]:
    """Somebody else's channel, which removes what the test leaves behind."""
    async with await aio_pika.connect(server.url) as connection, connection.channel() as channel:
        yield channel
        await channel.queue_delete(app.queue.name)
        await channel.exchange_delete(app.exchange.name)
        if app.exchange.bind_to is not None:
            await channel.exchange_delete(app.exchange.bind_to.name)


def warnings(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    ours = [one for one in caplog.records if one.name.startswith("fastapi_stream") and one.levelno >= logging.WARNING]
    return [one.getMessage() for one in ours if name in one.getMessage()]


@pytest.mark.parametrize("chained", [False, True], ids=["exchange", "what it is bound to"])
async def test_a_deleted_exchange_is_noticed_though_nothing_is_sent(
    rabbit_server: Server, chained: bool, caplog: pytest.LogCaptureFixture
) -> None:
    source = RabbitExchange(f"source-{uuid4().hex[:10]}", type=ExchangeType.FANOUT) if chained else None
    app = App(rabbit_server.url, bind_to=source)
    gone = (source or app.exchange).name
    async with app.router.broker as broker, operator(rabbit_server, app) as channel:
        await app.publisher.publish("before")
        assert await settled(lambda: b"before" in app.seen)
        await channel.exchange_delete(gone)
        assert await settled(lambda: bool(warnings(caplog, gone)), NOTICED_SECONDS)
        exchange = await channel.get_exchange(gone)
        await exchange.publish(aio_pika.Message(b"after"), "a.b")
        assert await settled(lambda: b"after" in app.seen)
        assert [f"the exchange {gone!r} was deleted" in one for one in warnings(caplog, gone)] == [True]
        assert "restarted" not in broker.report.counts


async def test_a_publisher_that_makes_the_exchange_again_loses_nothing(
    rabbit_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(rabbit_server.url)
    async with app.router.broker as broker, operator(rabbit_server, app) as channel:
        for number in range(3):
            await channel.exchange_delete(app.exchange.name)
            began = time.monotonic()
            assert await app.publisher.publish(f"message {number}") is not None
            assert await settled(partial(app.seen.__contains__, f"message {number}".encode()))
            assert time.monotonic() - began < 4  # before anything is looked after
        assert "unroutable" not in broker.report.counts
        assert len(warnings(caplog, app.exchange.name)) >= 1


async def test_an_exchange_that_somebody_else_made_again_is_bound_again(rabbit_server: Server) -> None:
    app = App(rabbit_server.url)
    async with app.router.broker as broker, operator(rabbit_server, app) as channel:
        await channel.exchange_delete(app.exchange.name)
        exchange = await channel.declare_exchange(app.exchange.name, "topic", durable=True)
        await app.arrives(exchange, b"after")
        assert "restarted" not in broker.report.counts


async def test_a_queue_that_was_deleted_and_made_again_is_bound_and_consumed(
    rabbit_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(rabbit_server.url)
    async with app.router.broker as broker, operator(rabbit_server, app) as channel:
        subscription = broker.subscribers[0]
        await channel.queue_delete(app.queue.name)
        await channel.declare_queue(app.queue.name, durable=True, arguments={"x-queue-type": "classic"})
        assert await settled(lambda: not subscription.running, NOTICED_SECONDS)
        await app.arrives(await channel.get_exchange(app.exchange.name), b"after")
        assert len(warnings(caplog, app.queue.name)) == 1


async def test_an_exchange_of_another_type_is_said_once(
    rabbit_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(rabbit_server.url, bind_to=RabbitExchange(f"source-{uuid4().hex[:10]}", type=ExchangeType.FANOUT))
    assert app.exchange.bind_to is not None
    source = app.exchange.bind_to.name
    async with app.router.broker, operator(rabbit_server, app) as channel:
        await channel.exchange_delete(app.exchange.name)
        await channel.exchange_delete(source)
        await channel.declare_exchange(app.exchange.name, "fanout", durable=True)
        assert await settled(lambda: bool(warnings(caplog, "'type'")), NOTICED_SECONDS)
        await channel.exchange_delete(app.exchange.name)
        assert await settled(lambda: bool(warnings(caplog, "was deleted")), NOTICED_SECONDS)
        assert len(warnings(caplog, "'type'")) == 1


@pytest.mark.parametrize("kept", [False, True], ids=["gone", "kept"])
async def test_a_queue_that_was_lost_with_the_connection_is_said_to_be_declared_anew(
    rabbit_server: Server, kept: bool, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: set[bytes] = set()
    async with Proxy(rabbit_server.url) as proxy, await aio_pika.connect(rabbit_server.url) as connection:
        router, channel = RabbitRouter(proxy.url), await connection.channel()

        @router.subscriber(name)
        @router.subscriber(RabbitQueue(f"{name}-own", auto_delete=True))
        async def handler(msg: bytes) -> None:
            seen.add(msg)

        async with router.broker as broker:
            for number in range(2):
                await proxy.cut()
                if not kept:
                    await channel.queue_delete(name)
                await proxy.open()
                for queue in (name, f"{name}-own"):

                    async def arrives(body: str = f"{queue} {number}", queue: str = queue) -> bool:
                        await broker.publish(body, queue, mandatory=False)
                        return await settled(lambda: body.encode() in seen, 0.3)

                    await until(arrives, what=f"that {queue} is consumed")
        said = [one for one in warnings(caplog, name) if "declared anew" in one]
        begins = f"subscriber({name!r}): the queue {name!r} was not there any more, and is declared anew"
        assert [one.startswith(begins) for one in said] == ([] if kept else [True, True])
        await channel.queue_delete(name)
