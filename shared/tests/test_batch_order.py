"""A batch takes what its lane may handle now, and nothing else."""

import asyncio
import logging
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from fastapi_stream_core import AckPolicy, RejectMessage, Retry, StreamMessage
from fastapi_stream_core.testing.conformance import until

from scripted import DEADLINE, ScriptedBroker, ScriptedSource


@pytest.mark.parametrize("delay", [0.02, 1.0], ids=["it is due while the batch waits", "the batch is full before"])
async def test_a_batch_that_waits_does_not_overtake_what_failed(delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in", batch=True, max_workers=3)
    subscriber.retry = Retry(delay=delay, jitter=0.0)
    begun, fail = asyncio.Event(), asyncio.Event()
    gathering: list[bool] = []
    runs: list[list[bytes]] = []

    def seconds(_: object) -> float:
        if not begun.is_set():
            return 0.0
        gathering.append(True)
        return 0.4

    monkeypatch.setattr(type(subscriber), "batch_seconds", property(seconds))

    @subscriber
    async def handle(bodies: list[bytes]) -> None:
        runs.append(bodies)
        if len(runs) == 1:
            begun.set()
            await fail.wait()
            raise ValueError("once")

    async with broker:
        broker.script.give("1", lane="a")
        await asyncio.wait_for(begun.wait(), DEADLINE)
        broker.script.give("2", lane="a")
        await until(lambda: gathering)
        fail.set()
        broker.script.give("3", "4", lane="a")
        await until(lambda: {"ack 1", "ack 2", "ack 3", "ack 4"} <= set(broker.script.log))
    assert [body for bodies in runs for body in bodies] == [b"1", b"1", b"2", b"3", b"4"]
    assert runs[1] == [b"1"], "what failed runs again as it was"


@pytest.mark.parametrize("place", ["first", "last"])
async def test_a_copy_that_is_finished_is_in_no_batch(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_finished(source: ScriptedSource, message: StreamMessage) -> bool:
        return message.body == b"copy"

    monkeypatch.setattr(ScriptedSource, "is_finished", is_finished)
    broker = ScriptedBroker()
    runs: list[list[bytes]] = []

    @broker.subscriber("in", batch=True)
    async def handle(bodies: list[bytes]) -> None:
        runs.append(bodies)

    async with broker:
        texts = ["1", "2"]
        texts.insert(0 if place == "first" else 1, "copy")
        broker.script.give(*texts, redelivered=True, lane="a")
        await until(lambda: "ack 2" in broker.script.log)
        await until(lambda: broker.script.sources[0].dispatcher.backlog() == 0)
    assert runs == [[b"1", b"2"]]
    assert "ack copy" not in broker.script.log


async def test_each_message_of_a_batch_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    broker = ScriptedBroker(logger=logging.getLogger("batches"))

    @broker.subscriber("in", batch=True)
    async def handle(bodies: list[bytes]) -> None:
        if b"3" in bodies:
            raise RejectMessage

    async with broker:
        broker.script.give("1", "2")
        await until(lambda: "ack 2" in broker.script.log)
        broker.script.give("3")
        await until(lambda: "reject 3" in broker.script.log)
    lines = [record.getMessage() for record in caplog.records if "handle" in record.getMessage()]
    assert len(lines) == 3
    assert "acked" in lines[0]
    assert "at 3" in lines[2]
    assert "rejected" in lines[2]


class Gathering:
    """Two workers of a batch handler that waits, and a first batch that waits long for more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broker = ScriptedBroker()
        self.runs: list[list[bytes]] = []
        self.go = asyncio.Event()
        subscriber = self.broker.subscriber("in", batch=True, max_workers=2)
        seconds = property(lambda _: 0.0 if self.runs else 10 * DEADLINE)
        monkeypatch.setattr(type(subscriber), "batch_seconds", seconds)

        @subscriber
        async def handle(bodies: list[bytes]) -> None:
            self.runs.append(bodies)
            await self.go.wait()

    async def gather(self, text: str, lane: str) -> None:
        """Have a message taken by a worker that waits for more of its lane."""
        self.broker.script.give(text, lane=lane)
        await until(lambda: self.broker.script.sources[0].dispatcher._running)


async def test_another_lane_does_not_wait_for_the_handler_of_the_batch_that_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Gathering(monkeypatch)
    async with scene.broker:
        await scene.gather("1", "a")
        scene.broker.script.give("2", lane="b")
        await until(lambda: scene.runs == [[b"1"], [b"2"]])
        scene.go.set()
        await until(lambda: "ack 2" in scene.broker.script.log)


async def test_what_a_batch_waits_with_is_given_up_with_its_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Gathering(monkeypatch)
    async with scene.broker:
        await scene.gather("1", "a")
        dispatcher = scene.broker.script.sources[0].dispatcher
        await asyncio.wait_for(dispatcher.revoke(["a"], 10 * DEADLINE), DEADLINE)
        assert dispatcher.backlog() == 0
        scene.broker.script.give("2", lane="b")
        scene.broker.script.give("3", lane="c")
        await until(lambda: scene.runs[:1] == [[b"2"]])
        scene.go.set()
    assert [b"1"] not in scene.runs


async def test_an_override_that_no_message_can_fill_is_the_failure_of_its_messages() -> None:
    broker, app = ScriptedBroker(), FastAPI()
    broker.overrides_provider = app

    def number() -> int:
        return 1

    def wrong(*values: int) -> int:
        return 2

    @broker.subscriber("in", batch=True, ack_policy=AckPolicy.REJECT_ON_ERROR)
    async def handle(bodies: list[bytes], number: Annotated[int, Depends(number)]) -> None: ...

    async with broker:
        app.dependency_overrides[number] = wrong
        broker.script.give("1", "2")
        await until(lambda: {"reject 1", "reject 2"} <= set(broker.script.log))
        app.dependency_overrides.clear()
        broker.script.give("3")
        await until(lambda: "ack 3" in broker.script.log)
