"""What the type of an option takes, and how an error says it."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator, ConfigDict, InstanceOf, TypeAdapter, ValidationError

from .errors import shorten
from .security import BaseSecurity
from .shown_address import scrub

__all__ = ("OptionType", "annotated", "show")

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
_SCALARS: Mapping[Any, str] = {int: "a whole number", float: "a number", str: "a text", bytes: "bytes"}
_BOUNDS: Mapping[type, tuple[str, str]] = {
    Ge: ("ge", "of at least"),
    Gt: ("gt", "of more than"),
    Le: ("le", "of at most"),
    Lt: ("lt", "of less than"),
}
_UNIONS = (Union, types.UnionType)
_ANNOTATED: Any = Annotated  # for annotations that are made here, of parts that no type checker knows
_UNION: Any = Union
_INSTANCE_OF: Any = InstanceOf


class OptionType:
    """The declared type of one option.

    A value is checked as it is: nothing is converted, a bool is no number, a number is an int or a finite float, and
    no text.

    Args:
        hint: the annotation.

    Attributes:
        is_secret: whether values of the type hold credentials.
    """

    def __init__(self, hint: Any) -> None:
        self._hint = hint
        self._adapter = None if hint in (Any, object) else TypeAdapter(_checked(hint), config=_STRICT)
        self.is_secret = any(isinstance(one, type) and issubclass(one, BaseSecurity) for one in _alternatives(hint))

    def takes(self, value: object) -> bool:
        """Tell whether an option may have this value."""
        if self._adapter is None:
            return True
        try:
            self._adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    @property
    def choices(self) -> list[str]:
        """What the option takes: single values as they are written, otherwise the kinds of values."""
        return list(dict.fromkeys(text for one in _alternatives(self._hint) for text in _texts(one)))

    def closest(self, value: object) -> str | None:
        """Return the choice that was meant, if one looks like it."""
        if isinstance(value, Enum):
            value = value.name
        if not isinstance(value, str):
            return None
        written = {
            name.lower(): text
            for one in _alternatives(self._hint)
            for text, names in _members(one)
            for name in (text, *names)
        }
        close = difflib.get_close_matches(value.lower(), written, 1)
        return written[close[0]] if close else None


def annotated(hint: Any, extras: Sequence[object]) -> Any:
    """Return an annotation with what else is said of it."""
    parts = (hint, *extras)
    return _ANNOTATED[parts] if extras else hint


def show(value: object) -> str:
    """Return a value as it may stand in an error: short and without credentials."""
    if isinstance(value, str):
        return shorten(scrub(value))
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    try:
        text = " ".join(scrub(repr(value)).split())
    except Exception as error:  # whatever a foreign __repr__ raises
        return f"<{type(value).__name__} whose repr() raises {type(error).__name__}>"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _checked(hint: Any) -> Any:
    """Return the annotation that pydantic checks: any mapping or sequence does, and objects are not looked into."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return annotated(_checked(args[0]), args[1:])
    if origin in _UNIONS:
        return _UNION[tuple(map(_checked, args))]
    if origin is Literal:
        return Annotated[hint, BeforeValidator(_exactly(args))]
    if hint is float:  # pydantic also takes what has a __float__, and a Decimal can't be added to a time
        return Annotated[hint, BeforeValidator(_number)]
    base = origin or hint
    if not isinstance(base, type) or base in (Any, types.NoneType, bool, object, Callable, type, *_SCALARS):
        return hint
    if issubclass(base, (str, bytes)):  # an enumeration of texts is no sequence of them
        return _INSTANCE_OF[base]
    inner = tuple(map(_checked, args))
    if issubclass(base, Mapping):
        return annotated(types.GenericAlias(dict, inner or (Any, Any)), (BeforeValidator(_as_dict),))
    if issubclass(base, Sequence):
        return annotated(types.GenericAlias(list, inner[:1] or (Any,)), (BeforeValidator(_as_list),))
    return _INSTANCE_OF[base]


def _exactly(values: Sequence[object]) -> Callable[[object], object]:
    def check(value: object) -> object:
        if not any(type(value) is type(one) and value == one for one in values):
            raise ValueError
        return value

    return check


def _number(value: object) -> object:
    if not isinstance(value, (int, float)):
        raise ValueError
    return value


def _as_dict(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


def _as_list(value: object) -> object:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else value


def _alternatives(hint: Any) -> Iterator[Any]:
    origin = get_origin(hint)
    if origin in _UNIONS:
        for one in get_args(hint):
            yield from _alternatives(one)
    elif origin is Annotated and get_origin(get_args(hint)[0]) in _UNIONS:
        yield from _alternatives(get_args(hint)[0])
    else:
        yield hint


def _members(hint: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the single values of a type as they are written, each with its other names."""
    if get_origin(hint) is Literal:
        for one in get_args(hint):
            yield repr(one), (str(one),)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        for member in hint:
            yield f"{hint.__name__}.{member.name}", (member.name, str(member.value))


def _texts(hint: Any) -> list[str]:
    """Return how an error names what a type takes."""
    members = [text for text, _ in _members(hint)]
    if members:
        return members
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [
            f" {word} {getattr(one, field)}"
            for one in args[1:]
            for kind, (field, word) in _BOUNDS.items()
            if isinstance(one, kind)
        ]
        filled = " that is not empty" if any(isinstance(one, MinLen) for one in args[1:]) else ""
        return [text + " and".join(bounds) + filled for text in _texts(args[0])]
    if hint in _SCALARS:
        return [_SCALARS[hint]]
    if hint is bool:
        return ["True", "False"]
    if hint in (None, types.NoneType):
        return ["None"]
    if hint is types.EllipsisType:
        return ["..."]
    if origin is Callable:
        return ["a callable"]
    if origin is type:
        return [f"a class derived from {getattr(args[0], '__name__', args[0])}"]
    base = origin or hint
    if isinstance(base, type) and issubclass(base, Mapping):
        return ["a mapping"]
    if isinstance(base, type) and issubclass(base, Sequence):
        inner = [text.removeprefix("a ") for one in _alternatives(args[0] if args else Any) for text in _texts(one)]
        return [f"a list of {' or '.join(inner)}"]
    return [getattr(base, "__name__", str(base))] if base not in (Any, object) else ["anything"]
