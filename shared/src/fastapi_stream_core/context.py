"""What a handler may ask for besides its payload: values of the context, the message, the broker, a logger."""

# FastAPI reads the annotations of `ContextValue.__call__` without this module's globals: they have to be real objects.

import copy
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from .errors import ContextError, SetupError

if TYPE_CHECKING:
    from .message import StreamMessage

__all__ = ("Context", "ContextRepo", "ContextValue", "Logger")

MESSAGE = "fastapi_stream.message"
"""Key of the message in the scope of its request."""

_MISSING: Any = object()
_SILENT = logging.Logger("fastapi_stream.silent")
_SILENT.disabled = True


class ContextRepo:
    """Values by name: global ones for the whole process, local ones for the current task and what it starts.

    Args:
        values: the first global values.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._globals: dict[str, Any] = dict(values or {})
        self._locals: dict[str, ContextVar[Any]] = {}

    def set_global(self, key: str, value: Any) -> None:
        """Set a value for everybody."""
        self._globals[key] = value

    def reset_global(self, key: str) -> None:
        """Forget a global value; nothing happens when there is none."""
        self._globals.pop(key, None)

    def set_local(self, key: str, value: Any) -> Token[Any]:
        """Set a value for the current task, over the global one; the token takes it back."""
        if key not in self._locals:
            self._locals[key] = ContextVar(key, default=_MISSING)
        return self._locals[key].set(value)

    def reset_local(self, key: str, token: Token[Any]) -> None:
        """Take a local value back."""
        self._locals[key].reset(token)

    def get_local(self, key: str, default: Any = None) -> Any:
        """Return the local value, or `default`."""
        variable = self._locals.get(key)
        value = _MISSING if variable is None else variable.get()
        return default if value is _MISSING else value

    @contextmanager
    def scope(self, key: str, value: Any) -> Iterator[None]:
        """Set a local value for the body of a `with`."""
        token = self.set_local(key, value)
        try:
            yield
        finally:
            self.reset_local(key, token)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the local value, else the global one, else `default`."""
        value = self.get_local(key, _MISSING)
        return self._globals.get(key, default) if value is _MISSING else value

    def resolve(self, name: str) -> Any:
        """Return what a dotted name leads to, by mapping keys and attributes.

        Raises:
            ContextError: a part of it does not exist.
        """
        first, *rest = name.split(".")
        value = self.get(first, _MISSING)
        if value is _MISSING:
            raise ContextError(name, first)
        return _walk(value, rest, name)

    def clear(self) -> None:
        """Forget every value."""
        self._globals.clear()
        self._locals.clear()

    @property
    def context(self) -> dict[str, Any]:
        """All values, local ones over global ones."""
        found = {key: variable.get() for key, variable in self._locals.items()}
        return {**self._globals, **{key: value for key, value in found.items() if value is not _MISSING}}


def _walk(value: Any, rest: list[str], name: str) -> Any:
    for part in rest:
        found = value.get(part, _MISSING) if isinstance(value, Mapping) else getattr(value, part, _MISSING)
        if found is _MISSING:
            raise ContextError(name, part)
        value = found
    return value


def _log_context(message: "StreamMessage") -> dict[str, Any]:
    return {
        "address": message.address,
        "correlation_id": message.correlation_id,
        "message_id": message.message_id,
        "position": message.position,
    }


_OF_SUBSCRIPTION: dict[str, Callable[[Any], Any]] = {
    "app": lambda subscription: subscription.app,
    "broker": lambda subscription: subscription.broker,
    "context": lambda subscription: subscription.context,
    "handler_": lambda subscription: subscription,
    "logger": lambda subscription: subscription.logger or _SILENT,
}


