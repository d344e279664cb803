"""Tells a cancellation that somebody asked for from one that the client library makes up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ("GIVEN_UP", "is_cancelled", "uncancelled")

T = TypeVar("T")

GIVEN_UP = "the client library gave the connection up, because RabbitMQ did not answer any more or it was closed"


async def uncancelled(work: Awaitable[T], seconds: float | None = None) -> T:
    """Wait for the client library.

    It cancels whatever waits on a connection that its heartbeat gives up, or that is closed, or ends it with a bare
    `Exception`. Nobody cancelled who waits here, and a loop would end for good; so that is an error like any other of a
    lost connection.

    Args:
        work: what is waited for; it runs in a task of its own, whose cancellation is not that of the caller.
        seconds: how long at most; None is for ever.

    Raises:
        ConnectionError: the client library ended it so.
        asyncio.TimeoutError: it took longer.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,), timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        if task.done() and not task.cancelled():
            task.exception()  # who is cancelled here has no use for it, and asyncio would log it as lost
    if task.cancelled():
        raise ConnectionError(GIVEN_UP)
    error = task.exception()
    if type(error) is Exception:
        raise ConnectionError(GIVEN_UP) from error
    return task.result()


def is_cancelled() -> bool:
    """Tell whether somebody cancelled the current task; where Python can't tell, as 3.10, it is taken for granted."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is None or cancelling() > 0
