"""A stop says for whom it waits, whom it cancels, and what becomes of their messages."""

import asyncio
import logging
import signal
import threading
from typing import Any

import pytest
from fastapi_stream_core import AckPolicy, calls, dispatch
from fastapi_stream_core.testing.conformance import until

from scripted import DEADLINE, ScriptedBroker


def broker_that_waits(source: dict[str, Any], begun: list[bytes], go_on: asyncio.Event, **options: Any) -> Any:
    """Return a broker whose handler goes on when the event says so."""
    broker = ScriptedBroker(source, graceful_timeout=options.pop("graceful_timeout", 0.05))

    @broker.subscriber("in", max_workers=2, **options)
    async def bill(body: bytes) -> None:
        begun.append(body)
        if len(begun) == 2:
            both.set()
        await go_on.wait()

    both = asyncio.Event()
    return broker, both


@pytest.mark.parametrize(
    ("source", "policy", "fate"),
    [
        ({}, AckPolicy.NACK_ON_ERROR, "the message is delivered again"),
        ({"settles": False}, AckPolicy.NACK_ON_ERROR, "the message is gone"),
        ({}, AckPolicy.ACK_FIRST, "the message was acked before"),
    ],
)
async def test_handlers_that_are_cancelled(
    source: dict[str, Any], policy: AckPolicy, fate: str, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[bytes] = []
    broker, both = broker_that_waits(source, begun, asyncio.Event(), ack_policy=policy)
    with caplog.at_level(logging.WARNING):
        async with broker:
            broker.script.give("1", "2")
            await asyncio.wait_for(both.wait(), DEADLINE)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"in at {number}: bill was cancelled by the stop after ")
        assert fate in line
    assert broker.report.counts == {"cancelled": 2}


@pytest.mark.parametrize("kind", ["alone", "several", "batch"])
async def test_a_thread_outlives_the_stop_and_what_waits_behind_it_is_handed_back(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = ScriptedBroker(graceful_timeout=0.05)
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def work(text: str) -> None:
        if text == "slow":
            begun.set()
            go_on.wait(DEADLINE)
            over.set()

    def bill(text: str) -> None:
        work(text)

    def bill_all(texts: list[str]) -> None:
        for text in texts:
            work(text)

    subscriber = broker.subscriber("in", max_workers=2 if kind == "several" else 1, batch=kind == "batch")
    subscriber(bill_all if kind == "batch" else bill)
    script, quick = broker.script, [f"quick {number}" for number in range(20)]
    try:
        with caplog.at_level(logging.WARNING):
            async with broker:
                script.give(*quick, lane=0)
                await until(lambda: f"ack {quick[-1]}" in script.log)
                script.give(*(["slow", "behind", "last"] if kind == "alone" else ["slow"]), lane=0)
                await until(begun.is_set)
        assert not over.is_set()
    finally:
        go_on.set()
    (line,) = [record.getMessage() for record in caplog.records]
    name = "bill_all" if kind == "batch" else "bill"
    assert line.startswith(f"in at slow: {name} was given up by the stop after 0.")
    assert line.endswith(
        " s; its thread, if it has one, can't be cancelled and goes on; the message is delivered again"
    )
    assert [line for line in script.log if line.startswith("release")] == (
        ["release behind", "release last"] if kind == "alone" else []
    )
    await until(over.is_set)


async def test_what_a_thread_has_handled_before_it_is_given_up_is_settled(caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker(graceful_timeout=0.05)
    begun, go_on = threading.Event(), threading.Event()

    @broker.subscriber("in")
    def bill(text: str) -> None:
        if text == "slow":
            begun.set()
            go_on.wait(DEADLINE)

    script, quick = broker.script, [f"quick {number}" for number in range(20)]
    try:
        with caplog.at_level(logging.WARNING):
            async with broker:
                script.give(*quick, lane=0)
                await until(lambda: f"ack {quick[-1]}" in script.log)
                script.give("first", "second", "slow", "behind", lane=0)
                await until(begun.is_set)
    finally:
        go_on.set()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["in at slow"]
    assert script.log[-4:] == ["ack first", "ack second", "release behind", "close"]
    assert broker.report.counts == {"cancelled": 1}


async def test_a_message_that_waits_for_a_thread_is_handed_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "THREADS", 1)
    busy, waiting = ScriptedBroker(), ScriptedBroker({"settles": False}, graceful_timeout=0.05)
    begun, go_on, ran = threading.Event(), threading.Event(), threading.Event()

    @busy.subscriber("in")
    def block(text: str) -> None:
        begun.set()
        go_on.wait(DEADLINE)

    @waiting.subscriber("in")
    def bill(text: str) -> None:
        ran.set()

    async with busy:
        try:
            busy.script.give("1")
            await until(begun.is_set)
            with caplog.at_level(logging.WARNING):
                async with waiting:
                    waiting.script.give("2")
                    await until(lambda: not waiting.script.sources[0].dispatcher.ready() and waiting.script.fetches > 1)
        finally:
            go_on.set()
    assert waiting.script.log == ["start", "release 2", "close"]
    assert not ran.is_set()
    assert not caplog.records


async def test_a_stop_that_waits_says_for_whom(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "TELL_SECONDS", 0.05)
    begun: list[bytes] = []
    go_on, told = asyncio.Event(), asyncio.Event()
    broker, both = broker_that_waits({}, begun, go_on, graceful_timeout=DEADLINE)

    class Told(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            told.set()
            return True

    heard = Told()
    broker.logger.addFilter(heard)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests run
    try:
        with caplog.at_level(logging.WARNING):
            async with broker:
                broker.script.give("1", "2")
                await asyncio.wait_for(both.wait(), DEADLINE)
                stopping = asyncio.ensure_future(broker.stop())
                await asyncio.wait_for(told.wait(), DEADLINE)
                go_on.set()
                await asyncio.wait_for(stopping, DEADLINE)
    finally:
        signal.signal(signal.SIGINT, before)
        broker.logger.removeFilter(heard)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "subscriber('in'): waiting for 2 handlers: bill (0." in line
    assert line.endswith(f"; {DEADLINE:g} s at most; Ctrl-C again ends it")
    assert broker.report.counts == {}


async def test_a_stop_that_has_nothing_to_wait_for_says_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "TELL_SECONDS", 0.0)
    go_on = asyncio.Event()
    go_on.set()
    begun: list[bytes] = []
    broker, both = broker_that_waits({}, begun, go_on)
    with caplog.at_level(logging.WARNING):
        async with broker:
            broker.script.give("1", "2")
            await asyncio.wait_for(both.wait(), DEADLINE)
    assert caplog.records == []
