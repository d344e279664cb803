"""Which part of a message each parameter is read from, as closures over a field."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from copy import deepcopy
from operator import attrgetter
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from .codec import as_text
from .errors import SetupError
from .fail_fast import LARGE
from .fastapi_compat import (
    NO_BODY,
    Dependant,
    Given,
    Values,
    body_model,
    fail_fast_of,
    field_of,
    is_sequence,
    validator_of,
    walk,
)
from .field_type import (
    SIMPLE,
    accepts_none,
    annotated,
    annotation_of,
    is_json_text,
    is_plain_list,
    is_scalar,
    is_usual_field,
    without_none,
)
from .message import BatchMessage, StreamMessage

__all__ = ("Layout", "Read", "Unread")

Read = Callable[[StreamMessage, Any], Any]
"""Reads one argument from a message and its decoded body."""

_MISSING: Any = object()
_body_of = attrgetter("body")
_NO_NAMES: frozenset[str] = frozenset()
"""The one for every handler: an empty set of its own is 216 bytes."""


class Unread(Exception):
    """An argument is missing, or FastAPI has to say what it is."""


class Layout:
    """Where the parameters of a handler and of its dependencies are in a message.

    Attributes:
        embed: bodies are read by key.
        needs_body: whether anything of the decoded body is read.
        reads_body: whether the closures read it; a batch has its items already.
        keeps_items: the validated items of a batch are what the handler takes.
        first: the first payload parameter, which takes a body that is no object.
        is_body: the first payload parameter is the whole body as it is.
        validate: then, what makes its value of the body.
        fail_fast: the same for a large body.
        usual: every field is one that the closures read as FastAPI would.

    Raises:
        SetupError: a batch handler does not take a list.
    """

    def __init__(self, tree: Dependant, path_names: Sequence[str], batch: bool, subject: str) -> None:
        self.path_names = frozenset(path_names) or _NO_NAMES
        self.batch = batch
        self._nodes = list(walk(tree))
        own = _payload(tree)
        scalars = {name for name, is_body in ((f.name, b) for f, b in own) if not is_body}
        whole = next((found for found in [own, *map(_payload, self._nodes)] if found), [])
        first = whole[0][0] if whole else None
        self.first: Any = first
        self._first_is_body = bool(whole) and whole[0][1]
        self._sole = len(whole) == 1
        bodies = [field for node in self._nodes for field in node.body_params]
        self._listed = bool(
            scalars
            and tree.body_params
            and not batch
            and all(is_sequence(annotation_of(field)) for field in tree.body_params)
        )
        self.embed = (
            len({field.name for field in bodies}) > 1
            or any(getattr(field.field_info, "embed", None) for field in bodies[:1])
            or self._listed
        )
        self.usual = all(is_usual_field(f) for n in self._nodes for f in (*_fields(n), *n.body_params))
        kind = None if first is None else without_none(annotation_of(first))
        alone = self._sole and not (self._first_is_body and self.embed)
        self._raw = alone and (kind is bytes or (batch and get_args(kind)[:1] == (bytes,)))
        scalar = [field for node in self._nodes for field in node.query_params]
        missing = [f for n in self._nodes for f in n.path_params if f.alias not in self.path_names]
        self.needs_body = any(not (self._raw and field is first) for field in (*bodies, *scalar, *missing))
        self._text = kind is str
        self._text_items = batch and self._sole and without_none(next(iter(get_args(kind)), None)) is str
        required = first is not None and first.field_info.is_required()
        self._anything = kind in (Any, object) and (self._sole or required)
        self.is_body = self._first_is_body and not (self.embed or self._raw or self._text or batch)
        self.validate: Callable[..., Any] | None = validator_of(first) if self.is_body else None
        self.fail_fast: Callable[..., Any] | None = fail_fast_of(first) if self.is_body else None
        self._nullable = first is not None and accepts_none(annotation_of(first))
        nullable = frozenset(str(field.alias) for field in scalar if accepts_none(annotation_of(field)))
        self._nullable_keys = nullable or _NO_NAMES
        item = self._item(subject) if batch else None
        self.keeps_items = item is not None and is_plain_list(first)
        items = None if item is None else field_of("items", types.GenericAlias(list, (item,)))
        self._items = None if items is None else validator_of(items)
        self._items_fail_fast = None if items is None else fail_fast_of(items)
        others = [field for field in (*bodies, *scalar, *missing) if field is not first]
        self.reads_body = bool(others) if self.keeps_items else self.needs_body

    # Readers of the fast path.

    def readers(self, node: Dependant) -> list[tuple[str, Read]]:
        """Return a reader for each parameter of a handler or dependency, in FastAPI's order."""
        found: list[tuple[str, Read]] = []
        for field in node.path_params:
            found.append((field.name, self._path(field)))
        for field in node.query_params:
            found.append((field.name, self._whole(field) if self._is_first(field, False) else _keyed(field, True)))
        for field in node.header_params:
            found.append((field.name, _header(field)))
        for field in node.body_params:
            if self.embed and not (self._listed and self._is_first(field, True)):
                found.append((field.name, _keyed(field, False)))
            else:
                found.append((field.name, self._whole(field) if self._is_first(field, True) else _body(field)))
        return found

    def _is_first(self, field: Any, is_body: bool) -> bool:
        return (
            self.first is not None
            and is_body is self._first_is_body
            and (field is self.first or field.alias == self.first.alias)
        )

    def _path(self, field: Any) -> Read:
        alias, validate, absent = str(field.alias), validator_of(field), _absent(field)
        captured = alias in self.path_names

        def read(message: StreamMessage, body: Any) -> Any:
            value = message.path.get(alias) if captured else None
            if value is None and isinstance(body, dict):
                value = body.get(alias)
            return absent() if value is None else validate(value, from_attributes=True)

        return read

    def _whole(self, field: Any) -> Read:
        validate, absent, pick = validator_of(field), _absent(field), self.pick
        if self.is_body:
            return _body(field)
        if self.keeps_items:

            def items(message: StreamMessage, body: Any) -> Any:
                known = message.take_items() if isinstance(message, BatchMessage) else None
                return validate(pick(message, message.decoded()), from_attributes=True) if known is None else known

            return items

        if is_scalar(field):
            is_text = not self._raw and not self._first_is_body

            def scalar(message: StreamMessage, body: Any) -> Any:
                value = body if is_text and type(body) is str else pick(message, body)
                return absent() if value is _MISSING else validate(value, from_attributes=True)

            return scalar

        fail_fast = fail_fast_of(field)

        def read(message: StreamMessage, body: Any) -> Any:
            value = pick(message, body)
            if value is _MISSING:
                return absent()
            return (validate if len(message.body) < LARGE else fail_fast)(value, from_attributes=True)

        return read

    @property
    def takes_text(self) -> bool:
        """Whether the first payload parameter takes text or bytes as they are."""
        return self._raw or self._text or self._anything or (self.first is not None and is_json_text(self.first))

    # What FastAPI's solver reads.

    def pick(self, message: StreamMessage, body: Any) -> Any:
        """Return what the first payload parameter takes, or a marker when there is nothing for it."""
        if self._raw or self._text_items:
            if isinstance(message, BatchMessage):
                return self._values(message.messages)
            return None if self._nullable and not message.body else message.body
        if isinstance(body, dict):
            if self._first_is_body and not self.embed:
                return body
            alias = self.first.alias
            if alias in body:
                body = body[alias]
            elif not self._anything:
                return _MISSING
        elif self._text:
            body = as_text(body, message)
        elif self._first_is_body and self.embed and not self._listed:
            return _MISSING
        return _MISSING if body is None and not self._nullable else body

    def query_values(self, message: StreamMessage, body: Any) -> Values:
        """Return the payload by key, below what the address captured."""
        values = Values(body) if isinstance(body, dict) else Values()
        if self.first is not None and not self._first_is_body:
            value = self.pick(message, body)
            if value is not _MISSING:
                values[str(self.first.alias)] = value
        values.update(message.path)
        return Values({key: value for key, value in values.items() if value is not None or key in self._nullable_keys})

    def path_values(self, message: StreamMessage, body: Any) -> dict[str, Any]:
        """Return what the address captured, over the body's keys."""
        return {**(body if isinstance(body, dict) else {}), **message.path}

    def solver_body(self, message: StreamMessage, body: Any) -> Any:
        """Return the body as the solver takes it."""
        if self.embed:
            if isinstance(body, dict):
                return Values(body)
            if self._listed and self._first_is_body:
                value = self.pick(message, body)
                return NO_BODY if value is _MISSING else Values({str(self.first.alias): value})
            return NO_BODY if body is None else body
        if not self._first_is_body:
            bodies = [field for node in self._nodes for field in node.body_params]
            return (
                Given(body) if body is not None or any(accepts_none(annotation_of(one)) for one in bodies) else NO_BODY
            )
        value = self.pick(message, body)
        return NO_BODY if value is _MISSING else Given(value)

    def located(self, errors: Sequence[Any]) -> list[Any]:
        """Return the solver's errors with their place in the message: the body is what it takes for query and path."""
        return [{**one, "loc": ("body", *one["loc"][1:])} if self._is_in_body(one["loc"]) else one for one in errors]

    def _is_in_body(self, loc: Sequence[Any]) -> bool:
        return loc[:1] == ("query",) or (loc[:1] == ("path",) and loc[1] not in self.path_names)

    # Batches.

    def _item(self, subject: str) -> Any:
        """Return the type of one item, or None when every item will do."""
        if self.first is None:
            return None
        written, name = annotation_of(self.first), self.first.name
        kind = without_none(written)
        if kind in (Any, object):
            return None
        if not self._sole or not is_sequence(kind):
            raise SetupError(
                subject,
                f"a batch handler takes its messages as one list, and parameter {name!r} is {written!r}",
                f"annotate it as `{name}: list[...]`, and take no other payload",
            )
        arguments = [one for one in get_args(kind) if one is not ...]
        if not arguments or (get_origin(kind) is tuple and len(arguments) > 1):
            return None
        return arguments[0]

    def items(self, messages: Sequence[StreamMessage]) -> list[Any]:
        """Return the validated items of some messages.

        Raises:
            DecodeError: a body is not what its content type declares.
            ValidationError: an item is not what the handler takes; the place begins with its number.
        """
        if self.first is None:
            return []
        values = self._values(messages)
        if self._items is None or self._items_fail_fast is None:
            return values
        items: list[Any]
        largest = max(map(len, map(_body_of, messages)))
        validate = self._items if largest < LARGE else self._items_fail_fast
        try:
            items = validate(values, from_attributes=True)
        except ValidationError:
            reread = [] if self._raw else [one.reread() for one in messages]
            if not any(reread):
                raise
            items = validate(self._values(messages), from_attributes=True)
        return items

    def _values(self, messages: Sequence[StreamMessage]) -> list[Any]:
        if self._raw:
            return [one.body for one in messages]
        values = [one.decoded() for one in messages]
        return list(map(as_text, values, messages)) if self._text_items else values

    # The document.

    def payload_fields(self) -> list[Any]:
        """Return the fields that a payload has, by alias: bodies, scalars, and path parameters of the body."""
        found: dict[str, Any] = {}
        for node in reversed(self._nodes):
            for field in (*node.body_params, *node.query_params):
                found.setdefault(str(field.alias), field)
            for field in node.path_params:
                if field.alias not in self.path_names:
                    found.setdefault(str(field.alias), field)
        return list(found.values())

    def payload_type(self, name: str) -> Any:
        """Return the type of the payload as a whole; None when nothing of it is read."""
        fields = self.payload_fields()
        if not fields:
            return None
        if len(fields) == 1 and fields[0] is self.first and not (self._first_is_body and self.embed):
            return annotated(fields[0])
        bodies = {field.alias: field for node in self._nodes for field in node.body_params}
        if not bodies or self.embed:
            return body_model(name, fields)
        base = annotation_of(next(iter(bodies.values())))
        if not (isinstance(base, type) and issubclass(base, BaseModel)):
            return base
        return body_model(name, [field for field in fields if field.alias not in bodies], base)


