"""A connection for each direction, and none that nobody needs."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from fastapi_stream_rabbit import RabbitRouter

from proxy import Proxy
from servers import Server

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
