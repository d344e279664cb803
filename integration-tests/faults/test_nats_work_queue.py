"""A consumer of a work queue is gone: the next one begins where the server lets it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import ConsumerConfig, JStream, NatsBroker, PullSub, RetentionPolicy
from nats.js import JetStreamContext

from servers import ProcessServer
from waiting import DEADLINE, until

KINDS: dict[str, dict[str, Any]] = {
    "push": {},
    "pull": {"pull_sub": True},
    "durable": {"durable": "d", "pull_sub": PullSub(10)},
    "group": {"queue": "d"},
}


def reading(url: str, name: str, seen: Inbox, **options: Any) -> NatsBroker:
    broker = NatsBroker(url, reconnect_time_wait=0.1)

    @broker.subscriber(name, stream=JStream(name, retention=RetentionPolicy.WORK_QUEUE), **options)
    async def handler(msg: int) -> None:
        seen.put(msg)

    return broker


@pytest.mark.parametrize("kind", KINDS)
async def test_a_consumer_is_deleted(nats_url: str, name: str, js: JetStreamContext, kind: str) -> None:
    seen = Inbox()
    for first in (0, 10):  # a start that finds the consumer knows how far it has come
        async with (broker := reading(nats_url, name, seen, **KINDS[kind])):
            for number in range(first, first + 5):
                await broker.publish(number, name, stream=name)
            await until(lambda first=first: len(set(seen.all)) == first + 5)
            (info,) = await js.consumers_info(name)
            await js.delete_consumer(name, info.name)
            for number in range(first + 5, first + 10):
                await broker.publish(number, name, stream=name)
            await until(lambda first=first: len(set(seen.all)) == first + 10)
    assert set(seen.all) == set(range(20))


async def test_a_consumer_is_lost_with_its_server(nats_process: ProcessServer, name: str) -> None:
    seen = Inbox()
    options = {"durable": "d", "pull_sub": True, "config": ConsumerConfig(mem_storage=True)}
    async with (broker := reading(nats_process.url, name, seen, **options)):
        await broker.publish(0, name, stream=name)
        assert await seen.take() == 0
    broker, back = reading(nats_process.url, name, seen, **options), asyncio.Event()

    async def reconnected() -> None:
        back.set()

    broker.options["reconnected_cb"] = reconnected
    async with broker:
        await broker.publish(1, name, stream=name)
        assert await seen.take() == 1
        nats_process.restart()
        await asyncio.wait_for(back.wait(), DEADLINE)
        await broker.publish(2, name, stream=name, timeout=DEADLINE)
        await until(lambda: 2 in seen.all)
