"""RabbitMQ closes the channel of one message, while others are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aiormq import spec
from fastapi_stream_rabbit import PublishError, RabbitBroker
from pamqp.frame import marshal

from proxy import Proxy
from servers import Server

CONNECT = b"\x00\x0a\x00\x28"
"""The class and the method of `connection.open`."""
MANY = 1000
ROUNDS = 3


@pytest.fixture
async def channel(rabbit_server: Server) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(rabbit_server.url) as connection:
        yield await connection.channel()


async def test_publications_to_other_exchanges_notice_nothing(
    rabbit_server: Server, channel: AbstractChannel, name: str
) -> None:
    queue = await channel.declare_queue(name)
    async with Proxy(rabbit_server.url) as proxy, RabbitBroker(proxy.url, publish_timeout=30.0) as broker:
        for number in range(ROUNDS):
            exchange = await channel.declare_exchange(name)
            await queue.bind(exchange, "key")
            assert await broker.publish("before", "key", name) is not None
            await channel.exchange_delete(name)
            publications = [broker.publish("x", name) for _ in range(MANY)]
            publications.insert(MANY // 2, broker.publish("x", "key", name))
            outcomes = await asyncio.gather(*publications, return_exceptions=True)
            refused = [one for one in outcomes if not isinstance(one, spec.Basic.Ack)]
            assert [type(one) for one in refused] == [PublishError], number
        assert proxy.sent.count(CONNECT) == 1
    await channel.queue_delete(name)


async def test_a_channel_has_a_number_of_its_own(rabbit_server: Server, name: str) -> None:
    """The client library writes what waited for the channel before it to the next one of the same number."""
    async with Proxy(rabbit_server.url) as proxy, RabbitBroker(proxy.url) as broker:
        for _ in range(5):
            with pytest.raises(PublishError, match="user_id"):
                await broker.publish("x", name, mandatory=False, user_id="somebody-else")
        opened = [proxy.sent.count(marshal(spec.Channel.Open(), number)) for number in range(1, 60)]
    assert sum(opened) >= 10
    assert max(opened) == 1
