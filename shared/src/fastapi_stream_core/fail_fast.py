"""Validation of large bodies ends at the first wrong item, for each error costs as much as many valid items.

Pydantic goes on after an error, half a microsecond and 250 bytes for each: a megabyte of `{}` for a list of models with
thirty fields is ten million errors, four seconds and gigabytes. Here a list, set, tuple or mapping ends with its first
wrong item, as with pydantic's own `FailFast`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter
from pydantic_core import SchemaValidator, core_schema

__all__ = ("LARGE", "fail_fast", "is_large")

LARGE = 8192
"""Bytes of a body from which its validation ends early: all errors of a smaller one take less than 50 ms."""

is_large: ContextVar[bool] = ContextVar("fastapi_stream_is_large", default=False)
"""Whether the message that FastAPI's solver looks at has a large body."""

_ENDING_EARLY = frozenset(
    name.lower()
    for name in ("List", "Set", "FrozenSet", "Tuple", "Deque", "Dict")
    if "fail_fast" in getattr(getattr(core_schema, f"{name}Schema", None), "__annotations__", ())
)
"""Kinds of schemas that can, in this release of pydantic."""
_SCHEMAS = frozenset(
    (
        "arguments_schema",
        "choices",
        "definitions",
        "extras_keys_schema",
        "extras_schema",
        "fields",
        "items_schema",
        "json_schema",
        "keys_schema",
        "lax_schema",
        "python_schema",
        "schema",
        "steps",
        "strict_schema",
        "values_schema",
    )
)
"""What of a schema has schemas in it; other parts are values, defaults and functions of the user."""


_made: WeakKeyDictionary[TypeAdapter[Any], Callable[..., Any]] = WeakKeyDictionary()


def fail_fast(adapter: TypeAdapter[Any]) -> Callable[..., Any]:
    """Return what validates as the `validate_python` of a type does, and ends early; made when it is called first.

    Beneath a validator of the user's that calls the next one itself nothing ends early: it may look at each error.
    """
    return partial(_validate, adapter)


def _validate(adapter: TypeAdapter[Any], value: Any, **options: Any) -> Any:
    validate = _made.get(adapter)
    if validate is None:
        validate = _made[adapter] = _make(adapter)
    return validate(value, **options)


def _make(adapter: TypeAdapter[Any]) -> Callable[..., Any]:
    schema = adapter.core_schema
    early = _ending_early(schema)
    if early is schema or getattr(adapter, "_config", None):
        return adapter.validator.validate_python
    make: Any = SchemaValidator
    try:
        return make(early, _use_prebuilt=False).validate_python  # type: ignore[no-any-return]
    except TypeError:  # a release that makes everything anew anyway, or always takes what it has
        return make(early).validate_python  # type: ignore[no-any-return]


def _ending_early(schema: Any) -> Any:
    """Return a schema whose items end with the first wrong one; the same one if there are none."""
    if isinstance(schema, (list, tuple)):
        items = [_ending_early(one) for one in schema]
        return schema if all(map(_is, items, schema)) else type(schema)(items)
    if not isinstance(schema, Mapping):
        return schema
    kind = schema.get("type")
    if kind == "function-wrap":
        return schema
    # Fields and choices are mappings by name, of which one may be "type".
    names = [name for name in schema if name in _SCHEMAS] if isinstance(kind, str) else schema
    changes = {name: early for name in names if (early := _ending_early(schema[name])) is not schema[name]}
    if isinstance(kind, str) and kind in _ENDING_EARLY:
        changes["fail_fast"] = True
    return {**schema, **changes} if changes else schema


def _is(one: Any, other: Any) -> bool:
    return one is other
