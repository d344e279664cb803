"""The brokers of one app start one after another: no message is lost because the next one is not there yet."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi_stream_core import AckPolicy, NotStarted, Retry, SetupError, Status, supervisor
from fastapi_stream_core.policy import decide, is_failure
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_core.testing.reference import LocalRouter
from served import Server

from scripted import DEADLINE, ScriptedBroker

POLICIES = [AckPolicy.ACK_FIRST, AckPolicy.MANUAL, AckPolicy.REJECT_ON_ERROR, AckPolicy.NACK_ON_ERROR]


def including(app: FastAPI, broker: ScriptedBroker) -> LocalRouter:
    router = LocalRouter(broker, schema_url=None)  # type: ignore[arg-type]
    app.include_router(router)
    return router


def forwarding(first: ScriptedBroker, second: ScriptedBroker, way: str, **options: Any) -> list[int]:
    """Have the first broker's messages published to the second one; return the numbers of their deliveries."""
    attempts: list[int] = []
    subscriber = first.subscriber("in", **options)
    subscriber.retry = Retry(attempts=1)
    if way == "publisher":

        @subscriber
        @second.publisher("out")
        async def publisher(body: bytes) -> bytes:
            attempts.append(1)
            return body
    else:

        @subscriber
        async def publish(body: bytes) -> None:
            attempts.append(1)
            await second.publish(body, "out")

    return attempts


