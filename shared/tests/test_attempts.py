"""What counts towards a rejection: failures that were seen; what a broker counted before them as far as it must."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from fastapi_stream_core import AckPolicy, NackMessage, Retry, StreamMessage
from fastapi_stream_core.policy import decide
from fastapi_stream_core.tally import MOST, Tallies
from fastapi_stream_core.testing.conformance import until

from scripted import Message, ScriptedBroker

Fate = Callable[[StreamMessage], Any]


def broker_of(fates: list[Fate], batch: bool = False, **source: Any) -> ScriptedBroker:
    """Return a broker whose handler does one thing after another, and nothing when there is nothing left."""
    broker = ScriptedBroker({"pace": 0.0, **source})
    left = iter(fates)

    async def handle(body: bytes, message: StreamMessage) -> None:
        await next(left, well)(message)

    async def batch_handle(bodies: list[bytes], message: StreamMessage) -> None:
        await next(left, well)(message)

    broker.subscriber("in", batch=batch)(batch_handle if batch else handle)
    return broker


async def well(message: StreamMessage) -> None: ...


async def fail(message: StreamMessage) -> None:
    raise ValueError("it fails")


async def again(message: StreamMessage) -> None:
    raise NackMessage


async def cancel(message: StreamMessage) -> None:
    raise asyncio.CancelledError


async def again_by_hand(message: StreamMessage) -> None:
    await message.nack()


async def deliver(broker: ScriptedBroker, first: int, count: int, text: str = "1") -> list[str]:
    """Have one message delivered again and again, each time as a new object; return what the broker is told."""
    said = [line for line in broker.script.log if line.endswith(f" {text}")]
    for attempt in range(first, first + count):
        broker.script.give(text, attempt=attempt, redelivered=attempt > 1)
        told = len(said) + 1
        await until(lambda: len([line for line in broker.script.log if line.endswith(f" {text}")]) == told)  # noqa: B023
        said = [line for line in broker.script.log if line.endswith(f" {text}")]
    return [line.removesuffix(f" {text}") for line in said][-count:]


@pytest.mark.parametrize("batch", [False, True])
async def test_deliveries_that_were_handed_back_lose_no_message_that_then_fails_twice(batch: bool) -> None:
    broker = broker_of([fail, fail], batch, redelivers=True)
    async with broker:
        assert await deliver(broker, 6, 3) == ["nack", "nack", "ack"]
    assert broker.report.counts["retried"] == 2
    assert "rejected" not in broker.report.counts


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("first", "count"), [(1, 5), (2, 4), (3, 3), (4, 3), (6, 3), (24, 2), (25, 1), (1000, 1)])
async def test_a_message_that_fails_always_ends(first: int, count: int, batch: bool) -> None:
    broker = broker_of([fail] * 20, batch, redelivers=True)
    async with broker:
        assert await deliver(broker, first, count) == [*["nack"] * (count - 1), "reject"]


@pytest.mark.parametrize("first", [1, 6])
async def test_what_is_kept_here_is_counted_here(first: int) -> None:
    broker = broker_of([fail] * 20)
    async with broker:
        broker.script.give("1", attempt=first, redelivered=first > 1)
        await until(lambda: "reject 1" in broker.script.log)
    assert broker.script.log.count("keep 1") == (4 if first == 1 else 2)


@pytest.mark.parametrize("per_process", [1, 2, 3])
async def test_a_message_that_fails_in_one_process_after_another_ends(per_process: int) -> None:
    attempt, told = 1, [""]
    while told[-1] != "reject":
        broker = broker_of([fail] * 20, redelivers=True)
        async with broker:
            for _ in range(per_process):
                told += await deliver(broker, attempt, 1)
                if told[-1] == "reject":
                    break
                attempt += 1
    assert attempt == (6 if per_process == 3 else 25)


@pytest.mark.parametrize("redelivers", [False, True])
@pytest.mark.parametrize("wish", [again, again_by_hand])
async def test_a_delivery_that_the_handler_asked_for_is_no_failure(wish: Fate, redelivers: bool) -> None:
    broker = broker_of([wish] * 10 + [fail] * 4, redelivers=redelivers)
    async with broker:
        if redelivers:
            assert await deliver(broker, 1, 15) == ["nack"] * 14 + ["ack"]
        else:
            broker.script.give("1")
            await until(lambda: {"ack 1", "reject 1"} & set(broker.script.log))
    assert "rejected" not in broker.report.counts


async def test_another_message_with_the_number_of_one_that_failed_starts_anew() -> None:
    broker = broker_of([fail] * 20, redelivers=True)
    async with broker:
        assert await deliver(broker, 1, 4) == ["nack"] * 4
        assert await deliver(broker, 1, 5) == ["nack"] * 4 + ["reject"]


@pytest.mark.parametrize("fate", [fail, again, cancel])
async def test_a_message_that_its_broker_delivers_no_more_is_rejected(fate: Fate) -> None:
    broker = broker_of([fate], redelivers=True, most_deliveries=3)
    async with broker:
        assert await deliver(broker, 3, 1) == ["reject"]
    assert broker.report.counts["rejected"] == 1


async def test_a_message_that_is_nacked_by_hand_and_does_not_come_again_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = broker_of([StreamMessage.nack], redelivers=True, most_deliveries=3)
    async with broker:
        assert await deliver(broker, 3, 1) == ["nack"]
    assert "in at 1: nacked at delivery 3, which is the last one" in caplog.text


def test_few_attempts_are_all_of_them_seen() -> None:
    decided = partial(decide, ValueError(), policy=AckPolicy.NACK_ON_ERROR)
    assert decided(attempt=9, retry=Retry(attempts=1), failures=1, earlier=8).final
    assert not decided(attempt=9, retry=Retry(attempts=2), failures=1, earlier=8).final
    assert decided(attempt=10, retry=Retry(attempts=2), failures=2, earlier=8).final
    assert not decided(attempt=4, retry=Retry()).final
    assert decided(attempt=5, retry=Retry()).final


def test_what_is_remembered_of_failures_is_bounded() -> None:
    tallies = Tallies()

    def message(number: int, attempt: int) -> Message:
        return Message(b"%d" % number, None, "in", attempt=attempt)

    for number in range(MOST + 1):
        one = message(number, 1)
        tallies.of(one).failures = 1
        tallies.keep(one)
    found = [tallies.of(message(number, 2)) for number in (0, 1, MOST)]
    assert [(tally.failures, tally.earlier) for tally in found] == [(0, 1), (1, 0), (1, 0)]
