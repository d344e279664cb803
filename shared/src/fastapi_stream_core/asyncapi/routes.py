"""The routes of the documentation: the page, the document as JSON and YAML, and the files of the page."""

from __future__ import annotations

import hashlib
import html
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from fastapi import HTTPException, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import Match, Mount

from .registry import docs_of, is_by_lifespan, is_document_of, register, routers_in, routers_of
from .specification import specification_of
from .visibility import Visibility

if TYPE_CHECKING:
    from starlette.types import Scope

    from ..router import StreamRouter

__all__ = ("Docs", "add_docs_routes", "mount")

_STATIC = {
    "asyncapi.js": "text/javascript; charset=utf-8",
    "asyncapi.css": "text/css; charset=utf-8",
    "init.js": "text/javascript; charset=utf-8",
}
_WEEK = "public, max-age=604800"
_FOLLOWS = {"json": ("openapi_url",), "yaml": ("openapi_url",)}
"""What of an app closes a document; the page and its files follow `docs_url` too."""


class _Rendered(NamedTuple):
    """One document in all its forms, with what it was made from."""

    app: weakref.ref[Any]
    made_from: tuple[Any, ...]
    title: str
    json: bytes
    yaml: bytes


class Docs:
    """The endpoints of one router. Every router of an app shows the same document, that of the whole app.

    Unless `schema_url` was given, the page is there as long as the app's `docs_url` is, and the document as long as its
    `openapi_url`.

    They are sync: a large document is made in the threadpool, not on the event loop.
    """

    def __init__(self, router: StreamRouter[Any], schema_url: str) -> None:
        path = "/" + schema_url.strip("/")
        base = "/asyncapi" if path == "/" else path
        self.router = router
        self.name = base.rpartition("/")[2]
        self.paths: dict[str, Callable[..., Response]] = {
            path: self.page,
            f"{base}.json": self.json,
            f"{base}.yaml": self.yaml,
            f"{base}/static/{{file}}": self.static,
        }
        self._lock = threading.Lock()
        self._rendered: _Rendered | None = None

    def page(self, request: Request) -> Response:
        """The page; everything it loads is beside it, by relative addresses."""
        here = quote(request.url.path.rpartition("/")[2] or self.name, safe="")
        head, tail = _template().split("<!--title-->")
        title = html.escape(self._render(request).title)
        return _answer(
            request, (head + title + tail.replace("{here}", html.escape(here))).encode(), "text/html; charset=utf-8"
        )

    def json(self, request: Request) -> Response:
        """The document as JSON."""
        return _answer(request, self._render(request).json, "application/json")

    def yaml(self, request: Request) -> Response:
        """The document as YAML."""
        return _answer(request, self._render(request).yaml, "application/yaml")

    def static(self, request: Request, file: str) -> Response:
        """One file of the page."""
        if file not in _STATIC:
            raise HTTPException(404)
        content, packed = _file(file)
        headers = {"cache-control": _WEEK, "vary": "accept-encoding"} if packed else {"cache-control": _WEEK}
        if packed and _accepts_gzip(request):
            headers["content-encoding"] = "gzip"
        elif packed:
            import gzip  # few clients need it

            content = gzip.decompress(content)
        return _answer(request, content, _STATIC[file], headers)

    def is_open(self, app: Any, endpoint: str) -> bool:
        """Tell whether an app serves one of the endpoints.

        It does not when the router is hidden, or when the app has closed the documents that this one follows.
        """
        visibility = Visibility(app)
        given = any(home.is_schema_url_given for home in visibility.upwards(self.router))
        follows = _FOLLOWS.get(endpoint, ("docs_url", "openapi_url"))
        if not given and not all(getattr(app, name, "") is not None for name in follows):
            return False
        return visibility.serves(self.router)

    def _render(self, request: Request) -> _Rendered:
        app = request.scope.get("app", request.scope.get("router"))
        is_included = not any(docs_of(route) is self and is_by_lifespan(route) for route in app.routes)
        register(app, self.router, is_included=is_included)
        for router in routers_of(app):
            register(app, router, is_included=False)
        with self._lock:
            made_from = _fingerprint(app)
            known = self._rendered
            if known is None or known.app() is not app or known.made_from != made_from:
                specification = specification_of(app)
                title = specification.to_jsonable()["info"]["title"]
                texts = specification.to_json(), specification.to_yaml()
                known = _Rendered(weakref.ref(app), made_from, title, *(text.encode() for text in texts))
                self._rendered = known
            return known


class _DocsRoute(APIRoute):
    """Matches only what its app serves: the page of another router at the same place then gets the request.

    Attributes:
        is_by_lifespan: whether it is there since the app runs the lifespan of a router that it does not include.
    """

    is_by_lifespan = False

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        docs = docs_of(self)
        if match is not Match.NONE and docs is not None:
            app = scope.get("app", scope.get("router"))
            if not (_is_at_home(self, app) and docs.is_open(app, self.endpoint.__name__)):
                return Match.NONE, {}
        return match, child_scope


