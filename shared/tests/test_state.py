"""The state of a message is that of an HTTP request, however the router came into the app."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.testclient import TestClient
from fastapi_stream_core import Outgoing, Source, StreamMessage, Subscription, Transport
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_core.testing.reference import LocalBroker, LocalRouter, TestLocalBroker
from served import Server

DB = object()


class QueueSource(Source):
    """Gives one message at a time, as a server does that knows nothing of the app."""

    cancellable = True

    def __init__(self, subscription: Subscription, transport: "QueueTransport") -> None:
        super().__init__(subscription)
        self.transport = transport

    async def start(self) -> None: ...

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        return [await self.transport.items.get()]

    def ack(self, message: StreamMessage) -> None:
        self.transport.acknowledged.append(message)

    async def close(self) -> None: ...


class QueueTransport(Transport):
    def __init__(self) -> None:
        self.items: asyncio.Queue[StreamMessage] = asyncio.Queue()
        self.acknowledged: list[StreamMessage] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def source(self, subscription: Subscription) -> Source:
        return QueueSource(subscription, self)

    async def publish(self, message: Outgoing) -> None: ...

    async def ping(self, timeout: float) -> bool:
        return True


class QueueBroker(LocalBroker):
    made: QueueTransport

    def transport(self) -> Transport:
        self.made = QueueTransport()
        return self.made

    def put(self) -> None:
        self.made.items.put_nowait(StreamMessage(b"1", None, "a"))


class QueueRouter(LocalRouter):
    def __init__(self, broker: LocalBroker) -> None:
        super().__init__(broker)  # type: ignore[arg-type]


def get_db(request: Request) -> Any:
    return request.state.db


def get_none() -> None: ...


class Place:
    """An app with a router; the handler and the endpoint keep what `request.state` has."""

    def __init__(self, **options: Any) -> None:
        self.router = LocalRouter(**options)
        self.states: list[dict[str, Any]] = []

        @self.router.subscriber("a")
        async def handler(msg: str, request: Request, db: Annotated[Any, Depends(get_db)]) -> None:
            assert db is DB
            self.states.append(dict(request.state._state))

    def serve(self, app: FastAPI) -> FastAPI:
        @app.get("/state")
        async def state(request: Request, db: Annotated[Any, Depends(get_db)]) -> None:
            assert db is DB
            self.states.append(dict(request.state._state))

        return app


@asynccontextmanager
async def own(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    yield {"db": DB}


def included() -> tuple[Place, FastAPI]:
    place = Place()
    app = FastAPI(lifespan=own)
    app.include_router(place.router)
    return place, app


def included_below_a_plain_router() -> tuple[Place, FastAPI]:
    place, plain = Place(), APIRouter()
    plain.include_router(place.router)
    app = FastAPI(lifespan=own)
    app.include_router(plain)
    return place, app


def entered(include: bool) -> tuple[Place, FastAPI]:
    place = Place()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with place.router.lifespan_context(app) as state:
            yield {**state, "db": DB}

    app = FastAPI(lifespan=lifespan)
    if include:
        app.include_router(place.router)
    return place, app


def given_to_the_router() -> tuple[Place, FastAPI]:
    place = Place(lifespan=own)
    app = FastAPI()
    app.include_router(place.router)
    return place, app


def nested() -> tuple[Place, FastAPI]:
    place, outer = Place(), LocalRouter()
    outer.include_router(place.router)
    app = FastAPI(lifespan=own)
    app.include_router(outer)
    return place, app


def several() -> tuple[Place, FastAPI]:
    place, other = Place(), LocalRouter()

    @other.after_startup
    def hook() -> dict[str, Any]:
        return {"db": DB}

    app = FastAPI()
    app.include_router(place.router)
    app.include_router(other)
    return place, app


def alone() -> tuple[Place, FastAPI]:
    place = Place(lifespan=own)
    return place, FastAPI(lifespan=place.router.lifespan_context)


def included_before_more() -> tuple[Place, FastAPI]:
    place, plain = Place(), APIRouter(lifespan=own)
    app = FastAPI()
    app.include_router(place.router)
    app.include_router(plain)
    return place, app


ARRANGEMENTS: list[Callable[[], tuple[Place, FastAPI]]] = [
    included,
    included_below_a_plain_router,
    lambda: entered(True),
    lambda: entered(False),
    given_to_the_router,
    nested,
    several,
    alone,
    included_before_more,
]


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
def test_a_message_and_a_request_have_the_same_state(arrange: Callable[[], tuple[Place, FastAPI]]) -> None:
    place, app = arrange()
    place.serve(app)
    with TestLocalBroker(place.router.broker) as broker:
        for _ in range(2):
            with TestClient(app) as client:
                assert client.portal is not None
                client.portal.call(broker.publish, "before any request", "a")
                assert client.get("/state").status_code == 200
                client.portal.call(broker.publish, "after it", "a")
            states, place.states[:] = place.states[:], []
            assert len(states) == 3
            assert states[0] == states[1] == states[2]
            assert states[0]["broker"] is broker


@pytest.mark.parametrize("way", ["include", "lifespan", "both", "nested", "plain", "two", "beside"])
def test_without_state_an_old_server_takes_the_app(way: str) -> None:
    router = LocalRouter(setup_state=False)
    app = FastAPI(lifespan=router.lifespan_context if way in ("lifespan", "both") else None)
    parts: dict[str, Any] = {"include": router, "both": router, "two": router, "beside": router}
    if way == "nested":
        parts[way] = LocalRouter(setup_state=False)
        parts[way].include_router(router)
    elif way == "plain":
        parts[way] = APIRouter()
        parts[way].include_router(router)
    if way in parts:
        app.include_router(parts[way])
    if way == "two":
        app.include_router(LocalRouter(setup_state=False))
    if way == "beside":
        app.include_router(APIRouter())
    sent = asyncio.run(run_lifespan(app, {}))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert router.root.broker.state == {}


def test_with_state_an_old_server_says_so() -> None:
    router = LocalRouter()
    app = FastAPI()
    app.include_router(router)
    with pytest.raises(RuntimeError, match="does not support"):
        asyncio.run(run_lifespan(app, {}))
    assert not router.broker.running


async def run_lifespan(app: FastAPI, scope: Mapping[str, Any]) -> list[str]:
    """Start and stop an app as a server does; without "state" in its scope that is an old one."""
    sent: list[str] = []
    incoming = ["lifespan.startup", "lifespan.shutdown"]

    async def receive() -> dict[str, Any]:
        return {"type": incoming.pop(0)}

    async def send(event: Any) -> None:
        sent.append(event["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, **scope}, receive, send)
    return sent


def who() -> str:
    return "nobody"


class Shared:
    """A router for several apps; the handler keeps for whom it ran: by the app, the overrides and the state."""

    def __init__(self) -> None:
        self.broker = QueueBroker()
        self.router, self.other = QueueRouter(self.broker), LocalRouter(self.broker, schema_url=None)  # type: ignore[arg-type]
        self.seen = Inbox()

        @self.router.subscriber("a")
        async def handler(body: bytes, request: Request, name: Annotated[str, Depends(who)]) -> None:
            self.seen.put((request.app.title, name, request.state.name))

    def app(self, name: str, way: str = "include", during: Callable[[], Any] = lambda: None) -> FastAPI:
        router = self.other if way == "other" else self.router

        @asynccontextmanager
        async def named(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
            during()
            yield {"name": name}

        @asynccontextmanager
        async def running(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
            async with named(app) as state, router.lifespan_context(app) as more:
                yield {**state, **more}

        app = FastAPI(title=name, lifespan=running if way == "run" else named)
        app.dependency_overrides[who] = lambda: name
        if way != "run":
            app.include_router(router)
        return app

    async def runs_for(self, name: str) -> None:
        self.broker.put()
        assert await self.seen.take() == (name, name, name)


@pytest.mark.parametrize("way", ["include", "run", "other"])
async def test_a_running_app_keeps_its_own_when_the_router_is_included_elsewhere(way: str) -> None:
    shared = Shared()
    server = Server(shared.app("first", way, during=lambda: shared.app("in between")))
    await server.started()
    await shared.runs_for("first")
    shared.app("second")
    await shared.runs_for("first")
    server.end()
    await server.ended()


@pytest.mark.parametrize("ends", [0, 1])
@pytest.mark.parametrize("ways", [("include", "include"), ("run", "include"), ("include", "run"), ("other", "include")])
async def test_of_two_running_apps_the_first_one_counts_until_it_ends(ways: tuple[str, str], ends: int) -> None:
    shared = Shared()
    apps = [shared.app(name, way) for name, way in zip(("first", "second"), ways, strict=True)]
    servers = []
    for app in apps:
        servers.append(Server(app))
        await servers[-1].started()
        await shared.runs_for("first")
    for number, left in ((ends, 1 - ends), (1 - ends, None)):
        servers[number].end()
        await servers[number].ended()
        if left is not None:
            await shared.runs_for(apps[left].title)
    again = Server(apps[1])
    await again.started()
    await shared.runs_for("second")
    again.end()
    await again.ended()


def test_an_app_whose_loop_has_ended_keeps_nothing() -> None:
    shared = Shared()
    lost, app = shared.app("lost"), shared.app("second")

    async def lose() -> Any:
        lifespan = lost.router.lifespan_context(lost)
        await lifespan.__aenter__()
        await shared.broker.stop()
        return lifespan

    async def serve() -> None:
        server = Server(app)
        await server.started()
        await shared.runs_for("second")
        server.end()
        await server.ended()

    loop = asyncio.new_event_loop()
    lifespan = loop.run_until_complete(lose())
    loop.close()
    asyncio.run(serve())
    assert lifespan is not None


@pytest.mark.parametrize("is_override", [False, True], ids=["declared", "override"])
async def test_a_message_that_comes_before_the_app_has_started_waits_for_its_state(is_override: bool) -> None:
    seen = Inbox()
    broker = QueueBroker()
    order: list[str] = []

    @broker.subscriber("a")
    async def handler(body: bytes, db: Annotated[Any, Depends(get_none if is_override else get_db)]) -> None:
        order.append("handled")
        seen.put(db)

    router = QueueRouter(broker)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with router.lifespan_context(app) as state:
            broker.put()
            for _ in range(50):
                await asyncio.sleep(0)
            order.append("started")
            yield {**state, "db": DB}
            assert await seen.take() is DB

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    app.dependency_overrides[get_none] = get_db
    await run_lifespan(app, {"state": {}})
    assert order == ["started", "handled"]
    assert broker.report.counts.get("failed", 0) == 0


async def test_a_startup_that_fails_while_messages_wait_ends() -> None:
    broker = QueueBroker()

    @broker.subscriber("a")
    async def handler(body: bytes, request: Request) -> None: ...

    router = QueueRouter(broker)

    @router.after_startup
    async def fails() -> None:
        broker.put()
        raise ValueError("no")

    app = FastAPI()
    app.include_router(router)
    with pytest.raises(ValueError, match="no"):
        await run_lifespan(app, {"state": {}})
    assert not broker.running
    assert broker.made.acknowledged == []
