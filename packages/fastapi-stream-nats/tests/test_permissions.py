"""What the server refuses ends the request that it is about, and no other."""

from __future__ import annotations

import asyncio

import pytest
from fastapi_stream_nats import SetupError
from fastapi_stream_nats.permissions import Permissions


@pytest.mark.parametrize(
    ("said", "is_meant"),
    [
        ('nats: Permissions Violation for Publish to "$JS.API.STREAM.INFO.Orders"', True),
        ('nats: Permissions Violation for Publish to "$JS.API.CONSUMER.CREATE.Orders.billing"', True),
        ('nats: Permissions Violation for Subscription to "_INBOX.abc.*"', True),
        ('nats: Permissions Violation for Publish to "x.$JS.API.Orders"', False),
        ('nats: Permissions Violation for Publish to "x.$JS.API.STREAM.INFO.Orders"', False),
        ('nats: Permissions Violation for Publish to "$JS.API.STREAM.INFO.Orders2"', False),
        ('nats: Permissions Violation for Publish to "$JS.API.STREAM.INFO.PreOrders"', False),
        ('nats: Permissions Violation for Publish to "x\\"publish.$JS.API.STREAM.INFO.Orders"', False),
    ],
)
async def test_only_a_refused_request_ends_what_waits_for_its_answer(said: str, is_meant: bool) -> None:
    permissions, answer = Permissions("_INBOX"), asyncio.Event()
    asking = asyncio.ensure_future(permissions.ask(answer.wait(), "subscriber()", "Orders"))
    await asyncio.sleep(0)
    permissions.deny(said)
    ended, _ = await asyncio.wait([asking], timeout=0.2)
    assert bool(ended) == is_meant
    answer.set()
    if is_meant:
        with pytest.raises(SetupError, match="change the permissions"):
            await asking
    else:
        assert await asking