def _route_class(base: type[APIRoute], *, by_lifespan: bool) -> type[APIRoute]:
    """Return the class of the routes of a router whose other routes are of the class `base`."""
    return type("DocsRoute", (_DocsRoute, base), {"is_by_lifespan": by_lifespan})


def _is_at_home(route: Any, app: Any) -> bool:
    """Tell whether an app that has a route of a documentation has a right to it."""
    docs = docs_of(route)
    return docs is None or not is_by_lifespan(route) or is_document_of(app, docs.router)


def add_docs_routes(router: StreamRouter[Any], schema_url: str) -> None:
    """Add the routes of the documentation to a router, under its prefix and behind its dependencies."""
    docs = Docs(router, schema_url)
    route_class = _route_class(router.route_class, by_lifespan=False)
    for path, endpoint in docs.paths.items():
        router.add_api_route(
            path,
            endpoint,
            methods=["GET", "HEAD"],
            include_in_schema=False,
            response_model=None,
            route_class_override=route_class,
        )


def mount(app: Any, router: StreamRouter[Any]) -> None:
    """Add the routes of a router's documentation to an app that runs its lifespan; once.

    They answer as long as nobody includes the router.
    """
    documented = [docs.router for route in app.routes if (docs := docs_of(route)) is not None]
    documented += [known for known, _ in routers_in(app.routes)]
    if not is_document_of(app, router) or any(known is router for known in documented):
        return
    own = [route for route in router.routes if (docs := docs_of(route)) is not None and docs.router is router]
    visibility = Visibility(app)
    others = [(route, docs_of(route)) for route in app.routes]
    taken = {
        getattr(route, "path", None)
        for route, docs in others
        if docs is None or (_is_at_home(route, app) and visibility.serves(docs.router))
    }
    for route in own:
        path: str = getattr(route, "path")  # noqa: B009  (`BaseRoute` declares none of it)
        if path in taken:
            continue
        dependencies = getattr(route, "dependencies", ())
        endpoint = getattr(route, "endpoint")  # noqa: B009  (as above)
        app.router.add_api_route(
            path,
            endpoint,
            methods=["GET", "HEAD"],
            include_in_schema=False,
            response_model=None,
            dependencies=dependencies,
            route_class_override=_route_class(app.router.route_class, by_lifespan=True),
        )
        _before_mounts(app.router.routes)


def _before_mounts(routes: list[Any]) -> None:
    """Move the last route before an app that is mounted at the root, which would take every request."""
    for index, route in enumerate(routes):
        if isinstance(route, Mount) and route.path == "":
            routes.insert(index, routes.pop())
            return


def _fingerprint(app: Any) -> tuple[Any, ...]:
    """Return what changes when the document does, without keeping anything alive."""
    names = ("title", "version", "description", "summary", "terms_of_service", "contact", "license_info")
    about = [getattr(app, name, None) for name in names]
    parts: list[Any] = [repr(about)]
    try:
        visibility = Visibility(app)
        for router in routers_of(app):
            parts += _declarations(router)
            parts += [visibility.serves(one) for one in router.family()]
    except Exception:
        parts.append(object())
    return tuple(parts)


def _declarations(router: StreamRouter[Any]) -> list[Any]:
    parts: list[Any] = [id(router.schema), repr(router.schema.given)]
    for broker in (router.broker, *router.schema.brokers):
        subscribers = [(id(one), id(one.plan) if one.handlers else 0, one.tags) for one in broker.subscribers]
        publishers = [(id(one), tuple(map(id, one.handlers))) for one in broker.publishers]
        parts += [id(broker), repr(broker.servers()), subscribers, publishers]
    return parts


def _answer(request: Request, content: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with content, or with 304 when the client has it."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
    headers = {"cache-control": "no-cache", **(headers or {}), "etag": tag}
    if tag in known or "*" in known:
        return Response(None, 304, headers)
    return Response(content, 200, headers, media_type)


def _accepts_gzip(request: Request) -> bool:
    for part in request.headers.get("accept-encoding", "").split(","):
        coding, _, quality = part.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return quality.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


@cache
def _file(name: str) -> tuple[bytes, bool]:
    """Return the bytes of a file of the page, and whether they are gzipped."""
    from importlib.resources import files  # only the page needs it

    folder = files(__name__.rpartition(".")[0]) / "static"
    packed = folder / f"{name}.gz"
    return (packed.read_bytes(), True) if packed.is_file() else ((folder / name).read_bytes(), False)


@cache
def _template() -> str:
    """Return the page; the addresses of its files change with their content."""
    text = _file("page.html")[0].decode()
    for name in _STATIC:
        text = text.replace(f"/{name}", f"/{name}?v={hashlib.sha256(_file(name)[0]).hexdigest()[:12]}")
    return text
