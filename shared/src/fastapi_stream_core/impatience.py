"""A second Ctrl-C: whoever stops the process while a broker stops does not want to wait for its handlers."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ("hurried",)

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_hurries: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []
_before: dict[int, Callable[..., Any]] = {}


@contextmanager
def hurried(hurry: Callable[[], None]) -> Iterator[None]:
    """Call `hurry` on this event loop for each SIGINT or SIGTERM that comes meanwhile.

    Whoever handles the signal already goes on doing so. In other threads than the main one nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    one = (asyncio.get_running_loop(), hurry)
    if not _hurries:
        _take()
    _hurries.append(one)
    try:
        yield
    finally:
        _hurries.remove(one)
        if not _hurries:
            _give_back()


def _take() -> None:
    for number in SIGNALS:
        before = signal.getsignal(number)
        if callable(before):
            _before[number] = before
            signal.signal(number, _handle)


def _give_back() -> None:
    for number, before in _before.items():
        if signal.getsignal(number) is _handle:  # nobody else took it meanwhile
            signal.signal(number, before)
    _before.clear()


def _handle(number: int, frame: Any) -> Any:
    for loop, hurry in _hurries:
        if not loop.is_closed():
            loop.call_soon_threadsafe(hurry)
    return _before[number](number, frame)
