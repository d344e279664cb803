"""Waits for what no event tells of."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

DEADLINE = 60.0
STEP = 0.01
"""Seconds between two looks."""


async def until(condition: Callable[[], object], seconds: float = DEADLINE, what: str = "it") -> None:
    """Wait until a condition holds; it may be a coroutine function."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return
        assert loop.time() < deadline, f"{what} did not happen"
        await asyncio.sleep(STEP)
