"""Cancellations of workers that are not the stop's: a handler makes them, and what it leaves behind.

Such a worker ends after its message, and a fresh one takes its place. So the messages after it have none of that, and
an event loop that ends has every worker ended.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

__all__ = ("cancellations_of", "put_back")


def cancellations_of(task: asyncio.Task[Any]) -> Callable[[], Any]:
    """Return what tells whether somebody cancelled a task that still runs, and something in it caught that.

    One that has not struck yet is in `task._must_cancel`, which costs no call.
    """
    if sys.version_info >= (3, 11):
        return task.cancelling
    return int  # before Python 3.11 a task does not remember it


def put_back() -> None:
    """Cancel the current task, of which a cancellation was caught: it ends as soon as its message is done."""
    task = asyncio.current_task()
    if task is not None:
        task.cancel()
