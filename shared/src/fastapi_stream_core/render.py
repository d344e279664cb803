"""What of a value or an error may stand in a log: escaped, bounded, and by default nothing of a message's body."""

from __future__ import annotations

import re
import reprlib
import traceback
from collections.abc import Collection
from itertools import islice
from typing import Any

from fastapi.exceptions import ValidationException
from pydantic import ValidationError

from .error_tree import led_to, members_of, tree_of
from .invalid import MANY_ERRORS

__all__ = ("Shown", "describe", "escape", "holds_input", "trace")

MOST_VALUE = 500
"""Characters of one value of a line."""
MOST_ERRORS = 10
MOST_INPUT = 200
MOST_LINKS = 5
MOST_FRAMES = 15
KEY = "*"
"""Stands for a key of a body that no model declares: it is as much of the body as its value."""

# Control characters, what ends a line anywhere, what turns the direction of writing, and halves of characters.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
_HOLDS_INPUT = frozenset({"union_tag_invalid"})
"""Kinds of errors of pydantic whose message quotes the input."""


def escape(text: str, most: int = MOST_VALUE, lines: bool = False) -> str:
    """Return a text that somebody else chose as it may stand in a log, `most` characters before they are escaped."""
    if len(text) > most:
        text = f"{text[:most]}... ({len(text)} characters)"
    if text.isprintable():
        return text
    return (_UNSAFE_IN_LINES if lines else _UNSAFE).sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]


class Shown:
    """A value of a log line: `%s` and `%r` give it escaped and bounded, and render it no earlier.

    Args:
        value: the value; of an error what `describe` says.
        log_input: whether values of a message's body may be shown.
        declared: as for `describe`.
    """

    __slots__ = ("_declared", "_log_input", "_value")

    def __init__(self, value: Any, log_input: bool = False, declared: Collection[str] | None = None) -> None:
        self._value = value
        self._log_input = log_input
        self._declared = declared

    def __str__(self) -> str:
        if isinstance(self._value, BaseException):
            return describe(self._value, self._log_input, self._declared)
        return escape(_text_of(self._value))

    def __repr__(self) -> str:
        value = self._value
        if isinstance(value, BaseException):
            return describe(value, self._log_input, self._declared)
        if isinstance(value, (str, bytes)):
            return escape(repr(value[:MOST_VALUE]))
        return escape(repr(value))


def _text_of(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # a class of somebody else
        return f"({type(error).__name__} while it was shown)"


def describe(error: BaseException, log_input: bool = False, declared: Collection[str] | None = None) -> str:
    """Return an error as one line of bounded length.

    Of a validation the first ten errors are named, by place and reason; their input only if `log_input` says so.

    Args:
        error: what is described.
        log_input: whether values of a message's body may be shown.
        declared: the names that a place in a message or a result may have; any other is a key that somebody chose, and
            not shown. None for every name. What the application validates itself has names of its own.
    """
    if isinstance(error, (ValidationException, ValidationError)):
        ours = isinstance(error, ValidationException) and not log_input
        text = _errors(error, log_input, declared if ours else None)
    else:
        text = escape(" ".join(_text_of(error)[: 4 * MOST_VALUE].split()))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _errors(error: ValidationException | ValidationError, log_input: bool, declared: Collection[str] | None) -> str:
    count = getattr(error, "error_count", None)
    if count is not None and count() > MANY_ERRORS:
        return f"{count()} errors"
    found: Any = error.errors()
    said = [_error(one, log_input, declared) for one in islice(found, MOST_ERRORS)]
    more = len(found) - len(said)
    if more > 0:
        said.append(f"and {more} more")
    return escape("; ".join(said), 3 * MOST_VALUE)


def _error(one: Any, log_input: bool, declared: Collection[str] | None) -> str:
    if not isinstance(one, dict):
        return escape(_text_of(one), 100)
    place = ".".join(
        escape(str(part), 40) if declared is None or type(part) is int or part in declared else KEY
        for part in one.get("loc", ())
    )
    kind = str(one.get("type", ""))
    reason = kind if kind in _HOLDS_INPUT and not log_input else escape(str(one.get("msg", "")), 100)
    shown = f" (input {_input(one.get('input'))})" if log_input else ""
    return f"{place}: {reason}{shown}"


def _input(value: Any) -> str:
    if isinstance(value, (str, bytes)):
        text = repr(value[:MOST_INPUT])
    elif isinstance(value, dict):
        text = _short.repr(dict(islice(value.items(), 10)))
    else:
        text = _short.repr(value)
    return escape(text[:MOST_INPUT])


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlist = _short.maxtuple = _short.maxdict = 10


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and those that led to it, the last one first."""
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and all(at is not one for one in found) and len(found) < MOST_LINKS:
        found.append(at)
        at = led_to(at)
    return found


def holds_input(error: BaseException) -> bool:
    """Tell whether whoever renders an error renders what it says of a message's body."""
    return any(isinstance(one, (ValidationException, ValidationError)) for one in tree_of(error))


def trace(error: BaseException, most: int, log_input: bool = False, declared: Collection[str] | None = None) -> str:
    """Return a traceback with those of the errors that led to it, in at most `most` characters: the last ones.

    Each error is described, so that no traceback holds more of a message than the line above it.
    """
    parts: list[str] = []
    for one in _chain(error):
        frames = "".join(traceback.format_tb(one.__traceback__, -MOST_FRAMES))
        members = members_of(one)[:MOST_LINKS]
        inner = "".join(f"  - {describe(member, log_input, declared)}\n" for member in members)
        parts.append(f"Traceback (most recent call last):\n{frames}{describe(one, log_input, declared)}\n{inner}")
    text = "\nThis led to:\n\n".join(reversed(parts)).rstrip()
    text = escape(text, len(text), lines=True)
    return text if len(text) <= most else f"...{text[len(text) - most + 3 :]}"
