"""Reading what a sender wrote takes one turn of the event loop for each large message, not one for all of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi_stream_core import AckPolicy
from fastapi_stream_core.testing.conformance import until
from pydantic import BaseModel, BeforeValidator

from scripted import Message, ScriptedBroker

COUNT = 30
LARGE = 70_000
read: list[int] = []


def slowly(value: object) -> object:
    read.append(1)
    time.sleep(0.003)
    return value


class Order(BaseModel):
    id: Annotated[int, BeforeValidator(slowly)]
    text: str = ""


raised: list[BaseException] = []


def check(value: object) -> object:
    if value == 3:
        raise raised[0]
    return value


class Checked(BaseModel):
    id: Annotated[int, BeforeValidator(check)]


@asynccontextmanager
async def most_in_a_turn() -> AsyncIterator[list[int]]:
    """Note how many messages were read between two turns of the event loop."""
    loop = asyncio.get_running_loop()
    read.clear()
    counts: list[int] = []

    def turn() -> None:
        nonlocal handle
        counts.append(len(read))
        read.clear()
        handle = loop.call_soon(turn)

    handle = loop.call_soon(turn)
    try:
        yield counts
    finally:
        handle.cancel()
        counts.append(len(read))


@pytest.mark.parametrize("kind", ["batch", "sync", "async"])
async def test_large_messages_are_read_one_in_a_turn(kind: str) -> None:
    broker = ScriptedBroker()
    handled: list[int] = []

    async def batch(orders: list[Order]) -> None:
        handled.extend(order.id for order in orders)

    def sync(order: Order) -> None:
        handled.append(order.id)

    async def one(order: Order) -> None:
        handled.append(order.id)

    subscriber = broker.subscriber("in", batch=kind == "batch")
    subscriber({"batch": batch, "sync": sync, "async": one}[kind])
    async with broker:
        broker.script.give(*(f'{{"id": {number}}}' for number in range(10)))  # a sync handler that is quick
        await until(lambda: len(handled) == 10)
        async with most_in_a_turn() as counts:
            broker.script.give(*(json.dumps({"id": number, "text": "x" * LARGE}) for number in range(COUNT)))
            await until(lambda: len(handled) == 10 + COUNT)
    assert sum(counts) == COUNT
    assert max(counts) <= (3 if kind == "sync" else 2)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit()], ids=["cancelled", "exit"])
@pytest.mark.parametrize("batch", [False, True])
async def test_a_validator_that_raises_anything_fails_its_own_message(error: BaseException, batch: bool) -> None:
    raised[:] = [error]
    broker = ScriptedBroker()
    handled: list[int] = []

    async def handle_batch(orders: list[Checked]) -> None:
        handled.extend(order.id for order in orders)

    async def handle(order: Checked) -> None:
        handled.append(order.id)

    subscriber = broker.subscriber("in", batch=batch, ack_policy=AckPolicy.REJECT_ON_ERROR)
    subscriber(handle_batch if batch else handle)
    async with broker:
        broker.script.give(*(f'{{"id": {number}}}' for number in range(5)))
        await until(lambda: sorted(handled) == [0, 1, 2, 4])
        await until(lambda: any("3" in line for line in broker.script.log if line.startswith(("reject", "keep"))))
        broker.script.give('{"id": 5}')
        await until(lambda: 5 in handled)


class Sealed(Message):
    """A message of which everything has to be read before anything is known but its size."""

    __slots__ = ("_sealed",)

    is_measured = True

    def __init__(self, number: int) -> None:
        super().__init__(b"", None, "in")
        self._sealed = b"%d" % number
        del self.body

    def __getattr__(self, name: str) -> Any:
        if name != "body":
            raise AttributeError(name)
        slowly(None)
        self.body = self._sealed
        return self.body

    @property
    def reply_to(self) -> str | None:
        assert self.body
        return None

    @property
    def content_type(self) -> str | None:
        assert self.body
        return None

    @property
    def size(self) -> int:
        return LARGE


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("replies", ["plain", "off"])
async def test_a_batch_of_messages_with_small_bodies_is_read_one_in_a_turn(replies: Any, workers: int) -> None:
    """What stands before a body may be large, and takes as long to read."""
    broker = ScriptedBroker()
    handled: list[list[int]] = []

    @broker.subscriber("in", batch=True, replies=replies, max_workers=workers)
    async def handle(numbers: list[int]) -> int:
        handled.append(numbers)
        return 0

    async with broker, most_in_a_turn() as counts:
        broker.script.items.put_nowait([Sealed(number) for number in range(COUNT)])
        await until(lambda: sum(map(len, handled)) == COUNT)
    assert sum(counts) == COUNT
    assert max(counts) <= 2
    assert sorted(number for numbers in handled for number in numbers) == list(range(COUNT))
    assert len(handled) <= workers
