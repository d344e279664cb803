"""A user of NATS who may not listen to his own inboxes for a while: what waits for answers there goes on after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fastapi_stream_core.subscription import Status
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import BrokerUnavailable, JStream, NatsBroker, PublishError, SetupError
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from faults.nats_users import StrictServer
from servers import running
from waiting import DEADLINE, until

DENIED = "Permissions Violation for Subscription to"


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with running(StrictServer()) as server:
        yield server


@pytest.fixture
def nats_url(server: StrictServer) -> str:
    return server.url_of("operator")


@pytest.mark.parametrize("pull", [True, False], ids=["pull", "push"])
async def test_a_user_who_may_not_listen_to_his_inboxes_for_a_while(
    server: StrictServer,
    js: JetStreamContext,
    nats_client: Client,
    name: str,
    pull: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker, seen = NatsBroker(server.url_of("app"), publish_timeout=2), Inbox()

    @broker.subscriber(f"{name}.in", stream=JStream(name, declare=False), durable="d", pull_sub=pull)
    async def handler(msg: int) -> None:
        seen.put(msg)

    await js.add_stream(StreamConfig(name=name, subjects=[f"{name}.*"]))

    async def stored() -> int:
        found = (await js.stream_info(name, subjects_filter=f"{name}.out")).state.subjects
        return (found or {}).get(f"{name}.out", 0)

    async with broker:
        await broker.publish(1, f"{name}.out", stream=name, timeout=DEADLINE)
        await js.publish(f"{name}.in", b"1")
        assert await seen.take() == 1
        server.deny(subscribe="_INBOX.>")
        await until(lambda: DENIED.lower() in caplog.text.lower())
        await until(lambda: broker.subscribers[0].status is not Status.RUNNING)
        with pytest.raises((BrokerUnavailable, PublishError, SetupError)):
            await broker.publish(2, f"{name}.out", stream=name)
        assert await stored() == 1, "where no answer can come nothing is sent"
        server.deny()
        await js.publish(f"{name}.in", b"2")
        assert await asyncio.wait_for(seen.take(), 2 * DEADLINE) == 2
        await broker.publish(3, f"{name}.out", stream=name, timeout=DEADLINE)
        assert await stored() == 2
