"""What goes into a message object: payload, content type, headers and examples of one type."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_jsonable_python

from ..codec import BYTES, JSON, TEXT
from ..response import Response
from .schema import Mode, Schema, Schemas

__all__ = ("Header", "Payload", "choices", "content_type", "headers_of", "item_type", "published")

_UNION = (Union, types.UnionType)


@dataclass(frozen=True)
class Header:
    """One header of a message: its name, the number of its schema, and whether it has to be there."""

    name: str
    number: int
    required: bool


@dataclass
class Payload:
    """The type of one message, noted in `Schemas`, with its headers.

    Attributes:
        type: what a `TypeAdapter` takes; None when there is nothing to say of the payload.
        mode: whether it is received or sent.
        headers: the application's headers.
        number: of the schema.
    """

    type: Any
    mode: Mode
    headers: list[Header] = field(default_factory=list)
    number: int = -1

    def note(self, schemas: Schemas, subject: str) -> Payload:
        """Add the type to the document's."""
        if self.type is not None:
            self.number = schemas.add(self.type, self.mode, subject)
        return self

    def name(self, schemas: Schemas, otherwise: str) -> str:
        """Return a name for the message, after the model if there is one."""
        return _name(schemas[self.number]) or otherwise

    def examples(self, schemas: Schemas, schema: Any) -> list[Schema]:
        """Return the examples of the type that are valid, as they travel."""
        inner = schema.get("allOf", [schema])[0] if isinstance(schema, dict) else schema
        given = [
            found
            for one in (schema, schemas.resolve(inner))
            if isinstance(one, Mapping) and (found := one.get("examples"))
        ]
        if not given or not isinstance(given[0], (list, tuple)):
            return []
        shown: list[Schema] = []
        for example in given[0]:
            try:
                shown.append({"payload": _travelling(TypeAdapter(self.type), example, self.mode)})
            except Exception as error:
                schemas.warn(f"the example {example!r} is left out: {str(error).partition(chr(10))[0]}")
        return shown


def _travelling(adapter: TypeAdapter[Any], example: Any, mode: Mode) -> Any:
    """Return an example as it is received, or as the application sends it: with computed fields."""
    plain = to_jsonable_python(example)
    value = adapter.validate_json(json.dumps(plain, allow_nan=False), strict=True)
    return (
        adapter.dump_python(value, mode="json", by_alias=True, exclude_unset=True) if mode == "serialization" else plain
    )


def _name(schema: Any) -> str:
    if not isinstance(schema, dict):
        return ""
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.rpartition("/")[2]
        return name.removesuffix("-Input").removesuffix("-Output")
    if schema.get("type") == "array" and isinstance(schema.get("items"), dict):
        return f"{inner}List" if (inner := _name(schema["items"])) else ""
    for key in ("allOf", "anyOf", "oneOf"):
        names = [_name(one) for one in schema.get(key, ()) if one != {"type": "null"}]
        if names:
            return "Or".join(names) if all(names) else ""
    return ""


def published(type_: Any) -> list[Any]:
    """Return the payload types behind the type of a result: nothing for None, which is not published.

    A type that says nothing of the payload (`Any`, a `Response`) is `Any`.
    """
    if type_ is None or type_ is type(None):
        return []
    if isinstance(type_, type) and issubclass(type_, Response):
        return [Any]
    if get_origin(type_) in _UNION:
        members = [one for one in get_args(type_) if one is not type(None)]
        if any(isinstance(one, type) and issubclass(one, Response) for one in members):
            return [Any]
        if len(members) < len(get_args(type_)):
            return [Union[tuple(members)]] if members else []  # noqa: UP007
    return [type_]


def item_type(type_: Any) -> Any:
    """Return the type of one message of a batch."""
    if get_origin(type_) is Annotated:
        type_ = get_args(type_)[0]
    origin, arguments = get_origin(type_), get_args(type_)
    if isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, Mapping) and arguments:
        return arguments[0]
    return Any if type_ in (list, tuple, set) else type_


def content_type(type_: Any) -> str | None:
    """Return the content type of a payload of this type; None when the type does not tell."""
    members = {_kind(one) for one in _members(type_)}
    return members.pop() if len(members) == 1 else JSON if members and None not in members else None


def _members(type_: Any) -> Iterable[Any]:
    if get_origin(type_) is Annotated:
        yield from _members(get_args(type_)[0])
    elif get_origin(type_) in _UNION:
        for one in get_args(type_):
            if one is not type(None):
                yield from _members(one)
    else:
        yield type_


def _kind(type_: Any) -> str | None:
    if type_ is None or type_ is Any or isinstance(type_, TypeVar):
        return None
    if get_origin(type_) is Literal:
        values = {type(value) for value in get_args(type_)}
        return TEXT if values == {str} else JSON
    if isinstance(type_, type):
        if issubclass(type_, (bytes, bytearray, memoryview)):
            return BYTES
        if issubclass(type_, str):
            return TEXT
    return JSON


def headers_of(fields: Iterable[Any], schemas: Schemas, subject: str) -> list[Header]:
    """Return the headers that a handler declares; a model of headers is one header for each of its fields."""
    found: dict[str, Header] = {}
    for one in fields:
        info = one.field_info
        if not getattr(info, "include_in_schema", True):
            continue
        model = info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            for name, inner in model.model_fields.items():
                alias = inner.alias or (name.replace("_", "-") if getattr(info, "convert_underscores", True) else name)
                number = schemas.add(Annotated[inner.annotation, inner], "validation", f"header {alias!r} of {subject}")
                found[alias] = Header(alias, number, inner.is_required())
            continue
        number = schemas.add(Annotated[model, info], "validation", f"header {one.alias!r} of {subject}")
        found[one.alias] = Header(one.alias, number, info.is_required())
    return list(found.values())


def choices(type_: Any) -> list[str]:
    """Return the values that a type of a few fixed values takes, as text."""
    if get_origin(type_) is Annotated:
        type_ = get_args(type_)[0]
    if get_origin(type_) is Literal:
        return [str(value) for value in get_args(type_)]
    if isinstance(type_, type) and issubclass(type_, Enum):
        return [str(member.value) for member in type_]
    return []
