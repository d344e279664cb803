"""A connection for each direction, and none that nobody needs."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest
from fastapi_stream_rabbit import BrokerUnavailable, RabbitRouter

from proxy import Jam, Proxy
from servers import Server
from waiting import DEADLINE

OPEN = b"\x00\x0a\x00\x28"
"""Class and method of `connection.open`."""


@pytest.mark.parametrize("exchange", ["", "amq.direct"])
async def test_a_broker_makes_the_connections_that_it_needs(rabbit_server: Server, exchange: str) -> None:
    name = f"connections-{uuid4().hex[:10]}"
    async with Proxy(rabbit_server.url) as proxy:
        router = RabbitRouter(proxy.url)
        arrived = asyncio.Event()

        @router.subscriber(name, exchange or None)
        async def handler(msg: str) -> None:
            arrived.set()

        async with router.broker as broker:
            assert proxy.sent.count(OPEN) == 1
            assert await broker.ping()
            assert proxy.sent.count(OPEN) == 1
            await asyncio.gather(*(broker.publish("hi", name, exchange) for _ in range(5)))
            assert proxy.sent.count(OPEN) == 2
            await asyncio.wait_for(arrived.wait(), 30)
        async with router.broker:
            assert proxy.sent.count(OPEN) == 3
        async with RabbitRouter(proxy.url).broker as broker:
            await broker.publish("hi", name, mandatory=False)
            assert await broker.ping()
            assert proxy.sent.count(OPEN) == 4
    async with RabbitRouter(rabbit_server.url).broker:
        pass


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "cut"])
async def test_what_waits_for_the_socket_hears_of_the_end_of_the_connection(
    rabbit_server: Server, stopped: bool
) -> None:
    """The socket takes nothing, so that the client library's queue is full, and others wait for a place in it."""
    name = f"jam-{uuid4().hex[:10]}"
    async with Jam(rabbit_server.url) as proxy:
        router = RabbitRouter(proxy.url)
        async with router.broker as broker:
            await broker.publish("first", name, mandatory=False)
            proxy.clear.clear()
            publications = [
                asyncio.ensure_future(broker.publish("x" * 1_000_000, name, mandatory=False)) for _ in range(60)
            ]
            done, _ = await asyncio.wait(publications, timeout=1.0)
            assert not done
            began = time.monotonic()
            if not stopped:
                await proxy.cut()
                proxy.clear.set()
                await proxy.open()
                await asyncio.wait_for(asyncio.gather(*publications), DEADLINE)
        outcomes = await asyncio.gather(*publications, return_exceptions=True)
    assert time.monotonic() - began < 9
    if stopped:
        assert {type(one) for one in outcomes} == {BrokerUnavailable}
