"""A second Ctrl-C: whoever stops the process while a broker stops does not want to wait for handlers, of no broker."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ("begin_anew", "hurried", "is_listening")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Hearing:
    """What handles a signal while a broker stops. Whoever found it here may put it back at any time later.

    Attributes:
        before: what handled the signal before, and still does.
    """

    def __init__(self, before: Callable[..., Any]) -> None:
        self.before = before

    def __call__(self, number: int, frame: Any) -> Any:
        _came.add(number)
        for loop, hurry in tuple(_hurries):
            if not loop.is_closed():
                loop.call_soon_threadsafe(hurry)
        return self.before(number, frame)


_hurries: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []
_taken: list[Hearing] = []
_came: set[int] = set()
"""Signals that came while a broker stopped, since one was started: what stops next is hurried too."""


@contextmanager
def hurried(hurry: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Call `hurry` on this event loop for each SIGINT or SIGTERM that comes meanwhile, and at once if one came before.

    Whoever handles the signal already goes on doing so. In other threads than the main one nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    one = (asyncio.get_running_loop(), hurry)
    if not _hurries:
        _take()
    _hurries.append(one)
    if _came:
        hurry()
    try:
        yield
    finally:
        _hurries.remove(one)
        if not _hurries:
            _give_back()


def begin_anew() -> None:
    """Forget the signals that came: what is started now is not to be hurried by them."""
    _came.clear()


def is_listening() -> bool:
    """Tell whether a signal would hurry somebody."""
    return bool(_hurries and _taken)


def _take() -> None:
    for number in SIGNALS:
        before = signal.getsignal(number)
        if callable(before):
            # Somebody may have put back one of an earlier stop, which has nothing to do any more but to pass on.
            taken = Hearing(before.before if isinstance(before, Hearing) else before)
            signal.signal(number, taken)
            _taken.append(taken)


def _give_back() -> None:
    for number in SIGNALS:
        current = signal.getsignal(number)
        if isinstance(current, Hearing) and current in _taken:  # nobody else took it meanwhile
            signal.signal(number, current.before)
    _taken.clear()
