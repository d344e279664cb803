"""Parameters that are filled by their type: the broker and the message, in handlers, dependencies and endpoints."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from fastapi import Depends, params
from pydantic_core import CoreSchema, core_schema

from .context import ContextValue
from .errors import ContextError, SetupError
from .fastapi_compat import typed_signature
from .field_type import union_members

if TYPE_CHECKING:
    from .message import StreamMessage

__all__ = ("Injected", "Injections", "injection", "with_injection")


class Injected:
    """Base of classes that are injected by their type: a parameter so annotated is filled, never read from the body.

    Attributes:
        injected_as: the name in the context that has the instance.
    """

    __slots__ = ()

    injected_as: ClassVar[str]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.is_instance_schema(cls)


@dataclass(frozen=True, slots=True)
class Injections:
    """What a subscription injects by type.

    Attributes:
        broker: class of its broker.
        messages: classes of the messages that a handler gets: the broker's, and that of a batch.
    """

    broker: type
    messages: tuple[type, ...] = ()

    def refuse_others(self, name: str, annotation: Any, subject: str) -> None:
        """Refuse a parameter that asks for a broker or a message, and would never be filled.

        Raises:
            SetupError: that is so.
        """
        types = _injected_types(annotation)
        if not types:
            return
        kinds = {one.injected_as for one in types}
        if _members(annotation) is None or len(kinds) > 1:
            raise SetupError(
                subject,
                f"parameter {name!r}: {_named(types)} is a part of its type, and no body holds one",
                "annotate a parameter with nothing but the class; the message of a batch has all of them as `messages`",
            )
        if "broker" in kinds:
            self._refuse_broker(name, types, subject)
        else:
            self._refuse_message(name, types, subject)

    def _refuse_broker(self, name: str, types: tuple[type[Injected], ...], subject: str) -> None:
        if not issubclass(self.broker, types):
            own = self.broker.__name__
            raise SetupError(
                subject,
                f"parameter {name!r} asks for {_named(types)}, and the broker here is a {own}",
                f"annotate it with {own}, or with a union of both where several brokers share it; use another broker"
                " by its router's `broker`",
            )

    def _refuse_message(self, name: str, types: tuple[type[Injected], ...], subject: str) -> None:
        if any(issubclass(one, types) for one in self.messages):
            return
        own = " or ".join(one.__name__ for one in self.messages)
        raise SetupError(
            subject,
            f"parameter {name!r} asks for {_named(types)}, and the messages here are {own}",
            f"annotate it with {own}, with StreamMessage, or with a union of both where several subscribers share it",
        )


class _InjectedValue(ContextValue):
    """Resolves a parameter that is annotated with classes of this project."""

    def __init__(self, types: tuple[type[Injected], ...]) -> None:
        super().__init__(types[0].injected_as)
        self.types = types

    def resolve(self, message: StreamMessage) -> Any:
        value = super().resolve(message)
        if isinstance(value, self.types) or hasattr(value, "messages"):
            return value
        raise ContextError(self.name, _named(self.types))


def _members(annotation: Any) -> tuple[type[Injected], ...] | None:
    """Return the classes of this project that an annotation consists of, as a union too; None with anything else."""
    if hasattr(annotation, "__metadata__"):
        return _members(annotation.__origin__)
    if isinstance(annotation, type) and issubclass(annotation, Injected):
        return (annotation,)
    found: list[type[Injected]] = []
    for member in union_members(annotation):
        if member is not type(None):
            members = _members(member)
            if members is None:
                return None
            found += members
    return tuple(found) or None


def _injected_types(annotation: Any) -> tuple[type[Injected], ...]:
    """Return the classes of this project that an annotation names, wherever."""
    if isinstance(annotation, type) and issubclass(annotation, Injected):
        return (annotation,)
    return tuple(one for member in get_args(annotation) for one in _injected_types(member))


def _named(types: tuple[type[Injected], ...]) -> str:
    return " or ".join(one.__name__ for one in types)


def injection(annotation: Any) -> ContextValue | None:
    """Return what fills a parameter by its type, or None."""
    types = _members(annotation)
    return None if types is None else _InjectedValue(types)


def with_injection(endpoint: Callable[..., Any], broker: Callable[[], Any]) -> Callable[..., Any]:
    """Return an HTTP endpoint whose parameters annotated with a broker are filled with `broker()`.

    Only the endpoint's own parameters: a dependency of an HTTP endpoint takes the broker by `Depends`. The endpoint
    itself is not touched.

    Raises:
        SetupError: the endpoint asks for a message, or for another broker.
    """
    try:
        signature = typed_signature(endpoint)
    except (TypeError, ValueError, NameError):
        return endpoint
    found = {
        name: types
        for name, parameter in signature.parameters.items()
        if not _is_filled(parameter) and (types := _members(parameter.annotation))
    }
    if not found:
        return endpoint

    async def the_broker() -> Any:
        return broker()

    injections = Injections(type(broker()))
    subject = f"endpoint {getattr(endpoint, '__name__', endpoint)!r}"
    parameters = []
    for name, parameter in signature.parameters.items():
        types = found.get(name)
        if types is not None:
            if any(one.injected_as != "broker" for one in types):
                raise SetupError(
                    subject,
                    f"parameter {name!r} asks for a message, and an HTTP request has none",
                    "remove it, or declare a subscriber",
                )
            injections.refuse_others(name, parameter.annotation, subject)
            parameter = parameter.replace(
                annotation=Annotated[types[0], Depends(the_broker)], default=inspect.Parameter.empty
            )
        parameters.append(parameter)
    parameters.sort(key=lambda one: (one.kind, one.default is not inspect.Parameter.empty))
    shim = _clone(endpoint)
    shim.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=inspect.signature(endpoint).return_annotation
    )
    return shim


def _is_filled(parameter: inspect.Parameter) -> bool:
    marks = (*getattr(parameter.annotation, "__metadata__", ()), parameter.default)
    return any(isinstance(mark, params.Depends) for mark in marks)


def _clone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return another object that runs the same code, so that it may carry another signature."""
    if isinstance(function, FunctionType):
        twin = FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        twin.__kwdefaults__ = function.__kwdefaults__
        twin.__dict__.update(function.__dict__)
        for name in ("__module__", "__qualname__", "__doc__", "__annotations__"):
            setattr(twin, name, getattr(function, name))
        return twin
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return wrapper

    def sync_wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return sync_wrapper
