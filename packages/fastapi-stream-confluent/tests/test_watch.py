"""A look at the topics that goes wrong in a way nobody expects is told, and the subscription goes on looking."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import pytest
from confluent_kafka import Producer
from fastapi_stream_confluent import KafkaBroker, watch
from fastapi_stream_confluent.metadata import Topics, TopicState

DEADLINE = 30.0
TOPIC = "tea"


@pytest.fixture
def address() -> Iterator[str]:
    """The broker inside of librdkafka."""
    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    server = next(iter(cluster.list_topics(TOPIC, timeout=DEADLINE).brokers.values()))
    yield f"{server.host}:{server.port}"
    cluster.flush(0)


@pytest.mark.parametrize("group_id", [None, "readers"])
async def test_an_unexpected_error_of_a_look(
    address: str, group_id: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, looked_again, read = False, asyncio.Event(), asyncio.Event()

    async def look(topics: Topics, names: Iterable[str], age: float = 0.0) -> dict[str, TopicState]:
        nonlocal broken
        if running.is_set() and not broken:
            broken = True
            raise RuntimeError("cannot schedule new futures")
        if broken:
            looked_again.set()
        return {name: TopicState(None, (0, 1, 2, 3), False) for name in names}

    running = asyncio.Event()
    monkeypatch.setattr(Topics, "look", look)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.05)
    broker = KafkaBroker(address)

    @broker.subscriber(TOPIC, group_id=group_id, auto_offset_reset="earliest")
    async def handler(msg: str) -> None:
        read.set()

    async with broker:
        running.set()
        await asyncio.wait_for(looked_again.wait(), DEADLINE)
        await broker.publish("hi", TOPIC)
        await asyncio.wait_for(read.wait(), DEADLINE)
    assert "cannot schedule new futures" in caplog.text
    assert broker.report.counts["restarted"] == 1
