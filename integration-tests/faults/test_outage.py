"""A broker that is away takes nobody's attempts: every input that is acknowledged has its output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import pytest

from durable import Durable
from proxy import Proxy
from servers import Server

COUNT = 200
PUBLISH_SECONDS = 1.0
AWAY_SECONDS = 20.0
"""Five attempts at a publication of a second each, and the delays between them, would be over after eight seconds."""
DEADLINE = 90.0

Switch = Callable[[], Awaitable[None]]


@asynccontextmanager
async def connection(kind: str, server: Server) -> AsyncIterator[tuple[str, Switch, Switch]]:
    """Give the address of a server, what takes it away, and what brings it back."""
    if kind in ("kafka", "confluent"):  # the server says itself where it is, so that no proxy stays in between

        async def freeze() -> None:
            await asyncio.to_thread(server.pause)

        async def go_on() -> None:
            await asyncio.to_thread(server.unpause)

        yield server.url, freeze, go_on
    else:
        async with Proxy(server.url) as proxy:
            yield proxy.url, proxy.cut, proxy.open


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("redis", "redis"),
        ("nats", "nats"),
        ("rabbit", "rabbit"),
        ("confluent", "confluent"),
        ("kafka", "redis"),
    ],
)
@pytest.mark.timeout(300)
async def test_no_input_is_acknowledged_without_its_output(
    kind: str, target: str, request: pytest.FixtureRequest
) -> None:
    name = f"outage-{uuid4().hex[:10]}"
    server: Server = request.getfixturevalue(f"{kind}_server")
    target_server: Server = request.getfixturevalue(f"{target}_server")
    found: set[int] = set()
    all_found = asyncio.Event()
    handled: set[int] = set()
    some = asyncio.Event()

    reader = Durable(target, target_server.url, f"{name}-out")

    @reader.subscriber()
    async def note(number: int) -> None:
        found.add(number)
        if len(found) == COUNT:
            all_found.set()

    async with AsyncExitStack() as stack:
        url, leave, come_back = await stack.enter_async_context(connection(target, target_server))
        options = {"publish_timeout": PUBLISH_SECONDS, "graceful_timeout": 5.0}
        source_url = url if kind == target else server.url
        source = Durable(kind, source_url, name, **options)
        sink = Durable(target, url, f"{name}-out", **options)
        if kind == target:  # one broker for both
            sink.router = source.router

        @source.subscriber()
        @sink.publisher()
        async def handle(number: int) -> int:
            handled.add(number)
            if len(handled) >= COUNT // 10:
                some.set()
            await asyncio.sleep(0.01)
            return number

        await stack.enter_async_context(reader.router.broker)
        if kind != target:
            await stack.enter_async_context(sink.router.broker)
        broker = await stack.enter_async_context(source.router.broker)
        feeder = Durable(kind, source_url, name)  # without the short time: a busy machine may need longer
        async with feeder.router.broker:
            for number in range(COUNT):
                await feeder.publish(number)
        await asyncio.wait_for(some.wait(), DEADLINE)
        await leave()
        try:
            await asyncio.sleep(AWAY_SECONDS)
            assert {"paused", "restarted"} & set(broker.report.counts)
        finally:
            await come_back()
        await asyncio.wait_for(all_found.wait(), DEADLINE)
        counts = broker.report.counts
    assert found == set(range(COUNT))
    assert "rejected" not in counts
    assert "failed" not in counts
    assert "paused" in counts or kind == target
