"""A context for each message, as each request has one, and no task for it."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from types import CoroutineType, coroutine
from typing import Any

__all__ = ("as_coroutine", "context_for", "in_context", "is_within", "rest_in_context")

_handled_by: ContextVar[frozenset[object]] = ContextVar("fastapi_stream_handled_by", default=frozenset())


def context_for(broker: object) -> Context:
    """Return a copy of the current context from which the contexts of a broker's messages are copied."""
    context = copy_context()
    context.run(lambda: _handled_by.set(_handled_by.get() | {broker}))
    return context


def is_within(broker: object) -> bool:
    """Tell whether this runs while the broker handles a message: in a handler, or in what one started."""
    return broker in _handled_by.get()


@coroutine
def rest_in_context(context: Context, begun: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine, every step of which runs in a context that is not the task's.

    This stands between the task and the coroutine: what the coroutine waits for goes to the task as it is, and what
    the task sends or throws goes back. So the coroutine's task stays the current one, with its cancellation, its
    timeouts and its cancel scopes; only variables that it sets end with the context.

    Args:
        context: where the coroutine runs; nobody else is in it meanwhile.
        begun: the coroutine, begun in the context.
        waits_for: what the first step gave: what the coroutine waits for.

    Returns:
        What the coroutine returns.
    """
    run, send = context.run, begun.send
    thrown: BaseException | None = None
    value: Any = None
    while True:
        try:
            value = yield waits_for
        except GeneratorExit:
            run(begun.close)
            raise
        except BaseException as error:
            thrown = error
        waits_for = None  # a future that failed would hold the error whose traceback holds this frame
        try:
            # Not within the `except`: whatever the coroutine raises later would seem to come from there.
            waits_for = run(send, value) if thrown is None else run(begun.throw, thrown)
        except StopIteration as stop:
            return stop.value
        finally:
            thrown = None


async def in_context(context: Context, awaitable: Awaitable[Any]) -> Any:
    """Await something in a context that is not the task's."""
    begun = as_coroutine(awaitable)
    try:
        waits_for = context.run(begun.send, None)
    except StopIteration as stop:  # it did not wait for anything
        return stop.value
    return await rest_in_context(context, begun, waits_for)


def as_coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that awaits anything: a handler may be marked as one and return a future."""
    return awaitable if type(awaitable) is CoroutineType else _awaited(awaitable)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
