"""What of FastAPI's and Starlette's apps and routers is not public, in one place; chosen by what is there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter

__all__ = ("IncludeAware", "Observer", "application_of", "is_included_shown", "lifespan_state", "observe_lifespan")

# Inclusion.


def application_of(parent: APIRouter) -> FastAPI | None:
    """Return the app whose own router this is."""
    provider = parent.dependency_overrides_provider
    return provider if isinstance(provider, FastAPI) else None


def is_included_shown(route: Any) -> bool:
    """Tell whether a router that FastAPI keeps among the routes was included with `include_in_schema=True`."""
    return bool(getattr(getattr(route, "include_context", None), "include_in_schema", True))


class IncludeAware(APIRouter):
    """A router that learns who includes it, before any lifespan.

    FastAPI since 0.137 asks the included router whether it contains the including one, through however many
    routers lie between. Before that it copied the included routes into the including router: a route of ours that
    never matches sees the app then. Limits: not with `python -O` on 0.137 and later, where the question is an
    assertion; not when a plain `APIRouter` that is in the app already includes this router afterwards (FastAPI
    itself does not run its lifespan then). In both cases the lifespan is the first to know the app.

    Attributes:
        is_copied_hidden: whether the copies in an app are not to be shown; where FastAPI keeps the router itself,
            `is_included_shown` knows it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.is_copied_hidden = False
        if not hasattr(APIRouter, "_contains_router"):
            self.routes.append(_marker(self)("/fastapi-stream-marker", _nothing))

    def included_in(self, parent: APIRouter) -> None:
        """Take note of a router that includes this one, directly or with others between; may come repeatedly."""

    def _contains_router(self, router: APIRouter, seen: set[int] | None = None) -> bool:
        contains: bool = super()._contains_router(router, seen)
        if not contains:
            self.included_in(router)
        return contains


# The lifespan.


class Observer(Protocol):
    """Who is told of every lifespan of an app.

    `begun` when the server starts the app, `completed` with the state that it gives to requests, `ending` when it asks
    for the end, `ended` when nothing of the lifespan goes on.
    """

    def begun(self) -> None: ...

    def completed(self, state: Mapping[str, Any]) -> None: ...

    def ending(self) -> None: ...

    def ended(self) -> None: ...


def observe_lifespan(app: FastAPI, observer: Observer) -> None:
    """Have every lifespan of an app told, as its server sees it.

    The lifespan is observed where the server calls it: there it is known what all lifespans together yielded, those
    included later and those around the app's own too.
    """
    router = app.router
    run = router.lifespan

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        async def tell(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                observer.completed(scope.get("state", {}))
            await send(message)

        async def hear() -> Any:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                observer.ending()
            return message

        observer.begun()
        try:
            await run(scope, hear, tell)
        finally:
            observer.ended()

    router.lifespan = lifespan  # type: ignore[method-assign]


def lifespan_state(app: FastAPI) -> Mapping[str, Any] | None:
    """Return the state of the lifespan that runs right now, which fills when the app's own has yielded.

    For an app that nobody knew of before its lifespan began. Its server handed the state to a call that is still on
    the stack, and to nobody else; None when there is no such call.
    """
    frame = inspect.currentframe()
    while frame is not None:
        scope = frame.f_locals.get("scope") if frame.f_code.co_name == "lifespan" else None
        if isinstance(scope, dict) and scope.get("type") == "lifespan" and scope.get("app") is app:
            state = scope.get("state")
            return state if isinstance(state, Mapping) else None
        frame = frame.f_back
    return None


async def _nothing() -> None:
    """Stand for no endpoint."""


def _marker(owner: IncludeAware) -> type[APIRoute]:
    class Marker(APIRoute):
        """Matches nothing; its copies tell the owner which app they were made for."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.path_regex = re.compile(r"(?!)")
            provider = options.get("dependency_overrides_provider")
            if isinstance(provider, FastAPI):
                owner.is_copied_hidden = not self.include_in_schema
                self.include_in_schema = False  # nothing of it is in OpenAPI
                owner.included_in(provider.router)

    return Marker
