"""Where the documentation is served, and how."""

import gc
import gzip
import os
import re
import subprocess
import sys
import time
import weakref
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
import yaml
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from fastapi_stream_core.asyncapi import AsyncAPI
from pydantic import BaseModel
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router

from asyncapi_check import check
from asyncapi_toy import OtherRouter, ToyRouter


class Order(BaseModel):
    id: int


def toy(name: str = "orders", kind: Any = ToyRouter, **options: Any) -> Any:
    router = kind(**options)

    @router.subscriber(name)
    async def handle(order: Order) -> None: ...

    return router


def urls(page: str) -> list[str]:
    return re.findall(r'(?:href|src|data-schema-url)="(?!data:)([^"]*)"', page)


def follow(client: TestClient, path: str) -> dict[str, Any]:
    """Load a page and everything on it, as a browser does; return the document."""
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.text)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    found = {}
    for url in urls(answer.text):
        assert not re.match(r"\w+:|/", url), f"{url} is not relative"
        loaded = client.get(str(answer.url.join(url)))
        assert loaded.status_code == 200, url
        if ".json" in url:
            found = loaded.json()
    check(found)
    return found


def test_without_a_lifespan() -> None:
    app = FastAPI(title="Shop")
    app.include_router(toy())
    client = TestClient(app)
    found = follow(client, "/asyncapi")
    assert found["info"]["title"] == "Shop"
    assert list(found["channels"]) == ["orders"]
    answer = client.get("/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    answer = client.get("/asyncapi.yaml")
    assert answer.headers["content-type"].partition(";")[0] == "application/yaml"
    assert yaml.safe_load(answer.text) == found
    assert client.head("/asyncapi").status_code == 200
    assert client.get("/asyncapi/static/nothing.js").status_code == 404
    assert client.get("/asyncapi/static/..%2f__init__.py").status_code == 404


def test_with_the_lifespan_alone() -> None:
    router = toy(prefix="/v1")
    app = FastAPI(lifespan=router.lifespan_context)
    for _ in range(3):
        with TestClient(app) as client:
            assert list(follow(client, "/v1/asyncapi")["channels"]) == ["orders"]
    assert len([route for route in app.routes if getattr(route, "path", "").endswith("/asyncapi.json")]) == 1


def test_with_lifespan_and_inclusion() -> None:
    router = toy()
    app = FastAPI(lifespan=router.lifespan_context)
    app.include_router(router)
    before = len(app.routes)
    for _ in range(2):
        with TestClient(app) as client:
            follow(client, "/asyncapi")
    assert len(app.routes) == before


def test_before_an_app_at_the_root() -> None:
    router = toy()
    app = FastAPI(lifespan=router.lifespan_context)
    app.mount("/", Router([Route("/{path:path}", lambda request: PlainTextResponse("everything"))]))
    with TestClient(app) as client:
        follow(client, "/asyncapi")
        assert client.get("/other").text == "everything"


@pytest.mark.parametrize("root_path", ["", "/behind/proxy"])
def test_prefixes(root_path: str) -> None:
    router, outer, mounted = toy(prefix="/r", schema_url="/docs/events"), APIRouter(prefix="/o"), FastAPI()
    outer.include_router(router, prefix="/p")
    mounted.include_router(outer, prefix="/m")
    app = FastAPI()
    app.mount("/sub", mounted)
    assert list(follow(TestClient(app, root_path=root_path), f"{root_path}/sub/m/o/p/r/docs/events")["channels"]) == [
        "orders"
    ]


@pytest.mark.parametrize(
    ("schema_url", "page", "document"),
    [
        ("/", "/", "/asyncapi.json"),
        ("events", "/events", "/events.json"),
        ("/a/b/", "/a/b", "/a/b.json"),
        ("/{tenant}/docs", "/a:b&c/docs", "/x/docs.json"),
    ],
)
def test_schema_urls(schema_url: str, page: str, document: str) -> None:
    app = FastAPI()
    app.include_router(toy(schema_url=schema_url))
    client = TestClient(app)
    follow(client, page)
    assert client.get(document).status_code == 200


@pytest.mark.parametrize("options", [{"schema_url": None}, {"include_in_schema": False}])
def test_switched_off(options: dict[str, Any]) -> None:
    router = toy(**options)
    app = FastAPI(lifespan=router.lifespan_context)
    app.include_router(router)
    with TestClient(app) as client:
        for path in ("/asyncapi", "/asyncapi.json", "/asyncapi.yaml", "/asyncapi/static/init.js"):
            assert client.get(path).status_code == 404


PAGES = ("/asyncapi", "/asyncapi/static/init.js")
DOCUMENTS = ("/asyncapi.json", "/asyncapi.yaml")


def statuses(app: FastAPI, *paths: str) -> list[int]:
    client = TestClient(app)
    return [client.get(path).status_code for path in paths]


def test_a_nested_router_is_as_silent_as_the_one_above() -> None:
    outer, inner = ToyRouter(schema_url=None), toy("inner")
    middle = toy("middle")
    middle.include_router(inner)
    outer.include_router(middle)
    app = FastAPI()
    app.include_router(outer)
    assert statuses(app, *PAGES, *DOCUMENTS) == [404] * 4
    assert list(outer.schema.to_specification().to_jsonable()["channels"]) == ["middle", "inner"]
    other, said = FastAPI(), toy("said", schema_url="/said")
    outer.include_router(said)
    other.include_router(outer)
    assert statuses(other, *PAGES, *DOCUMENTS) == [404] * 4
    assert list(follow(TestClient(other), "/said")["channels"]) == ["said"]


@pytest.mark.parametrize("way", ["app", "plain", "stream", "plain in app"])
def test_what_is_included_hidden_is_hidden(way: str) -> None:
    hidden, shown = toy("hidden"), toy("shown", schema_url="/shown")
    app = FastAPI()
    if way == "app":
        app.include_router(hidden, include_in_schema=False)
    elif way == "plain":
        plain = APIRouter()
        plain.include_router(hidden, include_in_schema=False)
        app.include_router(plain)
    elif way == "stream":
        outer = ToyRouter(schema_url="/outer")
        outer.include_router(hidden, include_in_schema=False)
        app.include_router(outer)
    else:
        plain = APIRouter()
        plain.include_router(hidden)
        app.include_router(plain, include_in_schema=False)
    app.include_router(shown)
    assert statuses(app, *PAGES, *DOCUMENTS) == [404] * 4
    assert list(follow(TestClient(app), "/shown")["channels"]) == ["shown"]
    assert app.openapi()["paths"] == {}


def test_below_a_hidden_inclusion_nothing_is_shown() -> None:
    outer, middle, inner = toy("outer"), toy("middle", prefix="/m"), toy("inner", prefix="/i", schema_url="/inner")
    middle.include_router(inner)
    outer.include_router(middle, include_in_schema=False)
    app = FastAPI()
    app.include_router(outer)
    assert list(follow(TestClient(app), "/asyncapi")["channels"]) == ["outer"]
    assert statuses(app, "/m/asyncapi", "/m/asyncapi.json", "/m/i/inner", "/m/i/inner.json") == [404] * 4


def test_a_router_in_a_plain_one_is_as_silent_as_the_stream_router_around_both() -> None:
    """Also between a router that says where its page is and one that says nowhere, the nearest counts."""
    for nearest, status in ((None, 404), ("/asyncapi", 200)):
        outer, middle, inner = ToyRouter(schema_url=None), ToyRouter(schema_url=nearest), toy("inner")
        for around, router in ((middle, inner), (outer, middle)):
            plain = APIRouter()
            plain.include_router(router)
            around.include_router(plain)
        app, shown = FastAPI(), toy("shown", schema_url="/shown")
        app.include_router(outer)
        app.include_router(shown)
        assert statuses(app, *PAGES, *DOCUMENTS) == [status] * 4
        channels = list(follow(TestClient(app), "/shown")["channels"])
        assert channels == (["shown"] if nearest is None else ["inner", "shown"])


@pytest.mark.parametrize("way", ["include", "lifespan"])
@pytest.mark.parametrize("hidden_by", ["inclusion", "plain", "outer"])
def test_a_hidden_router_leaves_its_place_to_another(hidden_by: str, way: str) -> None:
    hidden, shown = toy("hidden"), toy("shown")
    app = FastAPI(lifespan=shown.lifespan_context if way == "lifespan" else None)
    if hidden_by == "inclusion":
        app.include_router(hidden, include_in_schema=False)
    else:
        around = ToyRouter(schema_url=None) if hidden_by == "outer" else APIRouter(include_in_schema=False)
        around.include_router(hidden)
        app.include_router(around)
    if way == "include":
        app.include_router(shown)
    with TestClient(app) as client:
        assert list(follow(client, "/asyncapi")["channels"]) == ["shown"]
        assert client.get("/asyncapi.yaml").status_code == 200


def test_the_route_class_of_the_router_serves_its_documentation_too() -> None:
    asked = []

    class Counting(APIRoute):
        def get_route_handler(self) -> Any:
            handle = super().get_route_handler()

            async def counted(request: Request) -> Any:
                asked.append(request.url.path)
                return await handle(request)

            return counted

    app = FastAPI()
    app.include_router(toy(route_class=Counting))
    assert statuses(app, *DOCUMENTS) == [200] * 2
    assert asked == list(DOCUMENTS)


@pytest.mark.parametrize(
    ("closed", "pages", "documents"),
    [
        ({"docs_url": None}, 404, 200),
        ({"openapi_url": None}, 404, 404),
        ({"docs_url": None, "openapi_url": None}, 404, 404),
        ({"redoc_url": None}, 200, 200),
        ({"docs_url": "/d", "openapi_url": "/o"}, 200, 200),
    ],
)
@pytest.mark.parametrize("way", ["include", "lifespan", "nested"])
def test_an_app_that_closes_its_documents_closes_these(
    closed: dict[str, Any], pages: int, documents: int, way: str
) -> None:
    router = outer = toy()
    if way == "nested":
        outer = ToyRouter(prefix="/outer")
        router = toy()
        outer.include_router(router)
    app = FastAPI(lifespan=router.lifespan_context if way == "lifespan" else None, **closed)
    if way != "lifespan":
        app.include_router(outer)
    with TestClient(app):
        prefix = outer.prefix
        assert statuses(app, *(prefix + one for one in PAGES)) == [pages] * 2
        assert statuses(app, *(prefix + one for one in DOCUMENTS)) == [documents] * 2


@pytest.mark.parametrize("nested", [False, True])
def test_a_schema_url_that_is_given_stays_open(nested: bool) -> None:
    router = toy(schema_url="/asyncapi")
    if nested:
        router.include_router(toy("inner", prefix="/inner"))
    app = FastAPI(docs_url=None, openapi_url=None)
    app.include_router(router)
    follow(TestClient(app), "/asyncapi")
    if nested:
        follow(TestClient(app), "/inner/asyncapi")


@pytest.mark.parametrize("lifespan", [False, True])
def test_one_document_for_all_routers(lifespan: bool) -> None:
    kafka, nats = toy("a"), toy("b", OtherRouter, schema_url="/nats")
    silent, same = toy("c", schema_url=None), toy("d", prefix="/same")

    @asynccontextmanager
    async def run(app: FastAPI) -> Any:
        async with kafka.lifespan_context(app), nats.lifespan_context(app):
            yield

    app = FastAPI(lifespan=run if lifespan else None)
    for router in (kafka, nats, silent, same):
        app.include_router(router)
    client = TestClient(app)
    if lifespan:
        with client:
            pass
    documents = [follow(client, path) for path in ("/asyncapi", "/nats", "/same/asyncapi")]
    assert list(documents[0]["channels"]) == ["a", "b", "d"]
    assert list(silent.schema.to_specification().to_jsonable()["channels"]) == ["a", "b", "d", "c"]
    assert documents[1:] == documents[:1] * 2
    assert kafka.schema.to_specification().to_jsonable() == documents[0]


def test_two_routers_by_lifespan_alone() -> None:
    first, second = toy("a"), toy("b", OtherRouter)

    @asynccontextmanager
    async def run(app: FastAPI) -> Any:
        async with first.lifespan_context(app), second.lifespan_context(app):
            yield

    app = FastAPI(lifespan=run)
    for _ in range(2):
        with TestClient(app) as client:
            assert list(follow(client, "/asyncapi")["channels"]) == ["a", "b"]
    assert len([route for route in app.routes if getattr(route, "path", "") == "/asyncapi"]) == 1


def test_nested_routers_are_there_once() -> None:
    core, inner, later = toy("core"), toy("inner", prefix="/inner"), ToyRouter()
    core.include_router(inner)
    app = FastAPI()
    app.include_router(core)
    client = TestClient(app)
    assert list(follow(client, "/asyncapi")["channels"]) == ["core", "inner"]

    @inner.subscriber("after")
    async def after(order: Order) -> None: ...

    core.include_router(later)
    later.publisher("even later", schema=Order)
    assert list(follow(client, "/asyncapi")["channels"]) == ["core", "inner", "after", "even_later"]
    assert list(follow(client, "/asyncapi")["servers"]) == ["kafka"]


def test_new_declarations_show_up() -> None:
    router = toy()
    app = FastAPI(title="One")
    app.include_router(router)
    client = TestClient(app)
    first = client.get("/asyncapi.json")
    assert client.get("/asyncapi.json").headers["etag"] == first.headers["etag"]
    publisher = router.publisher("invoices")
    second = client.get("/asyncapi.json")
    assert "invoices" in second.json()["channels"]

    @router.subscriber("more")
    @publisher
    async def more(order: Order) -> Order:
        return order

    third = client.get("/asyncapi.json").json()
    assert list(third["operations"]) == ["handle", "more", "send_invoices"]
    assert list(third["channels"]["invoices"]["messages"]) == ["Order"]
    app.title = "Two"
    assert client.get("/asyncapi.json").json()["info"]["title"] == "Two"
    assert "<title>Two</title>" in client.get("/asyncapi").text


def test_the_document_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi_stream_core.asyncapi import routes

    made = []
    original = routes.specification_of
    monkeypatch.setattr(routes, "specification_of", lambda app: made.append(app) or original(app))
    app = FastAPI()
    app.include_router(toy())
    client = TestClient(app)
    for _ in range(3):
        for path in ("/asyncapi", "/asyncapi.json", "/asyncapi.yaml"):
            client.get(path)
    assert len(made) == 1


def test_openapi_does_not_know_the_documentation() -> None:
    app = FastAPI()
    router = toy()

    @router.get("/health")
    async def health() -> str:
        return "ok"

    app.include_router(router)
    assert list(app.openapi()["paths"]) == ["/health"]


def test_the_dependencies_of_the_router_protect_it() -> None:
    def token(token: str = "") -> None:
        if token != "right":
            raise HTTPException(401)

    app = FastAPI()
    app.include_router(ToyRouter(dependencies=[Depends(token)]))
    alone = FastAPI(lifespan=ToyRouter(dependencies=[Depends(token)]).lifespan_context)
    for client in (TestClient(app), TestClient(alone)):
        with client:
            for path in ("/asyncapi", "/asyncapi.json", "/asyncapi.yaml", "/asyncapi/static/init.js"):
                assert client.get(path).status_code == 401
                assert client.get(path, params={"token": "right"}).status_code == 200
    app.dependency_overrides[token] = lambda: None
    assert TestClient(app).get("/asyncapi").status_code == 200
    alone.dependency_overrides[token] = lambda: None
    assert TestClient(alone).get("/asyncapi").status_code == 200


def test_dependencies_of_the_inclusion_protect_it() -> None:
    def closed() -> None:
        raise HTTPException(403)

    app = FastAPI()
    app.include_router(toy(), dependencies=[Depends(closed)])
    assert TestClient(app).get("/asyncapi.json").status_code == 403


def refuse() -> None:
    raise HTTPException(401)


def beside(router: Any, app: FastAPI, mounted: FastAPI) -> None:
    app.mount("/api", mounted)


def behind_middleware(router: Any, app: FastAPI, mounted: FastAPI) -> None:
    app.mount("/api", GZipMiddleware(mounted))


def with_another(router: Any, app: FastAPI, mounted: FastAPI) -> None:
    app.mount("/api", mounted)
    app.include_router(toy("other"))


def with_another_of_its_broker(router: Any, app: FastAPI, mounted: FastAPI) -> None:
    app.mount("/api", mounted)
    app.include_router(toy("other", address=router.broker))


ARRANGEMENTS = [beside, behind_middleware, with_another, with_another_of_its_broker]
CLOSED: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({}, {"dependencies": [Depends(refuse)]}, 401),
    ({"dependencies": [Depends(refuse)]}, {}, 401),
    ({"docs_url": None, "openapi_url": None}, {}, 404),
    ({}, {"include_in_schema": False}, 404),
]


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
@pytest.mark.parametrize(("of_app", "of_inclusion", "status"), CLOSED)
def test_a_document_is_closed_that_the_including_app_closes(
    of_app: dict[str, Any], of_inclusion: dict[str, Any], status: int, arrange: Any
) -> None:
    """The app around it runs the lifespan, and serves no document of what it does not include."""
    router, mounted = toy("secret"), FastAPI(**of_app)
    mounted.include_router(router, **of_inclusion)
    app = FastAPI(lifespan=router.lifespan_context)
    arrange(router, app, mounted)
    with TestClient(app):
        for path in (*PAGES, *DOCUMENTS):
            assert statuses(app, f"/api{path}") == [status]
            answer = TestClient(app).get(path)
            assert "secret" not in answer.text
            assert answer.status_code == (200 if arrange in ARRANGEMENTS[2:] else 404)


