"""A consumer is killed: nothing is lost, and what was in flight, or acknowledged a moment ago, is all that is repeated.

Acknowledgements are sent together; those that are held back when the process dies are lost with it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from consumer import Consumer, publish_all, publishing
from durable import BROKERS, Durable
from servers import Server

# Messages and workers of each mode of `fault_consumer.py`; a kill in the middle comes after more than an interval.
MODES = {"steady": (4_000, None), "parallel": (10_000, 10)}
DEFAULT_WORKERS = {"rabbit": 100}
DEFAULT_COUNT = {"rabbit": 20_000}
"""So many workers handle four thousand within an interval."""

SECONDS = {"kafka": 1.25, "confluent": 1.25, "rabbit": 0.1, "nats": 0.1, "redis": 0.1}
"""What was handled within so many seconds before the kill may be handled again.

Acknowledgements are held back under load for 1 s on Kafka, 2 ms on RabbitMQ, 5 ms on JetStream and 3 ms on Redis. The
rest is for a timer that comes late, and a commit on its way; on a busy machine the slowest answer is added.
"""


class Slowest:
    """Asks the broker again and again, until a process is killed.

    Attributes:
        seconds: that the slowest of the last answers took.
    """

    def __init__(self, durable: Durable) -> None:
        self.seconds = 0.0
        self._broker = durable.router.broker
        self._last: deque[float] = deque(maxlen=20)
        self._began = 0.0

    async def __aenter__(self) -> Slowest:
        self._began = time.monotonic()
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.seconds = max(0.0, *self._last, time.monotonic() - self._began)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _ask(self) -> None:
        while True:
            self._began = time.monotonic()
            await self._broker.ping()
            await asyncio.sleep(0.01)
            self._last.append(time.monotonic() - self._began)


@dataclass(frozen=True)
class Kill:
    """What was seen when a process was killed and another one handled the rest.

    Attributes:
        handled: how many messages the first one had handled.
        repeated: how many of them the second one handled again.
        recent: how many of them may have been without an acknowledgement that the broker knew of.
    """

    handled: int
    repeated: int
    recent: int


async def kill_in_the_middle(broker: str, server: Server, mode: str, directory: Path) -> Kill:
    """Let a process handle half of the messages, kill it, and let another one handle the others."""
    count, workers = MODES[mode]
    if workers is None:
        count, workers = DEFAULT_COUNT.get(broker, count), DEFAULT_WORKERS.get(broker, 1)
    name = f"coalescing-{uuid4().hex[:10]}"
    (directory / "first").mkdir(parents=True)
    (directory / "second").mkdir()
    first = Consumer(broker, server, name, directory / "first", mode)
    second = Consumer(broker, server, name, directory / "second", mode)
    async with publishing(broker, server, name) as durable:
        await publish_all(durable, range(count))
        first.start()
        try:
            await first.handled(1)
            async with Slowest(durable) as slowest:
                await first.handled(count // 2)
                first.end(signal.SIGKILL)
            handled = set(first.numbers())
            missing = set(range(count)) - handled
            assert missing, "it was killed in the middle"
            second.start()
            await second.until(lambda: missing <= set(second.numbers()), "handling what was left")
        finally:
            first.end(signal.SIGKILL)
            second.end(signal.SIGTERM)

    assert len(first.numbers()) == len(handled), "nothing is repeated while the process lives"
    assert len(second.numbers()) == len(set(second.numbers()))
    times = first.times()
    since = times[-1] - SECONDS[broker] - slowest.seconds
    repeated = handled & set(second.numbers())
    return Kill(len(handled), len(repeated), sum(one > since for one in times) + workers)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("broker", BROKERS)
@pytest.mark.parametrize("mode", MODES)
async def test_the_consumer_is_killed_in_the_middle(
    broker: str, mode: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(f"{broker}_server")
    for attempt in range(5):
        kill = await kill_in_the_middle(broker, server, mode, tmp_path / str(attempt))
        if kill.recent < kill.handled:
            break
        # The machine stood still for as long as the process lived: any number of repeated messages would be right.
    else:
        pytest.fail("no process lived for longer than an interval")
    seen = f"{kill.repeated} of {kill.handled} are repeated, at most {kill.recent} may be"
    assert kill.repeated <= kill.recent, seen
    request.node.user_properties.append(("repeated", seen))
