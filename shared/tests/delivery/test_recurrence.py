"""What happens again and again is said less and less."""

import asyncio
import logging

import pytest
from fastapi_stream_core import recurrence
from fastapi_stream_core.recurrence import Recurrence

from scripted import DEADLINE, ScriptedBroker


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test may change."""
    now = [1000.0]
    monkeypatch.setattr(recurrence, "monotonic", lambda: now[0])
    return now


def test_intervals_grow(now: list[float]) -> None:
    failures, said = Recurrence(), []
    for second in range(200):
        now[0] = 1000.0 + second
        if failures.is_due(ConnectionError()):
            said.append(second)
    assert said == [0, 5, 15, 35, 75, 135, 195]


def test_each_kind_is_said_and_the_first_one_after_an_end(now: list[float]) -> None:
    failures = Recurrence()
    assert [failures.is_due(error) for error in (OSError(), ValueError(), OSError(), ValueError())] == [
        True,
        True,
        False,
        False,
    ]
    failures.end()
    assert [failures.is_due(error) for error in (OSError(), OSError())] == [True, False]


async def test_a_consumer_that_breaks_again_and_again_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    broker, seen = ScriptedBroker({}), asyncio.Event()

    @broker.subscriber("in")
    async def handle(body: bytes) -> None:
        seen.set()

    with caplog.at_level(logging.WARNING):
        async with broker:
            for _ in range(3):
                broker.script.items.put_nowait(ConnectionError("away"))
            broker.script.give("1")
            await asyncio.wait_for(seen.wait(), DEADLINE)
    assert broker.report.counts["restarted"] == 3
    assert [record.getMessage().count("the consumer stopped") for record in caplog.records] == [1]
