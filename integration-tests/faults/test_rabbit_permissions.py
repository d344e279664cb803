"""What an operator of RabbitMQ takes away from an app that runs: the error of a publication says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import pytest
from fastapi_stream_rabbit import BrokerUnavailable, PublishError, RabbitBroker

from proxy import Proxy
from servers import Server

DEADLINE = 40.0
OPEN = b"\x00\x0a\x00\x28"
"""Class and method of `connection.open`."""


class Operator:
    """Somebody with `rabbitmqctl`, a virtual host, and its only user."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.name = f"operated-{uuid4().hex[:10]}"
        place = urlsplit(server.url)
        self.url = f"amqp://{self.name}:{self.name}@{place.hostname}:{place.port}/{self.name}"

    async def do(self, *command: str) -> None:
        await asyncio.to_thread(self._server.execute, "rabbitmqctl", *command)

    async def permit(self, write: str = ".*") -> None:
        await self.do("set_permissions", "-p", self.name, self.name, ".*", write, ".*")

    async def cut(self) -> None:
        await self.do("close_all_connections", "--vhost", self.name, "cut")


@pytest.fixture
async def operator(rabbit_server: Server) -> AsyncIterator[Operator]:
    operator = Operator(rabbit_server)
    await operator.do("add_vhost", operator.name)
    await operator.do("add_user", operator.name, operator.name)
    await operator.permit()
    try:
        yield operator
    finally:
        await operator.do("delete_vhost", operator.name)
        await operator.do("delete_user", operator.name)


async def published(broker: RabbitBroker) -> None:
    """Publish, until it is possible again."""
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while True:
        try:
            await broker.publish(1, "q")
            return
        except BrokerUnavailable:
            assert asyncio.get_running_loop().time() < deadline


@pytest.mark.parametrize("taken", ["permissions", "connections", "channels"])
async def test_a_connection_that_is_refused_says_why(operator: Operator, taken: str) -> None:
    async with RabbitBroker(operator.url, publish_timeout=3.0) as broker:
        await broker.publish(0, "q")
        if taken == "permissions":
            await operator.do("clear_permissions", "-p", operator.name, operator.name)
            said = "refused"
        elif taken == "channels":
            await operator.do("set_user_limits", operator.name, '{"max-channels": 0}')
            said = "limit"
        else:
            await operator.do("set_vhost_limits", "-p", operator.name, '{"max-connections": 0}')
            said = "limit"
        await operator.cut()
        with pytest.raises(BrokerUnavailable, match=said):
            await broker.publish(1, "q")
        if taken == "permissions":
            await operator.permit()
        elif taken == "channels":
            await operator.do("clear_user_limits", operator.name, "all")
        else:
            await operator.do("clear_vhost_limits", "-p", operator.name)
        await published(broker)


async def test_a_user_that_may_not_publish_is_told_at_once(operator: Operator) -> None:
    await operator.permit(write="^$")
    async with RabbitBroker(operator.url, publish_timeout=60.0) as broker:
        with pytest.raises(PublishError, match=r"ACCESS_REFUSED.*write access"):
            await asyncio.wait_for(broker.publish(1, "q"), DEADLINE)


async def test_what_may_not_be_published_disturbs_nothing_else(operator: Operator) -> None:
    """RabbitMQ closes the channel of all for each of them."""
    await operator.permit(write="^amq.default$")
    async with await aio_pika.connect(operator.url) as connection:
        channel = await connection.channel()
        await channel.declare_exchange("forbidden")
        await channel.declare_queue("q")
        async with Proxy(operator.url) as proxy, RabbitBroker(proxy.url, publish_timeout=30.0) as broker:
            allowed = asyncio.create_task(published_often(broker))
            while not allowed.done():
                refusals = await asyncio.gather(
                    *(broker.publish(1, "q", "forbidden") for _ in range(5)), return_exceptions=True
                )
                assert {type(one) for one in refusals} == {PublishError}
            await allowed
            assert proxy.sent.count(OPEN) == 1


async def published_often(broker: RabbitBroker) -> None:
    for _ in range(20):
        await asyncio.gather(*(broker.publish(1, "q") for _ in range(50)))
