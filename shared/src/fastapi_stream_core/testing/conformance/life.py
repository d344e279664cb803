"""Conformance: the router with its app: lifespan, state, hooks, nesting, documents."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket

from ...broker import Broker
from ...errors import SetupError
from .client import client_of
from .declarations import DeclarationSuite
from .harness import Harness, Inbox
from .starts import StartSuite

__all__ = ("LifeSuite",)


class LifeSuite(DeclarationSuite, StartSuite):
    """Derive a class `TestLife` from it next to a fixture `harness`."""

    @pytest.mark.parametrize("way", ["include", "lifespan", "both", "custom"])
    async def test_every_way_to_put_a_router_into_an_app(self, harness: Harness, way: str) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address)
        async def handler(msg: str) -> None:
            seen.put(msg)

        @router.post("/send/{text}")
        async def send(text: str) -> str:
            await harness.publish(router.broker, text, address)
            return "sent"

        @asynccontextmanager
        async def custom(app: FastAPI) -> AsyncIterator[Any]:
            async with router.lifespan_context(app) as state:
                yield state

        lifespan = {
            "include": None,
            "lifespan": router.lifespan_context,
            "both": router.lifespan_context,
            "custom": custom,
        }
        app = FastAPI(lifespan=lifespan[way])
        app.include_router(router)
        async with harness.app_environment(router):
            for number in range(2):
                async with client_of(app) as client:
                    assert router.broker.running
                    response = await client.post(f"/send/{number}")
                    assert (response.status_code, response.json()) == (200, "sent")
                    assert await seen.take() == str(number)
                assert not router.broker.running

    async def test_http_and_websocket_routes_work_as_usual(self, harness: Harness) -> None:
        router = harness.router(prefix="/v1", tags=["shop"])

        async def verb(request: Request) -> str:
            return request.method

        for method in ("get", "post", "put", "patch", "delete"):
            getattr(router, method)("/verb")(verb)

        @router.websocket("/echo")
        async def echo(websocket: WebSocket) -> None:
            await websocket.accept()
            async for text in websocket.iter_text():
                await websocket.send_text(text.upper())

        app = FastAPI()
        app.include_router(router)
        async with harness.app_environment(router), client_of(app) as client:
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                assert (await client.request(method, "/v1/verb")).json() == method
            assert await client.talk("/v1/echo", "a", "b") == ["A", "B"]
            paths = (await client.get("/openapi.json")).json()["paths"]
        assert list(paths) == ["/v1/verb"]
        assert paths["/v1/verb"]["get"]["tags"] == ["shop"]

    async def test_the_state_has_the_broker(self, harness: Harness) -> None:
        router, bare = harness.router(), harness.router(setup_state=False)
        for one in (router, bare):

            @one.get("/state")
            async def state(request: Request) -> bool:
                return getattr(request.state, "broker", None) is router.broker

            @one.after_startup
            def hook() -> dict[str, int]:
                return {"answer": 42}

        @router.get("/answer")
        async def answer(request: Request) -> int:
            return int(request.state.answer)

        app, bare_app = FastAPI(lifespan=router.lifespan_context), FastAPI(lifespan=bare.lifespan_context)
        app.include_router(router)
        bare_app.include_router(bare)
        async with harness.app_environment(router), client_of(app) as client:
            assert (await client.get("/state")).json() is True
            assert (await client.get("/answer")).json() == 42
        async with harness.app_environment(bare), client_of(bare_app) as client:
            assert (await client.get("/state")).json() is False

    async def test_what_a_hook_publishes_reaches_the_own_subscribers(self, harness: Harness) -> None:
        seen = Inbox()
        order: list[str] = []
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address)
        async def handler(msg: str) -> None:
            seen.put(msg)

        @router.after_startup
        async def hello(app: FastAPI) -> None:
            order.append(app.title)
            await harness.publish(router.broker, "Hello!", address)

        @router.on_broker_shutdown
        def bye() -> None:
            order.append("bye" if router.broker.running else "too late")

        app = FastAPI(title="the app")
        app.include_router(router)
        async with harness.app_environment(router), client_of(app):
            assert await seen.take() == "Hello!"
        assert order == ["the app", "bye"]

    async def test_a_hook_that_fails_leaves_nothing_open(self, harness: Harness) -> None:
        router = harness.router()
        stopped: list[str] = []

        @harness.subscribe(router, harness.address())
        async def handler(msg: str) -> None: ...

        @router.after_startup
        async def fails() -> None:
            raise ValueError("no")

        @router.on_broker_shutdown
        async def bye() -> None:
            stopped.append("bye")

        app = FastAPI()
        async with harness.app_environment(router):
            with pytest.raises(ValueError, match="no"):
                async with router.lifespan_context(app):
                    raise AssertionError("the lifespan went on")
        assert not router.broker.running
        assert stopped == ["bye"]

    async def test_nested_routers_share_one_broker(self, harness: Harness) -> None:
        seen = Inbox()
        core, middle, inner, plain = harness.router(), harness.router(), harness.router(), APIRouter()
        first, second = harness.address(), harness.address()

        @harness.subscribe(inner, first)
        async def early(msg: str) -> None:
            seen.put(("early", msg))

        @plain.get("/plain")
        async def get_plain() -> str:
            return "plain"

        @inner.get("/inner")
        async def get_inner(broker: Annotated[Any, Depends(lambda: inner.broker)]) -> bool:
            return broker is core.broker

        middle.include_router(inner, prefix="/deep")
        core.include_router(middle)
        core.include_router(plain)

        @harness.subscribe(inner, second)
        async def late(msg: str) -> None:
            seen.put(("late", msg))

        @inner.after_startup
        async def hook() -> None:
            await harness.publish(inner.broker, "hook", first)

        app = FastAPI(lifespan=core.lifespan_context)
        app.include_router(core)
        assert inner.broker is core.broker
        assert len(core.broker.subscribers) == 2
        async with harness.app_environment(core), client_of(app) as client:
            assert await seen.take() == ("early", "hook")
            await harness.publish(core.broker, "b", second)
            assert await seen.take() == ("late", "b")
            assert (await client.get("/plain")).json() == "plain"
            assert (await client.get("/deep/inner")).json() is True
        assert len(seen.all) == 2

    async def test_a_router_is_nested_once(self, harness: Harness) -> None:
        core, other, inner = harness.router(), harness.router(), harness.router()
        core.include_router(inner)
        with pytest.raises(SetupError):
            other.include_router(inner)

    async def test_two_routers_in_one_app_have_one_document(self, harness: Harness) -> None:
        one, two = harness.router(), harness.router()
        first, second = harness.address(), harness.address()

        @harness.subscribe(one, first)
        async def on_first(msg: str) -> None: ...

        @harness.subscribe(two, second)
        async def on_second(msg: int) -> None: ...

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            async with one.lifespan_context(app), two.lifespan_context(app):
                yield

        app = FastAPI(lifespan=lifespan, title="both", version="7")
        app.include_router(one)
        app.include_router(two)
        async with harness.app_environment(one), harness.app_environment(two), client_of(app) as client:
            document = (await client.get("/asyncapi.json")).json()
            page = await client.get("/asyncapi")
            yaml = await client.get("/asyncapi.yaml")
            openapi = (await client.get("/openapi.json")).json()
        assert document["asyncapi"] == "3.0.0"
        assert document["info"]["title"] == "both"
        assert {first, second} <= {channel["address"] for channel in document["channels"].values()}
        assert {"on_first", "on_second"} <= set(document["operations"])
        assert page.status_code == yaml.status_code == 200
        assert "http://" not in page.text
        assert "https://" not in page.text
        assert not any("asyncapi" in path for path in openapi["paths"])

    async def test_a_broker_is_a_context_manager_without_an_app(self, harness: Harness) -> None:
        router = harness.router()
        broker: Broker = router.broker
        async with harness.running(router):
            assert broker.running
            assert await broker.ping(5.0)
        assert not broker.running

    @pytest.mark.parametrize("timeout", [None, "3", 0, True, float("nan"), float("inf")])
    async def test_a_ping_takes_a_time_that_passes_and_ends(self, harness: Harness, timeout: Any) -> None:
        with pytest.raises(SetupError, match=r"^ping\(\): timeout="):
            await harness.router().broker.ping(timeout)

    async def test_http_goes_on_while_a_handler_waits(self, harness: Harness) -> None:
        router = harness.router()
        address = harness.address()
        started, release = asyncio.Event(), asyncio.Event()

        @harness.subscribe(router, address)
        async def handler(msg: str) -> None:
            started.set()
            await asyncio.wait_for(release.wait(), 30)

        @router.get("/ping")
        async def ping() -> str:
            return "pong"

        app = FastAPI()
        app.include_router(router)
        async with harness.app_environment(router), client_of(app) as client:
            sending = asyncio.ensure_future(harness.publish(router.broker, "a", address))
            await asyncio.wait_for(started.wait(), 30)
            assert (await client.get("/ping")).json() == "pong"
            release.set()
            await sending
