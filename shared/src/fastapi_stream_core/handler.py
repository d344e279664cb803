"""What a decorated function becomes: itself, with what tests need and the publishers of its result."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast
from weakref import WeakSet

from .errors import SetupError
from .option_type import show

if TYPE_CHECKING:
    from unittest.mock import MagicMock

    from .publisher import Publisher

__all__ = ("Handler", "Registration", "registration")

P = ParamSpec("P")
R = TypeVar("R", covariant=True)

_KEY = "__fastapi_stream__"


class Handler(Protocol[P, R]):
    """A decorated function: calling it is calling the function.

    Attributes:
        mock: under a test broker, called with the decoded body of each message; fresh for each test broker.
    """

    mock: MagicMock
    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    async def wait_called(self, timeout: float = 5.0) -> None:
        """Wait under a test broker until the handler was called, `timeout` seconds at most.

        Raises:
            TimeoutError: it was not called in time.
        """


class Registration(Generic[P, R]):
    """What is known of a decorated function, kept on the function itself.

    Attributes:
        function: the function.
        inner: of the decorated function that this one wraps or binds; its results are results of this one.
        publishers: where its results go, the one nearest to the function first.
        is_handler: whether a subscriber calls it.
    """

    def __init__(self, function: Callable[P, R], inner: Registration[..., Any] | None = None) -> None:
        self.function = function
        self.inner = inner
        self.publishers: list[Publisher] = [] if inner is None else [*inner.publishers]
        self.is_handler = False
        self._outer: WeakSet[Registration[..., Any]] = WeakSet()
        self._called: list[asyncio.Future[None]] = []
        if inner is not None:
            inner._outer.add(self)

    def publish_to(self, publisher: Publisher) -> None:
        """Send its results to a publisher, and so the results of whatever wraps it."""
        self._insert(len(self.publishers), publisher)

    def _insert(self, place: int, publisher: Publisher) -> None:
        self.publishers.insert(place, publisher)
        for outer in self._outer:
            outer._insert(place, publisher)

    @property
    def is_heard(self) -> bool:
        """Whether a subscriber calls it, or something that wraps it."""
        return self.is_handler or any(outer.is_heard for outer in self._outer)

    def begin(self) -> None:
        """Give the function a fresh mock for a test broker."""
        from unittest.mock import MagicMock  # an app never needs it

        self.function.mock = MagicMock(name=getattr(self.function, "__name__", "handler"))  # type: ignore[attr-defined]
        self._called = []

    def end(self) -> None:
        """Forget whoever still waits for a call when the test broker ends."""
        self._called = []

    def record(self, body: Any) -> None:
        """Note one call with a decoded body."""
        mock = getattr(self.function, "mock", None)
        if mock is not None:
            mock(body)
            for waiting in self._called:
                waiting.get_loop().call_soon_threadsafe(_finish, waiting)
            self._called = []

    async def wait_called(self, timeout: float = 5.0) -> None:
        """Wait until the handler was called under the test broker, `timeout` seconds at most."""
        mock = getattr(self.function, "mock", None)
        if mock is not None and mock.called:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._called.append(waiting)
        try:
            await asyncio.wait_for(waiting, timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(
                f"{getattr(self.function, '__name__', 'handler')} was not called within {timeout:g} s"
            ) from None


def _finish(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def registration(function: Callable[P, R]) -> Registration[P, R]:
    """Return what is known of a function, and remember it on the function from now on.

    A bound method or a callable object can't carry attributes: it gets a function of its own around it. What is found
    on an object counts only when it is of this very object: `functools.wraps` copies it to wrappers, and a bound method
    has the attributes of its function.

    Raises:
        SetupError: it is a class, or can't be called.
    """
    if isinstance(function, type) or not callable(function):
        given = f"the class {function.__name__}" if isinstance(function, type) else show(function)
        raise SetupError(
            "handler", f"{given} can't be called with a message", "decorate a function or a callable object"
        )
    known = _found(function)
    if known is not None and known.function is function:
        return cast("Registration[P, R]", known)
    target: Callable[P, R] = function if inspect.isfunction(function) else _as_function(function)
    made = Registration(target, known)
    setattr(target, _KEY, made)
    target.wait_called = made.wait_called  # type: ignore[attr-defined]
    return made


def _found(call: Any) -> Registration[..., Any] | None:
    """Return what is known of a callable, or of the function that it wraps, binds or calls."""
    while call is not None:
        for holder in (call, type(call).__call__):
            known = getattr(holder, _KEY, None)
            if isinstance(known, Registration):
                return known
        call = call.func if isinstance(call, functools.partial) else getattr(call, "__dict__", {}).get("__wrapped__")
    return None


def _as_function(call: Callable[P, R]) -> Callable[P, R]:
    inner: Any = call.func if isinstance(call, functools.partial) else call
    target: Any = inner if inspect.isroutine(inner) else type(inner).__call__
    callee = cast("Callable[..., Any]", call)

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await callee(*args, **kwargs)

    def called(*args: Any, **kwargs: Any) -> Any:
        return callee(*args, **kwargs)

    function: Any = awaited if inspect.iscoroutinefunction(target) else called

    named = inner if inspect.isroutine(inner) else type(inner)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):  # calling one runs nothing of it
        raise SetupError(
            f"handler {named.__name__!r}",
            "it is a generator, and a handler returns its result",
            "use `return`, not `yield`",
        )
    functools.update_wrapper(function, named, updated=())
    function.__dict__.pop("__wrapped__", None)
    function.__signature__ = inspect.signature(call, eval_str=False)
    return cast("Callable[P, R]", function)
