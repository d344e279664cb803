from __future__ import annotations

import pytest
from confluent_kafka import KafkaError
from fastapi_stream_confluent import KafkaBroker, log
from fastapi_stream_confluent.log import ClientLog

REFUSED = KafkaError(KafkaError._TRANSPORT, "localhost:9092/1: connection refused")
ALL_DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
TIMED_OUT = KafkaError(KafkaError._TIMED_OUT, "localhost:9092/1: 1 request(s) timed out")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(log, "monotonic", clock)
    return clock


async def test_an_error_explains_what_fails_soon_after_it(clock: Clock) -> None:
    said = ClientLog(KafkaBroker("localhost:9092").report)
    assert said.reason() is None

    said.error(REFUSED)
    clock.now += 31
    assert said.reason() == REFUSED.str()


async def test_an_error_of_long_ago_explains_nothing(clock: Clock) -> None:
    said = ClientLog(KafkaBroker("localhost:9092").report)
    said.error(REFUSED)

    clock.now += 3600
    assert said.reason() is None

    said.error(TIMED_OUT)
    assert said.reason() == TIMED_OUT.str()


async def test_that_all_brokers_are_down_takes_no_better_reason_away(clock: Clock) -> None:
    said = ClientLog(KafkaBroker("localhost:9092").report)
    said.error(REFUSED)
    said.error(ALL_DOWN)
    assert said.reason() == REFUSED.str()

    clock.now += 3600
    said.error(ALL_DOWN)
    assert said.reason() == ALL_DOWN.str()
