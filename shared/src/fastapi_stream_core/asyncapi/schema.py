"""Types become schemas: pydantic writes JSON Schema 2020-12, AsyncAPI 3 reads a superset of draft 07."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema

__all__ = ("Mode", "Schema", "Schemas", "convert")

Mode = Literal["validation", "serialization"]
Schema = dict[str, Any]

logger = logging.getLogger("fastapi_stream.asyncapi")

_PREFIX = "#/components/schemas/"
_ONE = frozenset(
    (
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    )
)
_LIST = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAP = frozenset(("properties", "patternProperties", "dependentSchemas", "dependencies", "definitions", "$defs"))


class Schemas:
    """The types of one document. All are added first, then `build` makes their schemas in one go.

    Attributes:
        components: after `build`, the schemas that others refer to, by name, in the order of their first use.
    """

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._adapters: list[tuple[int, Mode, TypeAdapter[Any]]] = []
        self._built: dict[int, Any] = {}
        self._count = 0
        self._known: dict[tuple[Any, Mode], int] = {}
        self._said: set[str] = set()

    def add(self, type_: Any, mode: Mode, subject: str) -> int:
        """Note a type and return the number under which its schema can be had later.

        Args:
            type_: what a `TypeAdapter` takes.
            mode: `validation` for what is received, `serialization` for what is sent.
            subject: whose type it is, for the warning when pydantic can't describe it.
        """
        number = self._count
        try:
            known = self._known.setdefault((type_, mode), number)
        except TypeError:
            known = number  # a type with metadata that has no hash
        if known != number:
            return known
        self._count += 1
        try:
            self._adapters.append((number, mode, TypeAdapter(type_)))
        except Exception as error:
            _warn(subject, error)
        return number

    def warn(self, message: str) -> None:
        """Log a warning, once for a document."""
        if message not in self._said:
            self._said.add(message)
            logger.warning("AsyncAPI: %s", message)

    def build(self) -> None:
        """Make the schemas. A type that can't be described is `{}`, with a warning."""
        try:
            made, definitions = _generate(self._adapters)
        except Exception:
            good = [entry for entry in self._adapters if _describable(entry)]
            made, definitions = _generate(good)
        names = _names(made, definitions)
        self._built = {number: convert(schema, names) for (number, _), schema in made.items()}
        for old, new in names.items():
            if new in self.components:
                continue
            schema = convert(definitions[old], names)
            if new != old and isinstance(schema, dict) and "_" in new and new.rpartition("_")[2].isdigit():
                schema["title"] = new
            self.components[new] = schema

    def __getitem__(self, number: int) -> Any:
        """Return a fresh copy of the schema of a type that was added."""
        schema = self._built.get(number, {})
        return dict(schema) if isinstance(schema, dict) else schema

    def resolve(self, schema: Any) -> Any:
        """Return what a schema refers to, or the schema itself."""
        if isinstance(schema, Mapping) and isinstance(reference := schema.get("$ref"), str):
            return self.components.get(reference.removeprefix(_PREFIX), {})
        return schema


class _Generator(GenerateJsonSchema):
    """Describes what it can: a field without a JSON Schema (a callable, say) is `{}`."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        _warn("a field", PydanticInvalidForJsonSchema(error_info))
        return {}

    def emit_warning(self, kind: Any, detail: str) -> None:
        logger.debug("%s: %s", kind, detail)


def _generate(entries: list[tuple[int, Mode, TypeAdapter[Any]]]) -> tuple[dict[tuple[int, Mode], Any], dict[str, Any]]:
    if not entries:
        return {}, {}
    made, rest = TypeAdapter.json_schemas(entries, ref_template=_PREFIX + "{model}", schema_generator=_Generator)
    return {(int(number), mode): schema for (number, mode), schema in made.items()}, rest.get("$defs", {})


def _describable(entry: tuple[int, Mode, TypeAdapter[Any]]) -> bool:
    try:
        _generate([entry])
    except Exception as error:
        _warn(repr(entry[2]), error)
        return False
    return True


def _warn(subject: str, error: Exception) -> None:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    logger.warning("AsyncAPI: %s is documented without a schema: %s", subject, reason)


def _names(made: Mapping[Any, Any], definitions: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of every definition in use, in the order of first use.

    Pydantic puts the module before classes of one name (`shop__orders__Item`); here they are `Item` and `Item_2`.
    It tells apart what is received and what is sent (`-Input`, `-Output`); here only where they differ.
    """
    order: dict[str, None] = {}
    waiting = [reference for schema in made.values() for reference in _references(schema)]
    waiting.reverse()
    while waiting:
        name = waiting.pop()
        if name not in order and name in definitions:
            order[name] = None
            waiting.extend(reversed(list(_references(definitions[name]))))
    short = _same_both_ways(order, definitions)
    long = {short[name] for name in order if "__" in name and definitions[name].get("title") != name}
    taken = set(short.values()) - long
    names: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for name in order:
        base = short[name]
        if base in long and base not in renamed:
            renamed[base] = unique(base.rpartition("__")[2].strip("_") or base, taken)
            taken.add(renamed[base])
        names[name] = renamed.get(base, base)
    return names


