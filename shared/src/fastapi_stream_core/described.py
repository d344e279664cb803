"""From FastAPI's description of a handler and its dependencies to the one that is run."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

from . import fastapi_compat as compat
from .bare_sequence import describe
from .calls import generator_in_thread, in_thread
from .context import ContextValue
from .fastapi_compat import Dependant
from .injection import injection

__all__ = ("override", "prepare")


def override(node: Dependant, overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> Dependant:
    """Return the tree with the overridden dependencies replaced; the handler itself is none."""
    children = []
    for child in node.dependencies:
        replacement = None if child.call is None else overrides.get(child.call)
        children.append(override(child if replacement is None else _replaced(child, replacement), overrides))
    return compat.replace(node, dependencies=children)


def _replaced(node: Dependant, call: Callable[..., Any]) -> Dependant:
    return describe(call, lambda stand_in: compat.replaced_call(node, stand_in))


def prepare(node: Dependant, twins: dict[Any, Callable[..., Any]] | None = None) -> Dependant:
    """Return the tree as it is run: injected parameters are dependencies, and sync callables have async twins."""
    twins = {} if twins is None else twins
    children = []
    declared = _declared(node) if any(isinstance(child.call, ContextValue) for child in node.dependencies) else {}
    for child in node.dependencies:
        if isinstance(child.call, ContextValue):
            name = child.name or ""
            default = declared[name].default if name in declared else inspect.Parameter.empty
            default = inspect.Parameter.empty if hasattr(default, "dependency") else default
            children.append(compat.replace(child, call=child.call.declared(name, default)))
        else:
            children.append(prepare(child, twins))
    changes: dict[str, Any] = {}
    for kind in ("path_params", "query_params", "body_params"):
        kept = []
        for field in getattr(node, kind):
            value = injection(field.field_info.annotation)
            if value is not None:
                children.append(compat.dependant_of(value, node.path or "", name=field.name))
                continue
            if kind != "path_params":
                compat.bind(field)
            kept.append(field)
        if len(kept) < len(getattr(node, kind)):
            changes[kind] = kept
    if len(children) != len(node.dependencies) or any(map(operator.is_not, children, node.dependencies)):
        changes["dependencies"] = children
    twin = _async_twin(node, twins)
    if twin is not node.call:
        changes["call"] = twin
    return compat.replace(node, **changes) if changes else node


def _declared(node: Dependant) -> Mapping[str, inspect.Parameter]:
    return {} if node.call is None else inspect.signature(node.call).parameters


def _async_twin(node: Dependant, twins: dict[Any, Callable[..., Any]]) -> Callable[..., Any] | None:
    call, kind = node.call, compat.kind_of(node)
    if call is None or kind.startswith("async"):
        return call
    if call not in twins:
        twin = in_thread(call) if kind == "sync" else generator_in_thread(call)
        twin.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
        twins[call] = twin
    return twins[call]