def _payload(node: Dependant) -> list[tuple[Any, bool]]:
    """Return the payload parameters of one callable as they are declared, and whether each is a body."""
    known = {field.name: (field, True) for field in node.body_params}
    known.update({field.name: (field, False) for field in node.query_params})
    if len(known) < 2 or node.call is None:
        return list(known.values())
    return [known[name] for name in inspect.signature(node.call).parameters if name in known]


def _fields(node: Dependant) -> list[Any]:
    return [*node.path_params, *node.query_params, *node.header_params]


def _body(field: Any) -> Read:
    """Return what reads the whole body; None is refused by a type that has no None."""
    validate, fail_fast = validator_of(field), fail_fast_of(field)
    return lambda message, body: (validate if len(message.body) < LARGE else fail_fast)(body, from_attributes=True)


def _keyed(field: Any, null_is_absent: bool) -> Read:
    alias, validate, absent = str(field.alias), validator_of(field), _absent(field)
    fail_fast = fail_fast_of(field)
    nullable = not null_is_absent or accepts_none(annotation_of(field))

    def read(message: StreamMessage, body: Any) -> Any:
        value = body.get(alias, _MISSING) if isinstance(body, dict) else _MISSING
        if value is _MISSING or (value is None and not nullable):
            return absent()
        return (validate if len(message.body) < LARGE else fail_fast)(value, from_attributes=True)

    return read


def _header(field: Any) -> Read:
    alias, validate, absent = str(field.alias), validator_of(field), _absent(field)
    if is_sequence(annotation_of(field)):

        def read_all(message: StreamMessage, body: Any) -> Any:
            values = message.headers.getlist(alias)
            return validate(values, from_attributes=True) if values else absent()

        return read_all

    name = alias.lower()

    def read(message: StreamMessage, body: Any) -> Any:
        value = message.headers.value(name)
        return absent() if value is None else validate(value, from_attributes=True)

    return read


def _absent(field: Any) -> Callable[[], Any]:
    """Return what makes the argument when the message has nothing for it."""
    info = field.field_info
    if info.is_required() or info.validate_default:
        return _unread
    if info.default_factory is None and isinstance(info.default, SIMPLE):
        return lambda: info.default
    return lambda: deepcopy(field.get_default())


def _unread() -> Any:
    raise Unread
