"""What of FastAPI's dependencies is not public, in one place; chosen by what is there, not by version.

What of its apps and routers is not public is in `app_compat`.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import cache
from types import CodeType, FunctionType
from typing import Annotated, Any

from fastapi import _compat, params
from fastapi.dependencies import models, utils
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant, get_parameterless_sub_dependant, solve_dependencies
from fastapi.utils import create_model_field
from pydantic import Field, ValidationError, create_model
from starlette.background import BackgroundTasks
from starlette.requests import Request

from .fail_fast import fail_fast, is_large

__all__ = (
    "NO_BODY",
    "Dependant",
    "Given",
    "Values",
    "bind",
    "code_of",
    "dependant_of",
    "field_of",
    "is_usual",
    "kind_of",
    "parameterless",
    "solve",
    "typed_signature",
    "validator_of",
)

NO_BODY: Any = inspect.signature(solve_dependencies).parameters["body"].default
"""What the solver takes for "there is no body": None, and a marker since it tells `null` from nothing."""

_USUAL = frozenset(
    (
        "background_tasks_param_name",
        "body_params",
        "cache_key",
        "call",
        "dependencies",
        "header_params",
        "http_connection_param_name",
        "name",
        "path",
        "path_params",
        "query_params",
        "request_param_name",
        "response_param_name",
        "scope",
        "use_cache",
    )
)


_KINDS = (
    ("generator", inspect.CO_GENERATOR),
    ("async generator", inspect.CO_ASYNC_GENERATOR),
    ("async", inspect.CO_COROUTINE),
)

_SHOWN = ("title", "description", "examples", "json_schema_extra", "deprecated")


# Signatures.


def code_of(call: Any) -> CodeType | None:
    """Return the code that says all of a plain function; None for a callable that `inspect` has to look into."""
    if type(call) is not FunctionType or "__wrapped__" in call.__dict__ or "__signature__" in call.__dict__:
        return None
    return call.__code__


def typed_signature(call: Callable[..., Any]) -> inspect.Signature:
    """Return the signature with its annotations evaluated, as FastAPI sees it."""
    return utils.get_typed_signature(call)


def return_annotation(call: Callable[..., Any]) -> Any:
    """Return the evaluated return annotation; None when there is none, or it is None."""
    if code_of(call) is not None and not hasattr(call, "__annotate__"):
        written = call.__annotations__.get("return")
        if written is None or (isinstance(written, str) and written == "None"):
            return None
    return utils.get_typed_return_annotation(call)


def path_of(names: Sequence[str]) -> str:
    """Return a path for which FastAPI takes these parameters as path parameters."""
    return "/" + "/".join(f"{{{name}}}" for name in names)


def dependant_of(call: Callable[..., Any], path: str, **options: Any) -> Dependant:
    """Return FastAPI's description of a callable and of everything it depends on."""
    return get_dependant(path=path, call=call, **options)


def with_dependency(depends: params.Depends, call: Callable[..., Any]) -> params.Depends:
    """Return a `Depends()` of another callable that is otherwise the same."""
    if depends.dependency is call:
        return depends
    other = copy.copy(depends)
    object.__setattr__(other, "dependency", call)  # it is frozen
    return other


def parameterless(depends: params.Depends, path: str, call: Callable[..., Any]) -> Dependant:
    """Return the description of one of `dependencies=[...]`, with `call` in the place of what it depends on."""
    return get_parameterless_sub_dependant(depends=with_dependency(depends, call), path=path)


def replace(dependant: Dependant, **changes: Any) -> Dependant:
    """Return a copy with changes; nothing that FastAPI cached on it is kept."""
    return dataclasses.replace(dependant, **changes)


def replaced_call(dependant: Dependant, call: Callable[..., Any]) -> Dependant:
    """Return the description of what is called instead, as FastAPI's solver makes it for an override."""
    known = inspect.signature(get_dependant).parameters
    options = {name: getattr(dependant, name) for name in ("scope", "concurrency", "security_scopes") if name in known}
    return dataclasses.replace(
        get_dependant(path=dependant.path or "", call=call, name=dependant.name, **options),
        use_cache=dependant.use_cache,
    )


def scope_of(dependant: Dependant) -> str | None:
    """Return the scope of a yield dependency: "function", "request", or None as every one had it once."""
    scope: str | None = getattr(dependant, "scope", None)
    return scope


def kind_of(dependant: Dependant) -> str:
    """Tell how FastAPI calls a dependency: `async`, `sync`, `async generator` or `generator`."""
    code = code_of(dependant.call)
    if code is not None:
        for kind, flag in _KINDS:
            if code.co_flags & flag:
                return kind
    for kind, name in (("generator", "gen"), ("async generator", "async_gen"), ("async", "coroutine")):
        if _is(dependant, f"is_{name}_callable"):
            return kind
    return "sync"


def _is(dependant: Dependant, question: str) -> bool:
    answer = getattr(dependant, question, None)
    if answer is None:
        tell = getattr(models, f"_{question}", None) or getattr(utils, question)
        answer = tell(dependant.call)
    return bool(answer)


def is_usual(dependant: Dependant) -> bool:
    """Tell whether a description has nothing but what the plan understands: no scopes, no limits, nothing new."""
    cls: Any = type(dependant)
    return not any(getattr(dependant, name) for name in _unusual_names(cls))


@cache
def _unusual_names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls) if field.name not in _USUAL)


# Fields.


class _Alias(str):
    """The alias of a bound field: equal to the plain one, but `Values` knows who asks."""

    __slots__ = ()


