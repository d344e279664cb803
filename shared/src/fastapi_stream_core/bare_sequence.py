"""Sequences without a type of their items: FastAPI takes them for uploaded files, and a message has none.

Where a signature has one, FastAPI describes a stand-in whose signature says that it is the body.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi import Body, params
from pydantic.fields import FieldInfo

from .fastapi_compat import Dependant, is_sequence, replace, typed_signature, with_dependency
from .option_type import annotated

__all__ = ("describe",)

Call = Callable[..., Any]


def describe(call: Call, make: Callable[[Call], Dependant]) -> Dependant:
    """Return FastAPI's description of a callable and of everything it depends on.

    Args:
        call: what is described.
        make: FastAPI's function for it.
    """
    stand_ins: dict[Call, Call] = {}
    described = make(_stand_in(call, stand_ins))
    originals = {stand_in: call for call, stand_in in stand_ins.items() if stand_in is not call}
    return _with_originals(described, originals) if originals else described


def _stand_in(call: Call, stand_ins: dict[Call, Call]) -> Call:
    """Return what FastAPI is to describe: the callable itself where nothing is to be changed."""
    try:
        if call in stand_ins:
            return stand_ins[call]
        stand_ins[call] = call
        parameters = list(typed_signature(call).parameters.values())
    except Exception:  # no hash, or a signature that can't be read: FastAPI says what is wrong
        return call
    changed = [_changed(one, stand_ins) for one in parameters]
    if all(one is other for one, other in zip(changed, parameters, strict=True)):
        return call

    def stand_in() -> None: ...

    stand_in.__signature__ = inspect.Signature(changed)  # type: ignore[attr-defined]
    stand_ins[call] = stand_in
    return stand_in


def _changed(parameter: inspect.Parameter, stand_ins: dict[Call, Call]) -> inspect.Parameter:
    annotation, default = parameter.annotation, parameter.default
    extras = getattr(annotation, "__metadata__", ())
    kind = annotation.__origin__ if extras else annotation
    depends = next((one for one in (*extras, default) if isinstance(one, params.Depends)), None)
    if depends is not None:
        below = depends.dependency or kind
        stand_in = _stand_in(below, stand_ins) if callable(below) else below
        if stand_in is below:
            return parameter
        other = with_dependency(depends, stand_in)
        return parameter.replace(
            annotation=annotated(kind, [other if one is depends else one for one in extras]),
            default=other if default is depends else default,
        )
    if isinstance(default, FieldInfo) or any(isinstance(one, FieldInfo) for one in extras) or not _is_bare(kind):
        return parameter
    return parameter.replace(annotation=Annotated[annotation, Body()])


def _is_bare(annotation: Any) -> bool:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(map(_is_bare, arguments))
    return not arguments and is_sequence(annotation)


def _with_originals(node: Dependant, originals: dict[Any, Call]) -> Dependant:
    children = [_with_originals(child, originals) for child in node.dependencies]
    return replace(node, call=originals.get(node.call, node.call), dependencies=children)
