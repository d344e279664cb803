"""Fixtures with a real server each, started once for the whole run and only if a test asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from servers import Server, open_server


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