def _same_both_ways(used: Iterable[str], definitions: Mapping[str, Any]) -> dict[str, str]:
    """Return a name for each definition: without `-Input` and `-Output` where there is one only, or both are equal."""
    names = list(used)
    equal: dict[str, str] = {}
    for name in names:
        base = name.removesuffix("-Input").removesuffix("-Output")
        if base != name and base not in definitions:
            equal[name] = base
    while differing := _differing(equal, definitions):
        equal = {name: base for name, base in equal.items() if base not in differing}
    return {name: equal.get(name, name) for name in names}


def _differing(equal: Mapping[str, str], definitions: Mapping[str, Any]) -> set[str]:
    """Return the names that would stand for two schemas."""
    shown: dict[str, Any] = {}
    differing: set[str] = set()
    for name, base in equal.items():
        schema = convert(definitions[name], equal)
        if shown.setdefault(base, schema) != schema:
            differing.add(base)
    return differing


def unique(name: str, taken: Any) -> str:
    """Return `name`, with a number behind it when it is taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _references(schema: Any) -> Iterator[str]:
    """Yield the names that a schema refers to; default values, examples and property names are no schemas."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str):
            yield value.removeprefix(_PREFIX)
        elif key in _MAP and isinstance(value, dict):
            for inner in value.values():
                yield from _references(inner)
        elif key in _LIST or key in _ONE:
            for inner in value if isinstance(value, list) else [value]:
                yield from _references(inner)
        elif key == "discriminator" and isinstance(value, dict):
            for reference in value.get("mapping", {}).values():
                yield str(reference).removeprefix(_PREFIX)


def convert(schema: Any, names: Mapping[str, str]) -> Any:
    """Return a schema of pydantic as a Schema Object of AsyncAPI.

    Args:
        schema: JSON Schema 2020-12.
        names: new names of the definitions that it may refer to.
    """
    if not isinstance(schema, dict):
        return schema
    out: Schema = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str):
            out[key] = _renamed(value, names)
        elif key in _MAP and isinstance(value, dict):
            out[key] = {name: convert(inner, names) for name, inner in value.items()}
        elif key in _LIST or key in _ONE:
            out[key] = [convert(inner, names) for inner in value] if isinstance(value, list) else convert(value, names)
        elif key == "pattern" and isinstance(value, str):
            out[key] = _ecma(value)
        elif not (key == "default" and isinstance(value, float) and not math.isfinite(value)):
            out[key] = value
    _tuple(out)
    _discriminator(out, names)
    _nullable(out)
    if "$ref" in out and len(out) > 1:
        out = {"allOf": [{"$ref": out.pop("$ref")}, *out.pop("allOf", [])], **out}
    return out


def _renamed(reference: str, names: Mapping[str, str]) -> str:
    name = reference.removeprefix(_PREFIX)
    return _PREFIX + names.get(name, name)


def _tuple(schema: Schema) -> None:
    if "prefixItems" not in schema:
        return
    rest = schema.pop("items", None)
    schema["items"] = schema.pop("prefixItems")
    if rest is not None:
        schema["additionalItems"] = rest
    elif schema.get("maxItems") == len(schema["items"]):
        schema["additionalItems"] = False


def _discriminator(schema: Schema, names: Mapping[str, str]) -> None:
    given = schema.get("discriminator")
    if not isinstance(given, dict):
        return
    schema["discriminator"] = given["propertyName"]
    if mapping := given.get("mapping"):
        schema["x-discriminator-mapping"] = {value: _renamed(str(name), names) for value, name in mapping.items()}


def _nullable(schema: Schema) -> None:
    """Write `anyOf: [X, null]` as a type list where X is plain."""
    options = schema.get("anyOf")
    if not isinstance(options, list) or len(options) != 2 or {"type": "null"} not in options or "type" in schema:
        return
    plain = options[0] if options[1] == {"type": "null"} else options[1]
    if not isinstance(plain, dict) or not isinstance(plain.get("type"), str) or {"enum", "const"} & plain.keys():
        return
    if plain["type"] == "null":
        return
    del schema["anyOf"]
    schema.update({**plain, **schema, "type": [plain["type"], "null"]})


def _ecma(pattern: str) -> str:
    pattern = re.sub(r"\(\?P=(\w+)\)", r"\\k<\1>", pattern.replace("(?P<", "(?<"))
    return re.sub(r"(?<!\\)((?:\\\\)*)\\[zZ]", r"\1$", pattern)
