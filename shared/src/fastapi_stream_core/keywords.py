"""Keywords that do not exist: the error names the closest one that does."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from functools import wraps
from typing import Any, TypeVar

from .errors import SetupError

__all__ = ("check_keywords", "unknown_option")

T = TypeVar("T")


def unknown_option(name: str, known: Iterable[str], subject: str) -> SetupError:
    """Return the error of an option that does not exist: it names the closest one."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return SetupError(
        subject,
        f"the option {name!r} does not exist",
        f"use {close[0]!r}" if close else f"choose from {', '.join(sorted(known))}",
    )


def check_keywords(kind: type[T]) -> type[T]:
    """Have a class refuse keywords that it does not take with a `SetupError` that names the closest one.

    For objects that are made when something is declared, not for each message: every call of the class is checked.
    """
    made: Any = kind
    make = made.__init__
    known = list(inspect.signature(make).parameters)[1:]

    @wraps(make)
    def __init__(self: Any, *args: Any, **given: Any) -> None:
        for name in given:
            if name not in known:
                raise unknown_option(name, known, type(self).__name__)
        make(self, *args, **given)

    made.__init__ = __init__
    return kind
