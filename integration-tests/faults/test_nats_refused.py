"""A pull consumer of NATS that an operator edits so that the server refuses the requests for messages."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from fastapi_stream_core.subscription import Status
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import NatsBroker
from nats.aio.client import Client

from waiting import until

DEADLINE = 40.0
REFUSED = "the server gives no messages of the consumer 'd'"


async def edit(client: Client, name: str, **settings: Any) -> None:
    """Change a consumer, as an operator does; the client library does not know all settings."""
    answer = await client.request(f"$JS.API.CONSUMER.INFO.{name}.d", b"", timeout=10)
    config = {**json.loads(answer.data)["config"], **settings}
    request = json.dumps({"stream_name": name, "config": config, "action": "update"}).encode()
    answer = await client.request(f"$JS.API.CONSUMER.DURABLE.CREATE.{name}.d", request, timeout=10)
    assert "error" not in json.loads(answer.data)


def reading(url: str, name: str) -> tuple[NatsBroker, Inbox]:
    broker, seen = NatsBroker(url), Inbox()

    @broker.subscriber(name, stream=name, durable="d", pull_sub=True, max_workers=1)
    async def handler(msg: int) -> None:
        seen.put(msg)

    return broker, seen


async def test_a_consumer_that_wants_a_priority_group(
    nats_url: str, nats_client: Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, once in a while, and the subscription is not running until the server gives messages again."""
    broker, seen = reading(nats_url, name)
    with caplog.at_level(logging.WARNING):
        async with broker:
            await broker.publish(0, name, stream=name)
            await seen.take()
            await edit(nats_client, name, priority_groups=["a"], priority_policy="overflow")
            # The request that stands is still served.
            for number in range(1, 700):
                await broker.publish(number, name, stream=name)
            (subscriber,) = broker.subscribers
            await until(lambda: subscriber.status is Status.BACKING_OFF and not subscriber.running, DEADLINE)
            await until(lambda: REFUSED in caplog.text, DEADLINE)
            assert "priority group missing" in caplog.text
            said = caplog.text.count(REFUSED)
            over = asyncio.Event()
            asyncio.get_running_loop().call_later(3, over.set)
            await over.wait()
            assert subscriber.status is Status.BACKING_OFF
            assert caplog.text.count(REFUSED) <= said + 1, "two lines of a refusal are five seconds apart, or more"
            await edit(nats_client, name, priority_groups=[], priority_policy="none")
            await until(lambda: len(seen.all) == 700, DEADLINE)
            await until(lambda: subscriber.running, DEADLINE)
    assert sorted(seen.all) == list(range(700))


@pytest.mark.parametrize("limit", ["max_expires", "max_batch", "max_bytes"])
async def test_a_limit_of_requests_is_followed(
    nats_url: str, nats_client: Client, name: str, limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker, seen = reading(nats_url, name)
    value = {"max_expires": 2_000_000_000, "max_batch": 10, "max_bytes": 1000}[limit]
    with caplog.at_level(logging.WARNING):
        async with broker:
            await broker.publish(0, name, stream=name)
            await seen.take()
            await edit(nats_client, name, **{limit: value})
            for number in range(1, 1200):
                await broker.publish(number, name, stream=name)
            await until(lambda: len(seen.all) == 1200, DEADLINE)
            (subscriber,) = broker.subscribers
            assert subscriber.running
    assert REFUSED not in caplog.text
