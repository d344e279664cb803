"""One step of an end: it is done within its time, whoever cancels meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any

__all__ = ("GRACE_SECONDS", "ended", "step")

GRACE_SECONDS = 2.0
"""For a client that connects, before it is cancelled: hardly one closes its socket when it is cancelled half-way."""
CANCEL_SECONDS = 1.0
"""For what is cancelled to end."""


async def ended(
    tasks: Collection[asyncio.Task[Any]], seconds: float | None, cancel_seconds: float = CANCEL_SECONDS
) -> None:
    """Wait for tasks, `seconds` at most, then cancel them. Being cancelled meanwhile changes nothing.

    No task raises here, and none is reported as never retrieved.
    """
    for task in tasks:
        task.add_done_callback(_retrieve)
    await _wait(tasks, seconds)
    late = [task for task in tasks if not task.done()]
    for task in late:
        task.cancel()
    await _wait(late, cancel_seconds)


async def _wait(tasks: Collection[asyncio.Task[Any]], seconds: float | None) -> None:
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    while pending := [task for task in tasks if not task.done()]:
        left = None if deadline is None else deadline - loop.time()
        if left is not None and left <= 0:
            return
        # What ends has no half-way: whoever cancels the caller, or every task of the loop, gets the same end.
        with suppress(asyncio.CancelledError):
            await asyncio.wait(pending, timeout=left)


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def step(work: Callable[[], Coroutine[Any, Any, Any]], seconds: float | None) -> Exception | None:
    """Do one step of an end in a task of its own, `seconds` at most, and return what went wrong."""
    has_begun = False

    async def begin() -> None:
        nonlocal has_begun
        has_begun = True
        await work()

    task = asyncio.get_running_loop().create_task(begin())
    await ended([task], seconds)
    if not has_begun:  # A loop that ends has cancelled it before its first turn.
        task = asyncio.get_running_loop().create_task(begin())
        await ended([task], seconds)
    if not task.done():
        return TimeoutError(f"not done within {seconds} s, and not to be cancelled")
    if task.cancelled():
        return TimeoutError("cancelled before it was done")
    error = task.exception()
    return error if isinstance(error, Exception) else None
