"""A message that is not what its handler's parameters declare."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import from_json

from .codec import is_json
from .fastapi_compat import errors_at

__all__ = ("MANY_ERRORS", "InvalidMessage", "of_many", "of_no_json")

LARGEST_READ_AS_HTTP = 2**20
"""Bytes of the largest body whose fault is said in FastAPI's words; the parser that has them is five times slower."""
MANY_ERRORS = 1000
"""Errors of one message that are listed without being asked for: to list half a million takes seconds."""


class InvalidMessage(RequestValidationError):
    """A `RequestValidationError` that lists its errors when somebody asks for them.

    Args:
        error: what pydantic found, or the errors as FastAPI lists them.
        body: the body.
        listed: lists the errors as FastAPI does; by default each below the body.
    """

    def __init__(
        self, error: ValidationError | list[Any], body: Any, listed: Callable[[], list[Any]] | None = None
    ) -> None:
        super().__init__([], body=body)
        self._listed: list[Any] | None = None
        if isinstance(error, list):
            self._listed = error
            self._count = len(error)
            return
        error.__traceback__ = None  # its frames hold this error
        self._count = error.error_count()
        self._list = listed or partial(errors_at, error, "body")

    def errors(self) -> list[Any]:
        """Return the errors as FastAPI lists them."""
        if self._listed is None:
            self._listed = self._list()
        return self._listed

    def error_count(self) -> int:
        """Return how many errors there are."""
        return self._count

    def __str__(self) -> str:
        return str(RequestValidationError(self.errors(), body=self.body))


def of_many(error: Exception) -> ValidationError | None:
    """Return an error of so many places that FastAPI's solver, which lists them all, would block the event loop."""
    return error if isinstance(error, ValidationError) and error.error_count() > MANY_ERRORS else None


def of_no_json(errors: list[Any], body: Any, content_type: str | None) -> list[Any]:
    """Return errors as FastAPI has them for a body that is no JSON: that one, and none of what is missing in it.

    Args:
        errors: as FastAPI lists them for the body as it was decoded.
        body: bytes when it is no JSON; a value that was made of them keeps its own error, such as a text too short.
        content_type: as declared; a body that is declared as anything but JSON is not said to be none.
    """
    if type(body) is not bytes or (content_type and not is_json(content_type)) or not any(map(_needs_json, errors)):
        return errors
    found = _fault_of(body)
    if found is None:
        return errors
    at, reason = found
    others = [one for one in errors if not _needs_json(one)]
    said = {"type": "json_invalid", "loc": ("body", at), "msg": "JSON decode error", "input": {}}
    return [*others, {**said, "ctx": {"error": reason}}]


def _fault_of(body: bytes) -> tuple[int, str] | None:
    """Return where a body stops to be JSON, and why; None when it is JSON."""
    if len(body) > LARGEST_READ_AS_HTTP:
        try:
            from_json(body)
        except ValueError as error:
            return 0, str(error)
        return None
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        return error.pos, error.msg
    except UnicodeDecodeError as error:
        return error.start, f"no UTF-8: {error.reason}"
    except (ValueError, RecursionError):
        return 0, "nested too deep, or a number too long"
    return None


def _needs_json(error: dict[str, Any]) -> bool:
    place: tuple[str | int, ...] = error["loc"]
    kind: str = error["type"]
    return place[:1] == ("body",) and (kind == "missing" or (len(place) == 1 and kind.endswith("_type")))
