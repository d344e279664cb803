"""Which stream routers belong to an app: those that are included in it, and those whose lifespan it runs."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..app_compat import is_included_shown

if TYPE_CHECKING:
    from ..router import StreamRouter
    from .routes import Docs

__all__ = ("docs_of", "known_routers", "register", "routers_in", "routers_of")

_registered: weakref.WeakKeyDictionary[Any, list[weakref.ref[StreamRouter[Any]]]] = weakref.WeakKeyDictionary()


def register(app: Any, router: StreamRouter[Any]) -> None:
    """Note that a router belongs to an app; neither is kept alive by it. Noting it again does nothing."""
    known = _registered.setdefault(app, [])
    known[:] = [one for one in known if one() is not None]
    if not any(one() is router for one in known):
        known.append(weakref.ref(router))
    for one in router.family():
        one.schema.bind(app)


def routers_of(app: Any) -> list[StreamRouter[Any]]:
    """Return the outermost stream routers of an app in the order in which they came to it.

    Those of which the app's document shows nothing are left out.
    """
    from .visibility import Visibility

    visibility = Visibility(app)
    return [router for router in known_routers(app) if any(visibility.serves(one) for one in router.family())]


def known_routers(app: Any) -> list[StreamRouter[Any]]:
    """Return the outermost stream routers of an app, shown or not, in the order in which they came to it."""
    found: dict[int, StreamRouter[Any]] = {}
    registered = [one() for one in _registered.get(app, ())]
    for router in (*registered, *(one for one, _ in routers_in(app.routes))):
        if router is not None:
            found.setdefault(id(router.root), router.root)
    return list(found.values())


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
        elif (docs := docs_of(route)) is not None:
            yield docs.router, is_shown and not docs.router.is_copied_hidden


def docs_of(route: Any) -> Docs | None:
    """Return the documentation that a route belongs to."""
    from .routes import Docs

    endpoint = inspect.unwrap(getattr(route, "endpoint", register))
    owner = getattr(endpoint, "__self__", None)
    return owner if isinstance(owner, Docs) else None
