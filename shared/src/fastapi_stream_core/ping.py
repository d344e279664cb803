"""Asks a broker whether it is there: an answer within its time, whatever the client does meanwhile."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .step import ended

if TYPE_CHECKING:
    from .report import Report
    from .transport import Transport

__all__ = ("answers",)

MORE_SECONDS = 1.0
"""For a client that does not keep its own timeout."""


async def answers(transport: Transport, timeout: float, report: Report) -> bool:
    """Tell whether a broker answers within about `timeout` seconds.

    It is asked in a task of its own: a client that gives up a connection may cancel whoever waits for an answer on it,
    and nobody wanted the caller to end.
    """
    asking = asyncio.get_running_loop().create_task(transport.ping(timeout))
    try:
        await asyncio.wait({asking}, timeout=timeout + MORE_SECONDS)
    finally:
        await ended([asking], 0.0)
    if not asking.done() or asking.cancelled():
        return False
    if (error := asking.exception()) is not None:
        report.line(logging.DEBUG, "the broker could not be asked whether it is there: %r", error)
        return False
    return asking.result()
