"""Whatever a client says to a settlement, the worker goes on and the log has one line."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import pytest
from fastapi_stream_core import AckPolicy, RejectMessage, Retry, StreamMessage

from scripted import ScriptedBroker, ScriptedSource, until


class Refused(Exception):
    """What the client of this file raises."""


def refusing(broker: ScriptedBroker, *names: str) -> None:
    def fail(name: str) -> None:
        if name in names:
            raise Refused(name)

    broker.script.fail = fail


async def finished(broker: ScriptedBroker, *lines: str) -> None:
    await until(lambda: [one for one in broker.script.log if one in lines] == list(lines))


@pytest.mark.parametrize("kind", ["async", "sync", "batch", "ack first", "by hand"])
@pytest.mark.parametrize("waits", [False, True])
async def test_an_acknowledgement_that_raises(
    kind: str, waits: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[Any] = []
    policy = {"ack first": AckPolicy.ACK_FIRST, "by hand": AckPolicy.MANUAL}.get(kind, AckPolicy.NACK_ON_ERROR)
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in", ack_policy=policy, batch=kind == "batch")

    async def handle(body: bytes, message: StreamMessage) -> None:
        if kind == "by hand":
            await message.ack()
        handled.append(body)

    def sync_handle(body: bytes) -> None:
        handled.append(body)

    async def batch_handle(bodies: list[bytes]) -> None:
        handled.extend(bodies)

    subscriber({"sync": sync_handle, "batch": batch_handle}.get(kind, handle))
    if waits:
        ack = ScriptedSource.ack

        async def later(source: ScriptedSource, message: StreamMessage) -> None:
            await asyncio.sleep(0)
            ack(source, message)

        def begun(source: ScriptedSource, message: StreamMessage) -> Awaitable[None]:
            return later(source, message)

        monkeypatch.setattr(ScriptedSource, "ack", begun)
    refusing(broker, "ack")
    with caplog.at_level(logging.WARNING):
        async with broker:
            broker.script.give("1", "2", lane=0)
            await finished(broker, "ack 1", "ack 2")
            worker = [task for task in asyncio.all_tasks() if task.get_name() == broker.subscribers[0].label]
            broker.script.give("3", lane=0)
            await finished(broker, "ack 1", "ack 2", "ack 3")
            assert [one.done() for one in worker] == [False], "the same worker goes on"
    assert handled == [b"1", b"2", b"3"]
    assert broker.report.counts == {"late": 3}
    assert [record.getMessage().count("could not be settled: Refused: ack") for record in caplog.records] == [1] * 3


@pytest.mark.parametrize("redelivers", [False, True])
async def test_a_rejection_and_a_nack_that_raise(redelivers: bool) -> None:
    broker = ScriptedBroker({"redelivers": redelivers})
    subscriber = broker.subscriber("in")
    subscriber.retry = Retry(delay=0.001)

    @subscriber
    async def handle(body: bytes, message: StreamMessage) -> None:
        if body == b"reject":
            raise RejectMessage
        if body == b"fail" and message.attempt == 1:
            raise ValueError("once")

    refusing(broker, "reject", "nack")
    async with broker:
        broker.script.give("reject", "fail", "last")
        await finished(broker, "ack last")
        assert "reject reject" in broker.script.log
        if redelivers:
            assert "nack fail" in broker.script.log
        else:
            await finished(broker, "ack last", "ack fail")


async def test_a_client_that_cannot_pause_loses_no_message_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in")
    subscriber.retry = Retry(delay=0.001)

    @subscriber
    async def handle(body: bytes, message: StreamMessage) -> None:
        if message.attempt == 1 and body == b"1":
            raise ValueError("once")

    refusing(broker, "hold", "keep", "resume")
    async with broker:
        broker.script.give("1", "2", lane=0)
        await finished(broker, "ack 1", "ack 2")
        assert [one for one in broker.script.log if not one.startswith("ack")] == [
            "start",
            "hold 0",
            "keep 1",
            "resume 0",
        ]
    assert caplog.text.count("Refused") == 3
