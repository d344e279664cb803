"""The names that a handler's declaration knows, which tells them from keys that a sender chose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import TypeAdapter

__all__ = ("PLACES", "names_of_types")

PLACES = frozenset({"body", "cookie", "header", "path", "query", "response", "payload"})
"""What FastAPI, or this library, puts in front of a name."""
_KINDS = frozenset({"bool", "bytes", "date", "datetime", "decimal", "dict", "float", "int", "list", "str", "[key]"})
"""What pydantic puts into a place for a member of a union, and for the key of a mapping."""


def names_of_types(types: Iterable[Any]) -> frozenset[str]:
    """Return the names of the models and fields that types consist of, as pydantic has them in the place of an error.

    A type that has no schema adds nothing.
    """
    names = set(PLACES | _KINDS)
    for one in types:
        names.update(_names(_schema_of(one)))
    return frozenset(names)


def _schema_of(one: Any) -> Any:
    try:
        return TypeAdapter(one).json_schema()
    except Exception:  # a type that can't be described, or a class of somebody else that raises
        return {}


def _names(schema: Any) -> Iterator[str]:
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            for key in ("properties", "$defs"):
                if isinstance(inner := one.get(key), dict):
                    yield from inner
            if isinstance(title := one.get("title"), str):
                yield title
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