def between(app: FastAPI, work: Callable[[], Any]) -> None:
    """Have something done between the startups of the routers before and after this call."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await work()
        yield

    app.include_router(APIRouter(lifespan=lifespan))


async def turns() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", ["publisher", "publish"])
async def test_no_message_is_handled_before_all_brokers_are_started(way: str, policy: AckPolicy) -> None:
    app, first, second = FastAPI(), ScriptedBroker(), ScriptedBroker()
    attempts = forwarding(first, second, way, ack_policy=policy)
    including(app, first)
    early: list[int] = []

    async def wait() -> None:
        first.script.give("1", "2")
        await turns()
        early.extend(attempts)

    between(app, wait)
    including(app, second)
    server = Server(app)
    await server.started()
    await until(lambda: second.script.published == ["1", "2"])
    server.end()
    await server.ended()
    assert early == []
    assert not first.report.counts


async def test_a_startup_that_waits_for_a_handler_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STARTUP_SECONDS", 0.1)
    app, first, second = FastAPI(), ScriptedBroker(), ScriptedBroker()
    handled = asyncio.Event()

    @first.subscriber("in")
    async def handle(body: bytes) -> None:
        handled.set()

    including(app, first)

    async def wait() -> None:
        first.script.give("1")
        await asyncio.wait_for(handled.wait(), DEADLINE)

    between(app, wait)
    including(app, second)
    server = Server(app)
    await server.started()
    server.end()
    await server.ended()


@pytest.mark.parametrize("policy", POLICIES[2:])
@pytest.mark.parametrize("way", ["publisher", "publish"])
async def test_a_message_waits_until_the_broker_is_started_that_it_is_published_to(
    way: str, policy: AckPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = ScriptedBroker(), ScriptedBroker()
    forwarding(first, second, way, ack_policy=policy)
    async with first:
        first.script.give("1", "2")
        await until(lambda: first.subscribers[0].status is Status.PAUSED)
        assert "ScriptedBroker is not started" in caplog.text
        async with second:
            await until(lambda: second.script.published == ["1", "2"])
            await until(lambda: first.subscribers[0].status is Status.RUNNING)
    assert first.report.counts == {"paused": 1}
    assert first.script.log == ["start", "ack 1", "ack 2", "close"]


@pytest.mark.parametrize("way", ["publisher", "publish"])
async def test_a_message_is_handed_back_when_the_broker_never_starts(way: str) -> None:
    first, second = ScriptedBroker(), ScriptedBroker()
    forwarding(first, second, way)
    async with first:
        first.script.give("1")
        await until(lambda: first.subscribers[0].status is Status.PAUSED)
    assert first.script.log == ["start", "release 1", "close"]


async def test_a_startup_that_fails_hands_back_what_could_not_be_published() -> None:
    """The broker of the router that failed is gone before the handlers of the other one have ended."""
    app, first, second = FastAPI(), ScriptedBroker(), ScriptedBroker()
    begun, goes_on = asyncio.Event(), asyncio.Event()

    @first.subscriber("in")
    @second.publisher("out")
    async def handle(body: bytes) -> bytes:
        begun.set()
        await goes_on.wait()
        return body

    including(app, first)

    @including(app, second).after_startup
    async def fail() -> None:
        first.script.give("1")
        await asyncio.wait_for(begun.wait(), DEADLINE)
        asyncio.get_running_loop().create_task(when_gone())
        raise RuntimeError("no")

    async def when_gone() -> None:
        await until(lambda: not second.running)
        goes_on.set()

    server = Server(app)
    with pytest.raises(RuntimeError, match="no"):
        await server.ended()
    assert first.script.log == ["start", "release 1", "close"]
    assert not {"failed", "rejected"} & set(first.report.counts)


def test_a_broker_that_is_not_started_is_no_failure() -> None:
    assert not is_failure(NotStarted("KafkaBroker"))
    assert decide(NotStarted("KafkaBroker"), 9, AckPolicy.REJECT_ON_ERROR, Retry()).away


class Nested:
    """A router in a router in a router; the innermost one has a subscriber."""

    def __init__(self) -> None:
        self.broker = ScriptedBroker()
        self.root, self.middle, self.inner = (LocalRouter(self.broker, schema_url=None) for _ in range(3))  # type: ignore[arg-type]
        self.handled: list[bytes] = []

        @self.inner.subscriber("in")
        async def handle(body: bytes) -> None:
            self.handled.append(body)

        self.middle.include_router(self.inner)
        self.root.include_router(self.middle)

    async def consumes(self, app: FastAPI) -> None:
        """Serve the app until a message is handled."""
        server = Server(app)
        await server.started()
        self.broker.script.give("1")
        await until(lambda: self.handled == [b"1"])
        server.end()
        await server.ended()
        assert self.broker.script.log == ["start", "ack 1", "close"]


@pytest.mark.parametrize("way", ["include", "run", "both", "plain"])
@pytest.mark.parametrize("depth", ["middle", "inner"])
async def test_an_app_with_a_nested_router_alone_does_not_start(depth: str, way: str) -> None:
    nested = Nested()
    router = nested.inner if depth == "inner" else nested.middle
    app = FastAPI(lifespan=router.lifespan_context if way in ("run", "both") else None)
    if way == "plain":
        plain = APIRouter()
        plain.include_router(router)
        app.include_router(plain)
    elif way != "run":
        app.include_router(router)
    other = FastAPI()
    other.include_router(nested.root)
    with pytest.raises(SetupError, match="include the outermost LocalRouter in the app"):
        await Server(app).ended()
    await nested.consumes(other)


@pytest.mark.parametrize("way", ["after", "before", "run", "plain"])
async def test_an_app_with_a_nested_router_and_the_outermost_one_starts_it_once(way: str) -> None:
    nested = Nested()
    app = FastAPI(lifespan=nested.root.lifespan_context if way == "run" else None)
    if way == "after":
        app.include_router(nested.root)
    app.include_router(nested.inner, prefix="/inner")
    app.include_router(nested.middle, prefix="/middle")
    if way == "before":
        app.include_router(nested.root)
    elif way == "plain":
        plain = APIRouter()
        plain.include_router(nested.root)
        app.include_router(plain)
    await nested.consumes(app)


async def test_a_nested_router_goes_with_a_broker_that_is_started_by_hand() -> None:
    nested = Nested()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with nested.root.broker:
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(nested.inner)
    await nested.consumes(app)


async def test_routers_without_routes_of_their_own_are_told_apart() -> None:
    """Starlette calls routers equal whose routes are."""
    broker = ScriptedBroker()
    routers = [LocalRouter(broker, schema_url=None) for _ in range(3)]  # type: ignore[arg-type]
    for number, router in enumerate(routers):
        router.publisher(str(number))
    routers[0].include_router(routers[2])
    assert sorted(publisher.address for publisher in broker.publishers) == ["0", "1", "2"]
    with pytest.raises(SetupError, match="include each other"):
        routers[2].include_router(routers[0])
