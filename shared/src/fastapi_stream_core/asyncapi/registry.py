"""Which stream routers an app knows: those that are included in it, and those whose lifespan it runs.

Those that it includes are in its document, and those that it only runs as long as nobody includes them: where a router
is included it is said who may read of it.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..app_compat import is_included_shown

if TYPE_CHECKING:
    from ..router import StreamRouter
    from .routes import Docs

__all__ = (
    "docs_of",
    "is_by_lifespan",
    "is_document_of",
    "known_routers",
    "register",
    "routers_in",
    "routers_of",
    "runs",
)


class _Known(NamedTuple):
    """A router that came to an app: by its inclusion, or by its lifespan alone."""

    router: weakref.ref[StreamRouter[Any]]
    is_included: bool


_registered: weakref.WeakKeyDictionary[Any, list[_Known]] = weakref.WeakKeyDictionary()


def register(app: Any, router: StreamRouter[Any], *, is_included: bool) -> None:
    """Note that a router came to an app; neither is kept alive by it. Noting it again does nothing."""
    known = [one for one in _registered.get(app, ()) if one.router() is not None]
    if not any(one.router() is router for one in known):
        known.append(_Known(weakref.ref(router), is_included))
    elif is_included:
        known = [one._replace(is_included=True) if one.router() is router else one for one in known]
    _registered[app] = known
    if is_document_of(app, router):
        for one in router.family():
            one.schema.bind(app)


def runs(app: Any, router: StreamRouter[Any]) -> bool:
    """Tell whether an app runs the lifespan of a router: by the router's inclusion, or as the app's own."""
    return any(one.router() is router for one in _registered.get(app, ())) or _includes(app, router)


def is_document_of(app: Any, router: StreamRouter[Any]) -> bool:
    """Tell whether a router that came to an app is in the app's document.

    It is not when only its lifespan came, and it is included elsewhere.
    """
    if any(one.router() is router and one.is_included for one in _registered.get(app, ())):
        return True
    return _includes(app, router) or not (router.is_included or _is_mounted(app, router))


def _includes(app: Any, router: StreamRouter[Any]) -> bool:
    return any(one is router for one, _ in routers_in(app.routes))


def _is_mounted(app: Any, router: StreamRouter[Any]) -> bool:
    """Tell whether an app below includes the router: known also where an inclusion tells nobody."""
    waiting, seen = [app], set()
    while waiting:
        at = waiting.pop()
        if id(at) not in seen:
            seen.add(id(at))
            if any(one.root is router for one, _ in routers_in(at.routes)):
                return True
            waiting += [route for route in at.routes if getattr(route, "routes", None)]
    return False


def routers_of(app: Any) -> list[StreamRouter[Any]]:
    """Return the outermost stream routers of an app in the order in which they came to it.

    Those of which the app's document shows nothing are left out.
    """
    from .visibility import Visibility

    visibility = Visibility(app)
    return [router for router in known_routers(app) if any(visibility.serves(one) for one in router.family())]


def known_routers(app: Any) -> list[StreamRouter[Any]]:
    """Return the stream routers of an app's document, shown or not, in the order in which they came to it.

    Of routers that are nested, the outermost one of those that the app includes.
    """
    registered = [one.router() for one in _registered.get(app, ())]
    came = [router for router in registered if router is not None and is_document_of(app, router)]
    found = {id(router): router for router in (*came, *(one for one, _ in routers_in(app.routes)))}
    return [router for router in found.values() if not any(id(outer) in found for outer in _around(router))]


def _around(router: StreamRouter[Any]) -> Iterator[StreamRouter[Any]]:
    while (outer := router.parent) is not None:
        yield outer
        router = outer


def routers_in(routes: Iterable[Any], is_shown: bool = True) -> Iterator[tuple[StreamRouter[Any], bool]]:
    """Yield the stream routers that some routes come from, the same one more than once, and whether they are shown.

    FastAPI copies the routes of an included router up to 0.136 and keeps the router itself from 0.137 on; the
    endpoints of the documentation know their router either way, and a copied router notes itself how it is included.
    """
    from ..router import StreamRouter

    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            is_shown_here = is_shown and is_included_shown(route)
            if isinstance(included, StreamRouter):
                yield included, is_shown_here
            yield from routers_in(included.routes, is_shown_here)
        elif (docs := docs_of(route)) is not None and not is_by_lifespan(route):
            yield docs.router, is_shown and not docs.router.is_copied_hidden


def docs_of(route: Any) -> Docs | None:
    """Return the documentation that a route belongs to."""
    from .routes import Docs

    endpoint = inspect.unwrap(getattr(route, "endpoint", register))
    owner = getattr(endpoint, "__self__", None)
    return owner if isinstance(owner, Docs) else None


def is_by_lifespan(route: Any) -> bool:
    """Tell whether a route of a documentation is there since its app runs the lifespan of the router."""
    return bool(getattr(route, "is_by_lifespan", False))
