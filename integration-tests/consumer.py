"""A consumer process that a test kills or stops, and what it has written; the publishing of what it consumes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from durable import Durable
from servers import Server

DEADLINE = 90.0


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
        return [int(first) for line in self.lines() if (first := line.partition(" ")[0]).isdigit()]

    def times(self) -> list[float]:
        """When each message was handled, in seconds of the monotonic clock."""
        return [int(line.partition(" ")[2]) / 1e9 for line in self.lines() if " " in line]

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
