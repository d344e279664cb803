"""Nothing that a broker accepted is lost: handlers fail, consumers are stopped, brokers restarted, messages counted.

Consumers are killed in `test_coalescing.py`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from consumer import Consumer, publish_all, publishing
from durable import BROKERS
from servers import Server

COUNT = 1000


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(broker: str, request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(f"{broker}_server")
    return server


@pytest.fixture
def name() -> str:
    return f"fault-{uuid4().hex[:10]}"


async def test_one_percent_of_the_messages_fail_once(broker: str, server: Server, name: str, tmp_path: Path) -> None:
    consumer = Consumer(broker, server, name, tmp_path, "flaky")
    async with publishing(broker, server, name) as durable:
        await publish_all(durable, range(COUNT))
        consumer.start()
        try:
            await consumer.handled(COUNT)
        finally:
            consumer.end(signal.SIGTERM)
    assert Counter(consumer.numbers()) == Counter(range(COUNT))


async def test_the_consumer_is_stopped_in_the_middle(broker: str, server: Server, name: str, tmp_path: Path) -> None:
    consumer, count = Consumer(broker, server, name, tmp_path), 0
    async with publishing(broker, server, name) as durable:
        try:
            for _ in range(5):
                await publish_all(durable, range(count, count + COUNT))
                consumer.start()
                await consumer.handled(count + 300)
                count += COUNT
                consumer.end(signal.SIGTERM)
                assert consumer.lines()[-1] == "stopped"
                if len(consumer.numbers()) < count:
                    break
                # On a busy machine it may handle everything before it is told to stop.
            else:
                pytest.fail("it was never stopped in the middle")
            consumer.start()
            await consumer.handled(count)
        finally:
            consumer.end(signal.SIGTERM)
    assert Counter(consumer.numbers()) == Counter(range(count)), "a clean stop repeats nothing"


async def test_payloads_that_cannot_be_decoded(broker: str, server: Server, name: str, tmp_path: Path) -> None:
    consumer = Consumer(broker, server, name, tmp_path)
    async with publishing(broker, server, name) as durable:
        for number in range(200):
            bad = number % 10 == 5
            await durable.publish(b"{broken" if bad else {"number": number})
        consumer.start()
        try:
            await consumer.handled(180)
        finally:
            consumer.end(signal.SIGTERM)
    assert Counter(consumer.numbers()) == Counter(n for n in range(200) if n % 10 != 5)
    assert consumer.log.stat().st_size < 60_000


async def test_the_broker_is_restarted(broker: str, server: Server, name: str, tmp_path: Path) -> None:
    consumer = Consumer(broker, server, name, tmp_path)
    async with publishing(broker, server, name) as durable:
        await publish_all(durable, range(500))
        consumer.start()
        try:
            await consumer.handled(100)
            server.stop()
            cpu, log, began = consumer.cpu_seconds(), consumer.log.stat().st_size, time.monotonic()
            idle = asyncio.Event()
            asyncio.get_running_loop().call_later(4.0, idle.set)
            await idle.wait()
            seconds = time.monotonic() - began
            assert (consumer.cpu_seconds() - cpu) / seconds < 0.15, "a hot loop while the broker is away"
            assert (consumer.log.stat().st_size - log) / seconds < 5_000, "too much log while the broker is away"
            server.start()
            await publish_all(durable, range(500, COUNT))
            await consumer.handled(COUNT)
        finally:
            if not server.controllable:
                server.start()
            consumer.end(signal.SIGKILL)
    assert set(consumer.numbers()) == set(range(COUNT))
