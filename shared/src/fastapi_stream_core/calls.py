"""How handlers and dependencies are called: sync ones in threads, yield dependencies entered and left."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from anyio import CancelScope, CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

__all__ = ("Exit", "generator_in_thread", "in_thread", "leave", "name_of", "sync_of", "visit_thread")

THREADS = 40
"""Sync handlers and dependencies that run at the same time in one event loop; as many as AnyIO gives to HTTP."""

_SYNC = "__fastapi_stream_sync__"

Exit = tuple[bool, AsyncGenerator[Any, None]]
"""A yield dependency that was entered, and whether its scope is "function"."""

_limiter: RunVar[CapacityLimiter] = RunVar("fastapi_stream_threads")


def _threads() -> CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(THREADS)
        _limiter.set(limiter)
        return limiter


def in_thread(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async twin of a sync callable. It runs in a thread, in a copy of the context."""

    async def threaded(*positional: Any, **arguments: Any) -> Any:
        result = await _called_in_thread(partial(call, *positional, **arguments))
        # A wrapper that only hands on a coroutine, or a partial of an async function, looks like a sync callable.
        return await result if inspect.iscoroutine(result) else result

    threaded.__dict__[_SYNC] = call
    return threaded


def sync_of(call: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return the sync callable of an async twin; None when there is none."""
    return getattr(call, _SYNC, None)


async def visit_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a thread, in a copy of the context."""
    return await run_sync(call, *arguments, limiter=_threads())


async def _called_in_thread(call: Callable[[], Any]) -> Any:
    """Call in a thread, and raise here what it raises: the frame that waits for a thread holds what came from there."""
    result, error = await run_sync(_outcome, call, limiter=_threads())
    if error is None:
        return result
    try:
        raise error
    finally:
        error = None


def _outcome(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:
        return None, error


def generator_in_thread(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async twin of a sync generator function; both halves run in threads."""
    manager = contextmanager(call)

    async def threaded(**arguments: Any) -> AsyncGenerator[Any, None]:
        held = manager(**arguments)
        value = await _called_in_thread(held.__enter__)
        try:
            yield value
        except BaseException as error:
            if not await _exit(held, error):
                raise
        else:
            await _exit(held, None)

    return threaded


async def _exit(held: Any, error: BaseException | None) -> bool:
    # A limiter of its own: an exit that waits for a thread while all threads wait for what it frees would never end.
    given = (None, None, None) if error is None else (type(error), error, error.__traceback__)
    swallowed = False
    with CancelScope(shield=True):
        swallowed = bool(await run_sync(held.__exit__, *given, limiter=CapacityLimiter(1)))
    return swallowed


async def leave(exits: list[Exit], error: BaseException | None) -> None:
    """Leave yield dependencies: scope "function" before scope "request", the last one entered first.

    Args:
        exits: in the order in which they were entered.
        error: what the handler, or a dependency after them, raised; each exit sees it until one swallows it.

    Raises:
        BaseException: what an exit raised, other than `error`.
    """
    if len(exits) > 1:
        exits.sort(key=_is_function_scope)
    raised = error
    while exits:
        generator = exits.pop()[1]
        try:
            if raised is not None:
                # Nothing but the exit of a context manager: the generator was entered already.
                if await asynccontextmanager(partial(_itself, generator))().__aexit__(
                    type(raised), raised, raised.__traceback__
                ):
                    raised = None
                continue
            await generator.__anext__()
        except StopAsyncIteration:
            continue
        except BaseException as other:
            raised = other
        else:
            await generator.aclose()
            raised = RuntimeError(f"{name_of(generator)} did not stop after its yield")
    if raised is not None and raised is not error:
        raise raised


def name_of(generator: AsyncGenerator[Any, None]) -> str:
    """Return the name of a dependency for an error."""
    return getattr(generator, "__qualname__", "a dependency")


def _is_function_scope(entered: Exit) -> bool:
    return entered[0]


def _itself(generator: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    return generator