class ContextValue:
    """Resolves one dotted name for a message; FastAPI takes it for an async dependency.

    Args:
        name: the dotted name; empty until the plan knows the parameter's.
        default: what is injected when there is no such value.
        initial: makes a global value when there is none.
    """

    def __init__(self, name: str, default: Any = _MISSING, initial: Callable[[], Any] | None = None) -> None:
        self.name = name
        self.default = default
        self.initial = initial
        self._first, *self._rest = name.split(".")

    def declared(self, name: str, default: Any) -> "ContextValue":
        """Return the value as a parameter declares it: its name and its default where `Context()` has none."""
        if self.name and (self.default is not _MISSING or default is inspect.Parameter.empty):
            return self
        taken = copy.copy(self)
        if not taken.name:
            taken.name = taken._first = name
        if taken.default is _MISSING and default is not inspect.Parameter.empty:
            taken.default = default
        return taken

    def resolve(self, message: "StreamMessage") -> Any:
        """Return the value for a message.

        Raises:
            ContextError: there is none, and no default.
        """
        try:
            return self._find(message)
        except ContextError:
            if self.default is _MISSING:
                raise
            return self.default

    @property
    def is_fixed(self) -> bool:
        """Whether the value is the same whatever a dependency does before."""
        return self._first in _OF_SUBSCRIPTION and not self._rest and type(self) is ContextValue

    def resolver(self) -> "Callable[..., Any]":
        """Return the cheapest callable that resolves as `resolve` does; a fixed one takes a body too, as readers do."""
        if not self.is_fixed:
            return self.resolve
        fetch = _OF_SUBSCRIPTION[self._first]

        def resolved(message: "StreamMessage", body: Any = None) -> Any:
            source = message._source
            value = None if source is None else fetch(source.subscription)
            return self.resolve(message) if value is None else value

        return resolved

    def _find(self, message: "StreamMessage") -> Any:
        subscription = message.subscription
        if self._first == "message":
            value: Any = message
        elif self._first == "log_context":
            value = _log_context(message)
        elif subscription is None:
            raise ContextError(self.name, self._first)
        elif self._first in _OF_SUBSCRIPTION:
            value = _OF_SUBSCRIPTION[self._first](subscription)
            if value is None:
                raise ContextError(self.name, self._first)
        else:
            value = self._of_repository(subscription.context)
        return _walk(value, self._rest, self.name) if self._rest else value

    def _of_repository(self, repository: ContextRepo) -> Any:
        value = repository.get(self._first, _MISSING)
        if value is _MISSING:
            if self.initial is None:
                raise ContextError(self.name, self._first)
            value = self.initial()
            repository.set_global(self._first, value)
        return value

    async def __call__(self, connection: HTTPConnection) -> Any:
        """Return the value for the message of a request, or what an HTTP request gives."""
        message = connection.scope.get(MESSAGE)
        if message is not None:
            return self.resolve(message)
        try:
            return self._of_connection(connection)
        except ContextError:
            if self.default is _MISSING:
                raise
            return self.default

    def _of_connection(self, connection: HTTPConnection) -> Any:
        """Resolve in an HTTP endpoint, where the lifespan's state has the broker."""
        if self._first == "app":
            value = connection.scope["app"]
        else:
            broker = connection.scope.get("state", {}).get("broker")
            if broker is None or self._first in ("message", "handler_", "log_context"):
                raise ContextError(self.name, self._first)
            if self._first == "broker":
                value = broker
            elif self._first == "logger":
                value = _SILENT if broker.logger is None else broker.logger
            elif self._first == "context":
                value = broker.context
            else:
                value = self._of_repository(broker.context)
        return _walk(value, self._rest, self.name)


def Context(name: str = "", *, default: Any = _MISSING, initial: Callable[[], Any] | None = None) -> Any:
    """Inject a value of the context, in a handler or in a dependency.

    `Annotated[str, Context("message.headers.tenant")]`, or as a default. The keys are `message`, `broker`, `app`
    (the FastAPI app), `logger`, `context` (the repository), `handler_` (the subscription), `log_context`, and what
    `router.context.set_global` and `set_local` were given; dots lead on by mapping keys or attributes. In an HTTP
    endpoint `app` is there, and everything that hangs on the broker in the lifespan's state.

    Args:
        name: the dotted name; by default, in handlers and their dependencies, the parameter's own.
        default: what is injected when there is no such value; without it the parameter's default is taken.
        initial: makes a global value when there is none.

    Raises:
        ContextError: when the message is handled: there is no such value and no default.
    """
    if initial is not None and "." in name:
        raise SetupError(f"Context({name!r})", "initial= makes a global value, which has no dots", "use a plain name")
    return Depends(ContextValue(name, default, initial))


Logger = Annotated[logging.Logger, Context("logger")]
"""The broker's logger."""
