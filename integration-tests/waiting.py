"""Waits for what no event tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

DEADLINE = 30.0


async def until(condition: Callable[[], Any], seconds: float = DEADLINE) -> None:
    """Wait until a condition holds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "it did not happen"
        await asyncio.sleep(0.01)