class Given:
    """A value that is there, though FastAPI would take it for nothing: None, or an empty list."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __len__(self) -> int:
        return 1


class Values(dict[str, Any]):
    """Payload by key, in the place of query parameters: a bound field gets None and empty lists too."""

    __slots__ = ()

    def get(self, key: str, default: Any = None) -> Any:
        value = super().get(key, default)
        return Given(value) if type(key) is _Alias and key in self else value

    def getlist(self, key: str) -> list[Any]:
        """Return the value as a list, for code that expects query parameters."""
        if key not in self:
            return []
        value = self[key]
        return value if isinstance(value, list) else [value]


class _Bound:
    """Mixin of a field that reads `Given`."""

    @property
    def alias(self) -> str:
        return _Alias(super().alias)  # type: ignore[misc]

    @property
    def validation_alias(self) -> str | None:
        alias = getattr(super(), "validation_alias", None)
        return _Alias(alias) if isinstance(alias, str) else None

    def validate(self, value: Any, values: Any = None, *, loc: tuple[int | str, ...] = ()) -> Any:
        if isinstance(value, Given):
            value = value.value
        if is_large.get():
            try:
                return fail_fast_of(self)(value, from_attributes=True), []
            except ValidationError as error:
                return None, errors_at(error, *loc)
        return super().validate(value, {} if values is None else values, loc=loc)  # type: ignore[misc]


@cache
def _bound_class(cls: Any) -> Any:
    return cls if issubclass(cls, _Bound) else type(f"Bound{cls.__name__}", (_Bound, cls), {})


def bind(field: Any) -> None:
    """Make a field of a description read `Given`; the description is nobody else's."""
    cls: Any = type(field)
    field.__class__ = _bound_class(cls)


def field_of(name: str, annotation: Any, mode: str = "validation") -> Any:
    """Return a field of a type, as FastAPI makes it.

    Raises:
        Exception: FastAPI or pydantic can't use the type; each release has its own class for it.
    """
    make: Any = create_model_field
    return make(name=name, type_=annotation, mode=mode)


def is_sequence(annotation: Any) -> bool:
    """Tell whether FastAPI takes a type for a list of values."""
    tell: Any = getattr(_compat, "field_annotation_is_sequence", None)
    return bool((tell or _compat.shared.field_annotation_is_sequence)(annotation))


def body_model(name: str, fields: Sequence[Any], base: Any = None) -> Any:
    """Return a model with these fields, by their aliases."""
    columns: dict[str, Any] = {}
    for number, field in enumerate(fields):
        label = field.name if not field.name.startswith("_") else f"field_{number}"
        info = field.field_info
        shown = {key: value for key in _SHOWN if (value := getattr(info, key, None)) is not None}
        if info.default_factory is not None:
            shown["default_factory"] = info.default_factory
        elif not info.is_required():
            shown["default"] = info.default
        annotation = (info.annotation, *info.metadata)
        columns[label] = (
            Annotated[annotation] if info.metadata else info.annotation,
            Field(alias=str(field.alias), **shown),
        )
    return create_model(name, __base__=base, **columns)


def adapter_of(field: Any) -> Any:
    """Return the pydantic `TypeAdapter` of a field."""
    return field._type_adapter


def is_complete(field: Any) -> bool:
    """Tell whether pydantic knows every type that a field names."""
    adapter = field._type_adapter
    return getattr(adapter, "pydantic_complete", True) or bool(adapter.rebuild(raise_errors=False))


def validator_of(field: Any) -> Callable[..., Any]:
    """Return the `validate_python` of a field."""
    adapter = field._type_adapter
    direct = hasattr(type(adapter.validator), "validate_python")
    validate: Callable[..., Any] = (adapter.validator if direct else adapter).validate_python
    return validate


def fail_fast_of(field: Any) -> Callable[..., Any]:
    """Return the `validate_python` of a field for large bodies, which ends with the first wrong item."""
    return fail_fast(adapter_of(field))


def errors_at(error: ValidationError, *place: str | int) -> list[Any]:
    """Return the errors of a validation as FastAPI lists them, each below a place."""
    return [{**one, "loc": (*place, *one["loc"])} for one in error.errors(include_url=False)]


# Solving.


@dataclasses.dataclass(slots=True)
class Solved:
    """What the solver found.

    Attributes:
        values: arguments by parameter name.
        errors: as in `RequestValidationError`.
        background: the tasks somebody asked for.
    """

    values: dict[str, Any]
    errors: list[Any]
    background: BackgroundTasks | None


async def solve(request: Request, dependant: Dependant, body: Any, embed: bool) -> Solved:
    """Run FastAPI's own solver; the exit stacks are in the scope of the request, under FastAPI's names."""
    solved = await solve_dependencies(
        request=request,
        dependant=dependant,
        body=body,
        async_exit_stack=request.scope["fastapi_inner_astack"],
        embed_body_fields=embed,
    )
    return Solved(solved.values, list(solved.errors), solved.background_tasks)


def place_stacks(request: Request, outer: AsyncExitStack, inner: AsyncExitStack) -> None:
    """Put the exit stacks of the scopes "request" and "function" where the solver looks for them."""
    request.scope["fastapi_inner_astack"] = outer
    request.scope["fastapi_function_astack"] = inner


def walk(dependant: Dependant) -> Iterator[Dependant]:
    """Yield a description and everything below it, dependencies first, in the order in which they are solved."""
    for child in dependant.dependencies:
        yield from walk(child)
    yield dependant


def same_overrides(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> bool:
    """Tell whether the same callables are overridden by the same ones."""
    return len(first) == len(second) and all(second.get(call) is other for call, other in first.items())
