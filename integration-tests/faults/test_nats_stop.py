"""Stopping while the server of NATS is frozen: nothing is to be gained by waiting for it at each step."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from fastapi_stream_nats import NatsBroker

from servers import ProcessServer

DEADLINE = 40.0
COUNT = 40
MOST_SECONDS = 7.0
"""For one answer that does not come; each step for itself would wait three times and more."""
KINDS: dict[str, dict[str, Any]] = {
    "pull": {"durable": "d", "pull_sub": True},
    "push": {"durable": "d"},
    "own": {},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_frozen_server_is_waited_for_once(nats_process: ProcessServer, name: str, kind: str) -> None:
    runs, enough = Counter[int](), asyncio.Event()

    def reading(wanted: int) -> NatsBroker:
        broker = NatsBroker(nats_process.url, graceful_timeout=3.0)
        enough.clear()

        @broker.subscriber(name, stream=name, max_workers=4, **KINDS[kind])
        async def handler(msg: int) -> None:
            if wanted < COUNT:
                await asyncio.sleep(0.1)
            runs[msg] += 1
            if len(runs) >= wanted:
                enough.set()

        return broker

    broker = reading(4)
    await broker.start()
    for number in range(COUNT):
        await broker.publish(number, name, stream=name)
    await asyncio.wait_for(enough.wait(), DEADLINE)
    nats_process.pause()
    try:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await broker.stop()
        assert loop.time() - began < MOST_SECONDS
    finally:
        nats_process.unpause()
    if kind != "own":  # a consumer without a name is of one start
        async with reading(COUNT):
            await asyncio.wait_for(enough.wait(), DEADLINE)
        assert len(runs) == COUNT
