"""A durable consumer that pushes to one process: another one takes it while the first is cut off, which comes back."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import JStream, NatsBroker, SetupError

from proxy import Proxy
from waiting import until

COUNT = 100
BOUND = "pushes to another subscriber already"


def reading(url: str, name: str) -> tuple[NatsBroker, Inbox]:
    broker, seen = NatsBroker(url, reconnect_time_wait=0.1), Inbox()

    @broker.subscriber(name, stream=JStream(name), durable="d")
    async def handler(msg: int) -> None:
        seen.put(msg)

    return broker, seen


def lines(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


async def test_a_process_that_comes_back(nats_url: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It waits until the other one is gone, and no message goes to both."""
    caplog.set_level(logging.INFO)
    async with Proxy(nats_url) as proxy, NatsBroker(nats_url) as operator:
        first, first_seen = reading(proxy.url, name)
        second, second_seen = reading(nats_url, name)
        async with first:
            await proxy.cut()
            async with second:
                await proxy.open()
                await until(lambda: lines(caplog, "there again"))
                for number in range(COUNT):
                    await operator.publish(number, name, stream=name)
                await until(lambda: len(set(second_seen.all)) == COUNT)
                await until(lambda: lines(caplog, BOUND))
            assert not first_seen.all
            await operator.publish(COUNT, name, stream=name)
            assert await first_seen.take() == COUNT
    assert sorted(second_seen.all) == list(range(COUNT))


async def test_two_that_start_at_once(nats_url: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Both may find the consumer free, and one of them has it."""
    async with reading(nats_url, name)[0]:
        pass
    pairs = [reading(nats_url, name) for _ in range(2)]
    try:
        results = await asyncio.gather(*(broker.start() for broker, _ in pairs), return_exceptions=True)
        refused = [one for one in results if one is not None]
        assert len(refused) < 2
        assert all(isinstance(one, SetupError) for one in refused), refused
        async with NatsBroker(nats_url) as operator:
            if not refused:
                await until(lambda: lines(caplog, BOUND))
            for number in range(COUNT):
                await operator.publish(number, name, stream=name)
            await until(lambda: len({*pairs[0][1].all, *pairs[1][1].all}) == COUNT)
    finally:
        for broker, _ in pairs:
            await broker.stop()
    assert sorted([*pairs[0][1].all, *pairs[1][1].all]) == list(range(COUNT))
