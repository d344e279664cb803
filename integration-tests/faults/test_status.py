"""The status of a subscription says when its server is away, also where the client waits for it in silence."""

from __future__ import annotations

import asyncio
import importlib
import re
from typing import Any
from uuid import uuid4

import pytest
from fastapi_stream_core.subscription import Status

from durable import BROKERS
from servers import Server

DEADLINE = 60.0


@pytest.fixture(params=BROKERS)
def server(request: pytest.FixtureRequest) -> tuple[str, Server]:
    return request.param, request.getfixturevalue(f"{request.param}_server")


def broker_of(name: str, url: str) -> Any:
    package = importlib.import_module(f"fastapi_stream_{name}")
    (found,) = (one for one in package.__all__ if re.fullmatch(r"(?!Test)[A-Z]\w+Broker", one))
    return getattr(package, found)(url)


async def becomes(broker: Any, expected: Status) -> None:
    async def wait() -> None:
        while broker.subscribers[0].status is not expected:  # noqa: ASYNC110  (a status tells nobody)
            await asyncio.sleep(0.05)

    await asyncio.wait_for(wait(), DEADLINE)


async def test_a_server_that_is_frozen_shows_in_the_status(server: tuple[str, Server]) -> None:
    name, there = server
    broker = broker_of(name, there.url)
    received = asyncio.Event()
    address = f"status-{uuid4().hex[:8]}"

    @broker.subscriber(address)
    async def handler(msg: str) -> None:
        received.set()

    async with broker:
        assert broker.subscribers[0].status is Status.RUNNING
        there.pause()
        try:
            await becomes(broker, Status.BACKING_OFF)
            assert not broker.subscribers[0].running
        finally:
            there.unpause()
        await becomes(broker, Status.RUNNING)
        await broker.publish("a", address)
        await asyncio.wait_for(received.wait(), DEADLINE)