def test_a_document_closes_when_the_router_is_included_later() -> None:
    router, mounted = toy(), FastAPI()
    app = FastAPI(lifespan=router.lifespan_context)
    with TestClient(app):
        assert statuses(app, *PAGES, *DOCUMENTS) == [200] * 4
        mounted.include_router(router, dependencies=[Depends(refuse)])
        assert statuses(app, *PAGES, *DOCUMENTS) == [404] * 4


INCLUDED_UNTOLD = """
from fastapi import FastAPI
from fastapi.testclient import TestClient
from asyncapi_toy import ToyRouter

router, mounted = ToyRouter(), FastAPI()
mounted.include_router(router, include_in_schema=False)
app = FastAPI(lifespan=router.lifespan_context)
app.mount("/api", mounted)
with TestClient(app) as client:
    print(__debug__, client.get("/asyncapi").status_code, client.get("/asyncapi.json").status_code)
"""


def test_an_inclusion_that_nobody_is_told_of_closes_the_document() -> None:
    """With `python -O` FastAPI asks no router before it includes it."""
    command = [sys.executable, "-O", "-c", INCLUDED_UNTOLD]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=paths, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "404", "404"]


@pytest.mark.parametrize("way", ["include", "include and run"])
def test_of_nested_routers_those_are_in_the_document_that_the_app_includes(way: str) -> None:
    outer, inner, sibling = toy("outer"), toy("inner"), toy("sibling")
    below = toy("below")
    inner.include_router(below)
    outer.include_router(inner)
    outer.include_router(sibling)
    app = FastAPI(lifespan=outer.lifespan_context if way == "include and run" else None)
    app.include_router(inner, prefix="/inner", dependencies=[Depends(lambda: None)])
    whole = FastAPI()
    whole.include_router(outer)
    if way == "include":
        client = TestClient(app)
        assert list(follow(client, "/inner/asyncapi")["channels"]) == ["inner", "below"]
    else:
        with TestClient(app) as client:
            assert list(follow(client, "/inner/asyncapi")["channels"]) == ["inner", "below"]
            assert statuses(app, *PAGES, *DOCUMENTS) == [404] * 4
    assert list(follow(TestClient(whole), "/asyncapi")["channels"]) == ["outer", "inner", "below", "sibling"]


