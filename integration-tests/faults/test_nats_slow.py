"""A backlog of large messages: the server ends a connection for which more waits than its `max_pending` (64 MiB)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import JStream, NatsBroker
from nats.aio.client import Client

from servers import ProcessServer
from waiting import until

COUNT = 110
SIZE = 900_000


@pytest.fixture
def nats_url(nats_process: ProcessServer) -> str:
    return nats_process.url


@pytest.mark.parametrize(
    ("kind", "readers"), [("queue", 1), ("queue", 2), ("durable", 2), ("alone", 2), ("pull", 2)], ids=str
)
async def test_subscriptions_of_one_connection_have_no_more_pushed_than_the_server_lets_wait(
    nats_url: str, nats_client: Client, name: str, kind: str, readers: int
) -> None:
    losses, seen = [0], [Inbox() for _ in range(readers)]

    async def count() -> None:
        losses[0] += 1

    broker = NatsBroker(nats_url, logger=None, disconnected_cb=count)

    def subscribe(number: int) -> None:
        kinds: dict[str, dict[str, Any]] = {
            "queue": {"queue": f"q{number}"},
            "durable": {"durable": f"d{number}"},
            "alone": {},
            "pull": {"durable": f"d{number}", "pull_sub": True},
        }

        @broker.subscriber(name, stream=JStream(name, declare=False), max_workers=5, **kinds[kind])
        async def handle(body: dict[str, Any]) -> None:
            seen[number].put(body["number"])

    for number in range(readers):
        subscribe(number)
    js = nats_client.jetstream()
    await js.add_stream(name=name, subjects=[name])
    for number in range(COUNT):
        await js.publish(name, json.dumps({"number": number, "text": "x" * SIZE}).encode(), timeout=30)
    async with broker:
        await until(lambda: all(len(set(one.all)) == COUNT for one in seen) or losses[0])
        assert not losses[0]
    assert [sorted(one.all) for one in seen] == [list(range(COUNT))] * readers
