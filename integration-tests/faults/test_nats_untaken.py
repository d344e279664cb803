"""A subject that a stream of somebody else's does not take: the subscription would be silent for ever."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import JStream, NatsBroker
from nats.js import JetStreamContext
from nats.js.api import StreamSource

KINDS: dict[str, dict[str, Any]] = {"push": {}, "pull": {"durable": "d", "pull_sub": True}, "group": {"queue": "g"}}


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_said(
    nats_url: str, name: str, js: JetStreamContext, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await js.add_stream(name=name, subjects=[f"{name}.orders.*", f"{name}.all.>"])
    broker, seen = NatsBroker(nats_url), Inbox()
    stream = JStream(name, declare=False)

    @broker.subscriber(f"{name}.order.*", stream=stream, **KINDS[kind])
    async def never(msg: int) -> None:
        seen.put(-1)

    for number, subject in enumerate(("orders.a", "*.a", "all.*.b", ">")):

        @broker.subscriber(f"{name}.{subject}", stream=stream, durable=f"other-{number}", pull_sub=True)
        async def handler(msg: int, number: int = number) -> None:
            seen.put(msg)

    async with broker:
        (line,) = [record.getMessage() for record in caplog.records if "takes no subject" in record.getMessage()]
        assert f"{name}.order.*" in line
        assert f"{name}.orders.*" in line
        assert all(one.running for one in broker.subscribers)
        await broker.publish(1, f"{name}.orders.a", stream=name)
        assert await seen.take_many(3) == [1, 1, 1]


async def test_a_stream_of_other_streams_is_not_suspected(
    nats_url: str, name: str, js: JetStreamContext, caplog: pytest.LogCaptureFixture
) -> None:
    source, copy = name, f"{name}-copy"
    await js.add_stream(name=source, subjects=[f"{name}.*"])
    await js.add_stream(name=copy, subjects=[f"{copy}.*"], sources=[StreamSource(name=source)])
    broker, seen = NatsBroker(nats_url), Inbox()

    @broker.subscriber(f"{name}.a", stream=JStream(copy, declare=False))
    async def handler(msg: int) -> None:
        seen.put(msg)

    async with broker:
        await broker.publish(1, f"{name}.a", stream=source)
        assert await seen.take() == 1
    assert "takes no subject" not in caplog.text
