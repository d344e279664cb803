"""What depends on FastAPI's own parts, in every release that is supported."""

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi_stream_core import app_compat
from fastapi_stream_core import fastapi_compat as compat


class Aware(app_compat.IncludeAware):
    """Remembers its apps."""

    def __init__(self, **options: Any) -> None:
        self.parents: list[APIRouter] = []
        super().__init__(**options)

    def included_in(self, parent: APIRouter) -> None:
        self.parents.append(parent)

    @property
    def apps(self) -> set[FastAPI]:
        return {app for app in map(app_compat.application_of, self.parents) if app is not None}


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_router_learns_the_app_that_includes_it(prefix: str) -> None:
    app, router = FastAPI(), Aware(prefix=prefix)
    app.include_router(router)
    assert router.apps == {app}


def test_a_router_learns_the_app_through_a_plain_router() -> None:
    app, outer, router = FastAPI(), APIRouter(prefix="/outer"), Aware()
    outer.include_router(router, prefix="/inner")
    assert router.apps == set()
    app.include_router(outer)
    assert router.apps == {app}


def test_a_router_learns_the_app_through_a_router_of_its_own_kind() -> None:
    app, outer, router = FastAPI(), Aware(), Aware()
    outer.include_router(router)
    app.include_router(outer)
    assert outer.apps == router.apps == {app}


def test_two_apps_may_include_a_router() -> None:
    first, second, router = FastAPI(), FastAPI(), Aware()
    first.include_router(router)
    second.include_router(router)
    assert router.apps == {first, second}


def test_inclusion_leaves_no_trace_in_openapi_and_serves_nothing_more() -> None:
    from fastapi.testclient import TestClient

    app, router = FastAPI(), Aware()

    @router.get("/hello")
    async def hello() -> str:
        return "hello"

    app.include_router(router)
    client = TestClient(app)
    assert list(client.get("/openapi.json").json()["paths"]) == ["/hello"]
    assert client.get("/hello").json() == "hello"
    assert client.get("/fastapi-stream-marker").status_code == 404


def test_the_application_of_a_plain_router_is_none() -> None:
    assert app_compat.application_of(APIRouter()) is None
    app = FastAPI()
    assert app_compat.application_of(app.router) is app


async def async_call() -> None: ...
def sync_call() -> None: ...
async def async_generator() -> Any:
    yield 1


def generator() -> Any:
    yield 1


class Callable:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (async_call, "async"),
        (sync_call, "sync"),
        (async_generator, "async generator"),
        (generator, "generator"),
        (Callable(), "async"),
        (Callable, "sync"),
    ],
)
def test_the_kind_of_a_call(call: Any, kind: str) -> None:
    assert compat.kind_of(compat.dependant_of(call, "/")) == kind


def test_what_is_usual() -> None:
    from fastapi import Security
    from fastapi.security import SecurityScopes

    async def usual(a: int, b: Annotated[None, Depends(async_call)]) -> None: ...
    async def scopes(a: SecurityScopes) -> None: ...
    async def secured(a: Annotated[None, Security(async_call, scopes=["x"])]) -> None: ...

    assert compat.is_usual(compat.dependant_of(usual, "/"))
    assert compat.is_usual(compat.dependant_of(usual, "/").dependencies[0])
    assert not compat.is_usual(compat.dependant_of(scopes, "/"))
    assert not compat.is_usual(compat.dependant_of(secured, "/").dependencies[0])


def test_a_bound_field_reads_what_is_given() -> None:
    async def call(a: Annotated[list[int] | None, Query()]) -> None: ...

    field = compat.dependant_of(call, "/").query_params[0]
    compat.bind(field)
    compat.bind(field)
    values = compat.Values({"a": None, "b": []})
    assert values.get("a") is None
    assert isinstance(values.get(field.alias), compat.Given)
    assert field.alias == "a"
    assert field.validate(compat.Given([1]), {}, loc=("query", "a"))[0] == [1]
    assert field.validate(compat.Given(None), {}, loc=("query", "a"))[0] is None
    assert (values.getlist("a"), values.getlist("b"), values.getlist("c")) == ([None], [], [])
