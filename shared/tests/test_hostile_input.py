"""What a sender chose, and a handler never sees or only passes on."""

import asyncio
from typing import Any

import pytest
from fastapi_stream_core import AckPolicy
from fastapi_stream_core.testing.reference import LocalRouter, TestLocalBroker

from scripted import DEADLINE, ScriptedBroker


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("identifier", "goes_on"),
    [("c-1", True), ("é" * 127, True), ("x" * 256, False), ("é" * 128, False), ("a\r\nb", False), ("\ud800", False)],
    ids=["short", "as long as may be", "long", "long in bytes", "line breaks", "no character"],
)
async def test_an_id_that_not_every_broker_takes_stays_behind(identifier: str, goes_on: bool, batch: bool) -> None:
    """Its publication would fail, and with it the handling, of a whole batch of other senders' messages too."""
    router = LocalRouter()

    @router.subscriber("questions", batch=batch)
    @router.publisher("results")
    async def handler(msg: Any) -> Any:
        return msg

    async with TestLocalBroker(router.broker) as broker:
        await broker.publish("hi", "questions", correlation_id=identifier)
        (result,) = broker.published("results")
    assert (result.correlation_id == identifier) is goes_on
    assert result.correlation_id


@pytest.mark.parametrize("batch", [False, True])
async def test_an_invalid_message_is_rejected_where_handlers_settle_by_hand(batch: bool) -> None:
    """No handler gets to see it, so none could settle it: it would keep its place for ever."""
    broker, seen = ScriptedBroker(logger=None), asyncio.Event()

    async def one(number: int) -> None:
        seen.set()

    async def several(numbers: list[int]) -> None:
        seen.set()

    broker.subscriber("in", ack_policy=AckPolicy.MANUAL, batch=batch)(several if batch else one)
    async with broker:
        broker.script.give("no number", "5")
        await asyncio.wait_for(seen.wait(), DEADLINE)
    assert broker.script.log == ["start", "reject no number", "close"]
