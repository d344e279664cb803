"""A consumer is lost while every worker is busy: the next one does not wait until one of them is free."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import JStream, NatsBroker, PullSub, RetentionPolicy
from nats.js import JetStreamContext

from waiting import until


@pytest.mark.parametrize("options", [{}, {"pull_sub": PullSub(1)}], ids=["push", "pull"])
async def test_a_consumer_is_deleted(nats_url: str, name: str, js: JetStreamContext, options: dict[str, Any]) -> None:
    """A stream with retention by interest drops what is published while there is no consumer."""
    broker, begun, free = NatsBroker(nats_url), Inbox(), asyncio.Event()

    @broker.subscriber(name, stream=JStream(name, retention=RetentionPolicy.INTEREST), max_workers=1, **options)
    async def handler(msg: int) -> None:
        begun.put(msg)
        if not msg:
            await free.wait()

    async def is_there() -> bool:
        return bool(await js.consumers_info(name))

    async with broker:
        await broker.publish(0, name, stream=name)
        assert await begun.take() == 0
        (info,) = await js.consumers_info(name)
        await js.delete_consumer(name, info.name)
        await until(is_there, 30, "that there is a consumer again")
        assert begun.all == [0]
        for number in range(1, 4):
            await broker.publish(number, name, stream=name)
        free.set()
        await until(lambda: {*begun.all} == {0, 1, 2, 3})
