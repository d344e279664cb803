"""HTTP endpoints of the same app are not held up while a backlog drains."""

from __future__ import annotations

import asyncio
import gc
import time
from uuid import uuid4

import pytest
from pydantic import BaseModel

from durable import BROKERS, Durable
from servers import Server

BACKLOG = 30_000
LONGEST_TURN_SECONDS = 0.050
DEADLINE = 100.0


class Order(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("broker", BROKERS)
async def test_the_longest_turn_of_the_loop(broker: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(f"{broker}_server")
    name = f"fair-{uuid4().hex[:10]}"
    await fill(broker, server.url, name)

    durable = Durable(broker, server.url, name)
    handled = 0
    over = asyncio.Event()

    @durable.subscriber()
    async def handle(order: Order) -> None:
        nonlocal handled
        handled += 1
        if handled >= BACKLOG:
            over.set()

    gc.collect()
    gc.freeze()  # what a thousand tests left behind is no part of the app, and a collection would walk through it
    try:
        async with durable.router.broker:
            ticker = Ticker()
            ticker.start()
            await asyncio.wait_for(over.wait(), DEADLINE)
            ticker.stop()
    finally:
        gc.unfreeze()
    assert handled >= BACKLOG
    assert ticker.longest < LONGEST_TURN_SECONDS, f"the garbage collector took {ticker.collected:.3f} s of it"


async def fill(broker: str, url: str, name: str) -> None:
    """Declare what keeps messages for a consumer that is not there, and publish the backlog."""
    declaring = Durable(broker, url, name)

    @declaring.subscriber()
    async def never(body: bytes) -> None: ...

    async with declaring.router.broker:
        pass
    publishing = Durable(broker, url, name)
    async with publishing.router.broker:
        order = Order(id=1, name="a pound of tea", price=3.5, tags=["green", "loose"])
        for _ in range(BACKLOG // 500):
            await asyncio.gather(*(publishing.publish(order) for _ in range(500)))


class Ticker:
    """Measures the longest turn of the event loop: its thread's own CPU between two turns, so a busy machine is none.

    Attributes:
        longest: in seconds.
        collected: seconds of the longest turn that went to the garbage collector.
        turns: how many there were.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.collected = 0.0
        self.turns = 0
        self._collecting = 0.0
        self._began = 0.0
        self._running = False
        self._last = 0.0

    def start(self) -> None:
        self._running = True
        gc.callbacks.append(self._collect)
        self._last = time.thread_time()
        asyncio.get_running_loop().call_soon(self._tick)

    def stop(self) -> None:
        self._running = False
        gc.callbacks.remove(self._collect)

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._began = now
        else:
            self._collecting += now - self._began

    def _tick(self) -> None:
        now = time.thread_time()
        if now - self._last > self.longest:
            self.longest, self.collected = now - self._last, self._collecting
        self._last, self._collecting = now, 0.0
        self.turns += 1
        if self._running:
            asyncio.get_running_loop().call_soon(self._tick)
