"""Start and stop of a router with its app: hooks, state, re-entry."""

from __future__ import annotations

import functools
import inspect
from collections import ChainMap
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from anyio.to_thread import run_sync
from fastapi import FastAPI

from .app_compat import lifespan_state
from .app_life import app_life_of
from .errors import SetupError

if TYPE_CHECKING:
    from .router import StreamRouter

__all__ = ("Hook", "check_hook", "run_lifespan", "use")

Hook = Callable[..., Any]


def check_hook(hook: Hook, decorator: str) -> None:
    """Refuse what would never run as a hook: calling a function with `yield` only makes a generator.

    Raises:
        SetupError: it has one, itself or below `asynccontextmanager`.
    """
    called = hook
    while isinstance(called, functools.partial):
        called = called.func
    if not inspect.isroutine(called) and not isinstance(called, type):
        called = type(called).__call__
    if not inspect.iscoroutinefunction(called) and _yields(inspect.unwrap(called)):
        raise SetupError(
            decorator,
            f"{getattr(hook, '__name__', type(hook).__name__)!r} has a `yield`, so that calling it runs nothing of it",
            "give what comes before the `yield` to after_startup and what follows to on_broker_shutdown,"
            " or the whole as lifespan= to the router",
        )


def _yields(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


async def run_hook(hook: Hook, app: Any) -> Any:
    """Run one hook, sync ones in the threadpool, with the app if it takes a parameter."""
    arguments = (app,) if _takes_argument(hook) else ()
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(type(hook).__call__):
        return await hook(*arguments)
    result = await run_sync(lambda: hook(*arguments))
    return await result if inspect.isawaitable(result) else result


def _takes_argument(hook: Hook) -> bool:
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return any(parameter.kind in positional for parameter in inspect.signature(hook).parameters.values())


@asynccontextmanager
async def run_lifespan(router: StreamRouter[Any], app: Any) -> AsyncIterator[dict[str, Any]]:
    """Run the life of an outermost router: custom lifespans around the broker, hooks inside.

    Yields the state: the broker, what custom lifespans yielded, what the hooks returned.
    """
    broker = router.broker
    async with AsyncExitStack() as stack:
        state: dict[str, Any] = {}
        for one in router.family():
            for lifespan in one.lifespans():
                state.update(await stack.enter_async_context(lifespan(app)) or {})
        state = {"broker": broker, **state}
        await stack.enter_async_context(use(router, app, state))
        stack.push_async_callback(_run_shutdown_hooks, router, app)
        for one in router.family():
            for hook in one.startup_hooks:
                result = await run_hook(hook, app)
                if isinstance(result, Mapping):
                    state.update(result)
        yield state


@asynccontextmanager
async def use(router: StreamRouter[Any], app: Any, state: dict[str, Any]) -> AsyncIterator[None]:
    """Have the broker of an outermost router started for a lifespan.

    Args:
        state: what this lifespan gives to the state of the app.
    """
    life = router.broker._life
    user = await life.enter(app_life_of(app) if isinstance(app, FastAPI) else None, _shared(router, app, state))
    try:
        yield
    finally:
        await life.leave(user)


def _shared(router: StreamRouter[Any], app: Any, state: dict[str, Any]) -> Mapping[str, Any]:
    """Return the state of messages until the app has started, and of an app whose server is not observed."""
    own = state if router.setup_state else {}
    if not isinstance(app, FastAPI) or app_life_of(app).is_starting():
        return own
    whole = lifespan_state(app)
    return own if whole is None else ChainMap(cast("dict[str, Any]", whole), own)


async def _run_shutdown_hooks(router: StreamRouter[Any], app: Any) -> None:
    """Run every shutdown hook, also after one that raised; the first error is raised at the end."""
    first: BaseException | None = None
    for one in router.family():
        for hook in one.shutdown_hooks:
            try:
                await run_hook(hook, app)
            except Exception as error:
                first = first or error
    if first is not None:
        raise first
