"""HTTP endpoints of the same app are not held up while a backlog drains."""

from __future__ import annotations

import asyncio
import gc
from uuid import uuid4

import pytest
from pydantic import BaseModel

from durable import BROKERS, Durable
from servers import Server
from ticker import Ticker

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
    publishing = Durable(broker, url, name, publish_timeout=DEADLINE)
    async with publishing.router.broker:
        order = Order(id=1, name="a pound of tea", price=3.5, tags=["green", "loose"])
        for _ in range(BACKLOG // 500):
            await asyncio.gather(*(publishing.publish(order) for _ in range(500)))
