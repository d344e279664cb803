"""On which connection a queue is consumed, when RabbitMQ ends it again and again."""

from __future__ import annotations

import asyncio
import logging

import aiormq
import pytest
from aiormq.exceptions import ConnectionInternalError
from fastapi_stream_core.report import Report
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_rabbit import RabbitBroker, RabbitQueue
from fastapi_stream_rabbit.connection import Address
from fastapi_stream_rabbit.consuming import Consuming
from pamqp.base import Frame
from pamqp.commands import Basic
from toy_rabbit import DEADLINE, ToyServer
from yarl import URL

STOP_SECONDS = 20.0
CONSUMERS = 5
QUEUES = ("first", "poisoned", "exclusive", "last")


@pytest.fixture
def consuming() -> Consuming:
    address = Address(URL("amqp://127.0.0.1:1/"), "amqp://127.0.0.1:1")
    return Consuming(address, Report(logging.getLogger("fastapi_stream.rabbit")))


def broker_of(server: ToyServer) -> RabbitBroker:
    # No busy machine must look like a lost connection.
    broker = RabbitBroker(server.url.replace("heartbeat=1", "heartbeat=60"))

    async def handler(msg: str) -> None: ...

    for name in (*QUEUES, "exclusive"):
        exclusive = name == "exclusive"
        broker.subscriber(RabbitQueue(name, exclusive=exclusive, durable=not exclusive))(handler)
    return broker


def consumes(queue: str, asked: Frame) -> bool:
    return isinstance(asked, Basic.Consume) and asked.queue == queue


async def test_each_queue_has_a_connection_of_its_own_after_two_losses(caplog: pytest.LogCaptureFixture) -> None:
    async with ToyServer() as server:
        with caplog.at_level(logging.WARNING, "fastapi_stream"):
            async with broker_of(server):
                assert server.connections == 1
                server.ends = lambda asked: consumes("poisoned", asked)
                server.end()
                await until(
                    lambda: sum(queue == "poisoned" for number, queue in server.consumed if number > 2) > 3, DEADLINE
                )
                after = [one for one in server.consumed if one[0] > 2]
            await until(lambda: not server.left, DEADLINE)
    homes = {queue: {number for number, one in after if one == queue} for queue in QUEUES}
    assert all(len(homes[queue]) == 1 for queue in QUEUES if queue != "poisoned"), homes
    assert len(set().union(*homes.values())) == sum(map(len, homes.values())), homes
    assert sum(queue == "exclusive" for _, queue in after) == 2
    said = [one.getMessage() for one in caplog.records]
    assert sum("each queue has a connection of its own" in line for line in said) == 1
    assert [line for line in said if line.startswith("the queue 'poisoned': ") and "purge the queue" in line]
    assert not [line for line in said if line.startswith("the queue ") and "'poisoned'" not in line]


@pytest.mark.parametrize("ends", ["once", "otherwise"])
async def test_the_queues_stay_together_after_any_other_loss(ends: str) -> None:
    async with ToyServer() as server:
        async with broker_of(server):
            if ends == "once":
                server.end()
                await until(lambda: len(server.consumed) == 2 * CONSUMERS, DEADLINE)
            for round in range(2, 5):
                server.cut()
                await until(lambda: len(server.consumed) == (round + (ends == "once")) * CONSUMERS, DEADLINE)  # noqa: B023
            assert server.left == 1
        await until(lambda: not server.left, DEADLINE)


async def test_a_stop_does_not_wait_for_a_queue_that_backs_off() -> None:
    async with ToyServer() as server:
        async with broker_of(server):
            server.ends = lambda asked: consumes("poisoned", asked)
            server.end()
            await until(lambda: sum(queue == "poisoned" for _, queue in server.consumed) > 4, DEADLINE)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() < began + STOP_SECONDS
        await until(lambda: not server.left, DEADLINE)


async def test_a_start_that_is_cancelled_leaves_no_connection() -> None:
    async with ToyServer() as server:
        server.ends = lambda asked: consumes("poisoned", asked)
        starting = asyncio.ensure_future(broker_of(server).start())
        await until(lambda: sum(queue == "poisoned" for _, queue in server.consumed) > 3, DEADLINE)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await until(lambda: not server.left, DEADLINE)


def test_a_queue_waits_longer_and_longer(consuming: Consuming) -> None:
    fault = ConnectionInternalError("INTERNAL_ERROR")
    shared = consuming.link("poisoned")
    assert shared is consuming.shared
    for _ in range(2):
        assert consuming.link("poisoned") is shared
        shared.when_lost(fault)
    link = consuming.link("poisoned")
    assert link is not shared
    assert consuming.link("other") not in (link, shared)
    delays = []
    for _ in range(1100):
        link.when_lost(fault)
        delays.append(link.first_delay)
        assert link.is_suspect
    assert delays == sorted(delays)
    assert delays[0] < 1 < max(delays) < 30
    link.when_lost(aiormq.ConnectionClosed("CONNECTION_FORCED"))
    assert link.first_delay < 1
    assert not link.is_suspect
    assert not consuming.link("other").is_suspect


async def test_no_connection_is_made_after_the_end(consuming: Consuming) -> None:
    for _ in range(2):
        consuming.shared.when_lost(ConnectionInternalError("INTERNAL_ERROR"))
    await consuming.close()
    with pytest.raises(ConnectionError, match="stopped"):
        await consuming.channel("queue")
