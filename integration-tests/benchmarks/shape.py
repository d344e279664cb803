"""The handlers and records of the in-process comparison: the same functions for ours and the peer's router."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from aiokafka import ConsumerRecord
from fastapi import Depends, Header
from fastapi_stream_core import Logger as OurLogger
from order import Order

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from faststream.kafka.fastapi import Logger as PeerLogger

__all__ = ("BODY", "HEADERS", "INVALID", "TEXT", "Calls", "Order", "record")


HEADERS = [("content-type", b"application/json"), ("correlation_id", b"c-1"), ("x-tenant", b"acme")]
TEXT_HEADERS = [("content-type", b"text/plain"), ("correlation_id", b"c-1"), ("x-tenant", b"acme")]
BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5, "tags": ["green", "loose", "organic"], "paid": true}'
TEXT = b"a pound of tea"
INVALID = BODY.replace(b"17", b'"x"')


def record(body: bytes = BODY, offset: int = 0) -> Any:
    """One record as aiokafka gives it."""
    headers: Sequence[tuple[str, bytes]] = TEXT_HEADERS if body is TEXT else HEADERS
    return ConsumerRecord("orders", 0, offset, 0, 0, None, body, None, 0, len(body), headers)


class Calls:
    """Counted by every handler, so that a run in which a handler was not called is no result."""

    count = 0


async def model(order: Order) -> None:
    Calls.count += 1


async def scalar(msg: str) -> None:
    Calls.count += 1


async def returned(order: Order) -> Order:
    Calls.count += 1
    return order


async def many(orders: list[Order]) -> None:
    Calls.count += len(orders)


def sync_model(order: Order) -> None:
    Calls.count += 1


async def settings() -> int:
    return 1


async def session() -> AsyncIterator[int]:
    yield 2


async def ours_full(
    order: Order,
    logger: OurLogger,
    one: Annotated[int, Depends(settings)],
    two: Annotated[int, Depends(session)],
    x_tenant: Annotated[str, Header()],
) -> None:
    Calls.count += 1


async def peer_full(
    order: Order,
    logger: PeerLogger,
    one: Annotated[int, Depends(settings)],
    two: Annotated[int, Depends(session)],
    x_tenant: Annotated[str, Header()],
) -> None:
    Calls.count += 1
