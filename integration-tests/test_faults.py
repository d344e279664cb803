"""Nothing that a broker accepted is lost: consumers are killed and stopped, brokers restarted, messages counted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from durable import BROKERS, Durable
from servers import Server

DEADLINE = 90.0
COUNT = 1000


class Consumer:
    """A consumer process and what it has written."""

    def __init__(self, broker: str, server: Server, name: str, folder: Path, mode: str = "steady") -> None:
        self.command = [sys.executable, str(Path(__file__).with_name("fault_consumer.py"))]
        self.command += [broker, server.url, name, str(folder / "handled"), mode]
        self.output = folder / "handled"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=Path(__file__).parent)

    def end(self, by: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(by)
            self.process.wait(timeout=40)

    def lines(self) -> list[str]:
        return self.output.read_text().splitlines() if self.output.exists() else []

    def numbers(self) -> list[int]:
        return [int(line) for line in self.lines() if line.isdigit()]

    def cpu_seconds(self) -> float:
        """User and system time of the process so far."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def until(self, condition: Callable[[], bool], what: str, timeout: float = DEADLINE) -> None:
        """Wait until a condition holds; the log of the process is in the error when it does not."""
        deadline = time.monotonic() + timeout
        while not condition():
            ended = self.process is not None and self.process.poll() is not None
            if time.monotonic() > deadline or (ended and not condition()):
                tail = self.log.read_text()[-3000:] if self.log.exists() else ""
                raise AssertionError(f"{what} did not happen ({len(set(self.numbers()))} handled); the log:\n{tail}")
            tick = asyncio.Event()
            asyncio.get_running_loop().call_later(0.02, tick.set)
            await tick.wait()

    async def handled(self, count: int, timeout: float = DEADLINE) -> None:
        await self.until(lambda: len(set(self.numbers())) >= count, f"handling {count} messages", timeout)


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(broker: str, request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(f"{broker}_server")
    return server


@asynccontextmanager
async def publishing(broker: str, server: Server, name: str) -> AsyncIterator[Durable]:
    """A started router that publishes; what it declares makes queue, stream and group."""
    durable = Durable(broker, server.url, name)
    if broker in ("rabbit", "nats", "redis"):  # the queue, stream or group exists before anybody publishes

        @durable.subscriber()
        async def never(body: bytes) -> None: ...

        async with durable.router.broker:
            pass
        durable = Durable(broker, server.url, name)
    async with durable.router.broker:
        yield durable


async def publish_all(durable: Durable, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, 100):
        chunk = range(start, min(start + 100, numbers.stop))
        await asyncio.gather(*(durable.publish({"number": number}) for number in chunk))


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


async def test_the_consumer_is_killed_in_the_middle(broker: str, server: Server, name: str, tmp_path: Path) -> None:
    consumer = Consumer(broker, server, name, tmp_path)
    async with publishing(broker, server, name) as durable:
        await publish_all(durable, range(COUNT))
        consumer.start()
        try:
            await consumer.handled(300)
            consumer.end(signal.SIGKILL)
            before = len(consumer.numbers())
            assert before < COUNT
            consumer.start()
            await consumer.handled(COUNT)
        finally:
            consumer.end(signal.SIGKILL)
    assert set(consumer.numbers()) == set(range(COUNT))


async def test_the_consumer_is_stopped_in_the_middle(broker: str, server: Server, name: str, tmp_path: Path) -> None:
    consumer = Consumer(broker, server, name, tmp_path)
    async with publishing(broker, server, name) as durable:
        await publish_all(durable, range(COUNT))
        consumer.start()
        try:
            await consumer.handled(300)
            consumer.end(signal.SIGTERM)
            assert consumer.lines()[-1] == "stopped"
            assert len(consumer.numbers()) < COUNT
            consumer.start()
            await consumer.handled(COUNT)
        finally:
            consumer.end(signal.SIGTERM)
    assert Counter(consumer.numbers()) == Counter(range(COUNT)), "a clean stop repeats nothing"


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
