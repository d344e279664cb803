"""What a failed message held is freed with it, not when the garbage collector runs some day."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends
from fastapi_stream_core import AckPolicy, StreamMessage
from fastapi_stream_core.testing.conformance import until

from scripted import Message, ScriptedBroker


class Weak(Message):
    """A message that can be watched."""

    __slots__ = ("__weakref__",)


async def raises() -> None:
    raise ValueError("async dependency")


def sync_raises() -> None:
    raise ValueError("sync dependency")


async def at_once(body: bytes) -> None:
    raise ValueError("at once")


async def later(body: bytes) -> None:
    await asyncio.sleep(0)
    raise ValueError("later")


async def in_a_task(body: bytes) -> None:
    await asyncio.ensure_future(later(body))


def sync(body: bytes) -> None:
    raise ValueError("in a thread")


def chained(body: bytes) -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("in a thread") from error


async def with_dependency(body: bytes, _: Annotated[None, Depends(raises)]) -> None: ...


async def with_sync_dependency(body: bytes, _: Annotated[None, Depends(sync_raises)]) -> None: ...


async def invalid(body: int) -> None: ...


def sync_invalid(body: int) -> None: ...


HANDLERS: list[Callable[..., Any]] = [
    at_once,
    later,
    in_a_task,
    sync,
    chained,
    with_dependency,
    with_sync_dependency,
    invalid,
    sync_invalid,
]


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("publish", [False, True])  # with a publisher sync handlers are called one by one
async def test_a_failed_message_is_freed(handler: Callable[..., Any], publish: bool) -> None:
    broker = ScriptedBroker(logger=None)
    handler = broker.publisher("out")(handler) if publish else handler
    broker.subscriber("in", ack_policy=AckPolicy.REJECT_ON_ERROR)(handler)
    async with broker:
        script = broker.script
        alive: list[weakref.ref[Any]] = []
        gc.collect()
        gc.disable()
        try:
            for number in range(20):
                one = Weak(b"text %d" % number, None, "in")
                alive.append(weakref.ref(one))
                script.items.put_nowait([one])
                del one
            script.give("last")
            await until(lambda: "reject last" in script.log)
            await asyncio.to_thread(int)  # a thread lets go of its last work when it gets the next one
            kept = [one for one in alive if one() is not None]
        finally:
            gc.enable()
    assert len(kept) <= 1


async def test_a_failed_batch_is_freed() -> None:
    broker = ScriptedBroker(logger=None)

    @broker.subscriber("in", ack_policy=AckPolicy.REJECT_ON_ERROR, batch=True)
    async def handle(bodies: list[bytes], message: StreamMessage) -> None:
        await asyncio.sleep(0)
        raise ValueError("batch")

    async with broker:
        alive: list[weakref.ref[Any]] = []
        gc.collect()
        gc.disable()
        try:
            for number in range(20):
                one = Weak(b"%d" % number, None, "in", lane=0)
                alive.append(weakref.ref(one))
                broker.script.items.put_nowait([one])
                del one
            broker.script.give("last", lane=1)
            await until(lambda: "reject last" in broker.script.log)
            kept = [one for one in alive if one() is not None]
        finally:
            gc.enable()
    assert len(kept) <= 1
