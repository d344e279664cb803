"""Fixtures with a real server each, started once for the whole run and only if a test asks for it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from servers import NO_CONTAINER, Server, open_server


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
