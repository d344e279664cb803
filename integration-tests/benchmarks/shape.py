"""The handlers and records of the in-process comparison: the same functions for ours and the peer's router."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header
from fastapi_stream_core import Logger as OurLogger
from order import Order

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from faststream.kafka.fastapi import Logger as PeerLogger

__all__ = ("Calls", "Order")


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
