"""Fixtures with a real server each, started once for the whole run and only if a test asks for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator, Iterator
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from redis.asyncio import Redis

from servers import NO_CONTAINER, ProcessServer, Server, open_server, running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give all skips for want of a container one place, so that the summary has one line for them."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and NO_CONTAINER in report.longrepr[2]:
        report.longrepr = (__file__, 1, report.longrepr[2])
    return report


def _serve(broker: str, variable: str | None = None) -> Iterator[Server]:
    server = open_server(broker, variable)
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[Server]:
    yield from _serve("kafka")


@pytest.fixture(scope="session")
def confluent_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The Kafka server, unless a variable names one of its own."""
    if os.environ.get("FASTAPI_STREAM_CONFLUENT_URL"):
        yield from _serve("kafka", "FASTAPI_STREAM_CONFLUENT_URL")
    else:
        yield request.getfixturevalue("kafka_server")


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[Server]:
    yield from _serve("rabbit")


@pytest.fixture(scope="session")
def nats_server() -> Iterator[Server]:
    yield from _serve("nats")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    yield from _serve("redis")


@pytest.fixture
def name() -> str:
    """A name that nobody else uses."""
    return f"test-{uuid4().hex[:10]}"


@pytest.fixture
async def redis_client(redis_server: Server) -> AsyncIterator[Redis]:
    """A connection of redis-py's own."""
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        yield client


@pytest.fixture
def nats_url(nats_server: Server) -> str:
    """Where NATS is; a module whose server is another one says so with a fixture of this name."""
    return nats_server.url


@pytest.fixture
def nats_process() -> Iterator[ProcessServer]:
    """A NATS server of this test's own, which it may break."""
    with running(ProcessServer()) as server:
        yield server


@pytest.fixture
async def nats_client(nats_url: str) -> AsyncIterator[Client]:
    """A connection of nats-py's own, which stays through every restart of the server."""
    client = await nats.connect(nats_url, max_reconnect_attempts=-1, reconnect_time_wait=0.2)
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
def js(nats_client: Client) -> JetStreamContext:
    return nats_client.jetstream()