def test_titles_are_escaped_and_nothing_is_inline() -> None:
    evil = "</title><script>alert(1)</script>"
    router = ToyRouter()

    @router.subscriber("orders", description=evil)
    async def handle(order: Order) -> None: ...

    app = FastAPI(title=evil, description=evil)
    app.include_router(router)
    client = TestClient(app)
    page = client.get("/asyncapi?x=</script>").text
    assert "alert(1)" in page
    assert evil not in page
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert client.get("/asyncapi.json").json()["operations"]["handle"]["description"] == evil


def test_conditional_requests() -> None:
    app = FastAPI()
    app.include_router(toy())
    client = TestClient(app)
    for path in ("/asyncapi", "/asyncapi.json", "/asyncapi.yaml", "/asyncapi/static/asyncapi.css"):
        first = client.get(path)
        tag = first.headers["etag"]
        assert "cache-control" in first.headers
        for known in (tag, f'"other", W/{tag}', "*"):
            again = client.get(path, headers={"if-none-match": known})
            assert again.status_code == 304
            assert again.content == b""
            assert again.headers["etag"] == tag
        assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("accepted", "packed"), [("gzip, br", True), ("*", True), ("identity", False), ("gzip;q=0", False), ("", False)]
)
def test_the_bundle_is_sent_as_the_client_takes_it(accepted: str, packed: bool) -> None:
    app = FastAPI()
    app.include_router(toy())
    client = TestClient(app)
    with client.stream("GET", "/asyncapi/static/asyncapi.js", headers={"accept-encoding": accepted}) as answer:
        assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
        assert answer.headers["vary"] == "accept-encoding"
        raw = b"".join(answer.iter_raw())
    text = gzip.decompress(raw) if packed else raw
    assert len(text) == 3_042_659
    assert b"AsyncApiStandalone" in text[:2000]


def test_apps_are_not_kept_alive() -> None:
    router = toy()

    def use() -> Any:
        app = FastAPI()
        app.include_router(router)
        TestClient(app).get("/asyncapi.json")
        return weakref.ref(app)

    seen = use()
    router.broker.app = None
    deadline = time.monotonic() + 10
    while seen() is not None and time.monotonic() < deadline:  # a thread of the client's may still be ending
        gc.collect()
    assert seen() is None


def test_a_specification_of_the_users() -> None:
    app = FastAPI()
    app.include_router(toy(specification=AsyncAPI(schema_version="3.1.0", identifier="urn:x")))
    found = follow(TestClient(app), "/asyncapi")
    assert (found["asyncapi"], found["id"]) == ("3.1.0", "urn:x")


def test_an_endpoint_of_the_users_at_the_same_place() -> None:
    app = FastAPI()

    @app.get("/asyncapi")
    async def mine(order: Annotated[int, Depends(lambda: 1)]) -> int:
        return order

    router = toy()
    app.include_router(router)
    assert TestClient(app).get("/asyncapi").json() == 1
    assert TestClient(app).get("/asyncapi.json").status_code == 200
