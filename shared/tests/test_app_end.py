"""The brokers of one app end together: their handlers finish at the same time, and publish to each other meanwhile."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi_stream_core import NotStarted, impatience
from fastapi_stream_core.subscription import Status
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_core.testing.reference import LocalRouter
from served import Server

from scripted import DEADLINE, ScriptedBroker


class ScriptedRouter(LocalRouter):
    def __init__(self, broker: ScriptedBroker, **options: Any) -> None:
        super().__init__(broker, schema_url=None, **options)  # type: ignore[arg-type]


class Place:
    """One router with a handler that waits until it may go on."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        self.broker = ScriptedBroker({}, **options)
        self.begun = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.ended = asyncio.Event()
        self.then: Callable[[], Awaitable[Any]] | None = None

        @self.broker.subscriber("in")
        async def handler(body: bytes) -> None:
            self.begun.set()
            try:
                await self.goes_on.wait()
                if self.then is not None:
                    await self.then()
            finally:
                self.ended.set()

        self.router = ScriptedRouter(self.broker)
        app.include_router(self.router)

    @property
    def status(self) -> Status:
        return self.broker.subscribers[0].status


@asynccontextmanager
async def serving(app: FastAPI, *places: Place) -> AsyncIterator[Server]:
    """Serve until every handler has begun."""
    server = Server(app)
    await server.started()
    for place in places:
        place.broker.script.give("1")
        await asyncio.wait_for(place.begun.wait(), DEADLINE)
    try:
        yield server
    finally:
        if not server.task.done():
            server.end()
            for place in places:
                place.goes_on.set()
        await server.ended()


async def test_handlers_of_all_brokers_have_the_same_time() -> None:
    app, seconds = FastAPI(), 1.0
    places = [Place(app, graceful_timeout=seconds) for _ in range(4)]
    async with serving(app, *places) as server:
        began = monotonic()
        server.end()
        await server.ended()
    assert seconds <= monotonic() - began < 2 * seconds
    for place in places:
        assert place.broker.report.counts == {"cancelled": 1}
        assert not place.broker.running
        assert place.status is Status.STOPPED


@pytest.mark.parametrize("slow", [0, 1])
async def test_a_handler_publishes_to_the_other_broker_while_both_end(slow: int) -> None:
    app = FastAPI()
    places = [Place(app, graceful_timeout=DEADLINE) for _ in range(2)]
    one, other = places[slow], places[1 - slow]
    one.then = lambda: other.broker.publish("late", "out")
    async with serving(app, *places) as server:
        server.end()
        await until(lambda: one.status is other.status is Status.STOPPED)
        other.goes_on.set()
        await asyncio.wait_for(other.ended.wait(), DEADLINE)
        assert not server.task.done()
        one.goes_on.set()
        await server.ended()
    assert other.broker.script.published == ["late"]
    assert one.broker.report.counts == {}
    for place in places:
        assert "ack 1" in place.broker.script.log
        with pytest.raises(NotStarted):
            await place.broker.publish("too late", "out")


async def test_a_hook_publishes_when_its_broker_consumes_no_more() -> None:
    app = FastAPI()
    outer, inner = Place(app), Place(app)
    statuses: list[Status] = []

    @outer.router.on_broker_shutdown
    async def goodbye() -> None:
        statuses.append(outer.status)
        await outer.broker.publish("goodbye", "out")

    async with serving(app, outer, inner):
        pass
    assert statuses == [Status.STOPPED]
    assert outer.broker.script.published == ["goodbye"]


@pytest.mark.parametrize("what", ["stop", "start", "enter"])
async def test_whoever_stops_or_starts_a_broker_that_ends_does_not_wait_for_its_lifespan(what: str) -> None:
    async def main(app: FastAPI) -> None:
        if what == "enter":
            async with outer.router.lifespan_context(app):
                pass
            assert outer.status is Status.RUNNING  # whose own lifespan is not left yet
            return
        await (outer.broker.stop() if what == "stop" else outer.broker.start())
        assert outer.broker.running is (what == "start")

    @asynccontextmanager
    async def between(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.wait_for(main(app), DEADLINE)

    app = FastAPI()
    outer = Place(app)
    app.include_router(APIRouter(lifespan=between))
    inner = Place(app)
    async with serving(app, outer, inner):
        pass
    assert not outer.broker.running
    assert outer.broker.script.log.count("close") == (1 if what == "stop" else 2)


async def test_a_lifespan_that_is_left_while_the_app_starts_or_runs_ends_no_other() -> None:
    app = FastAPI()
    outer = Place(app)
    passing = ScriptedRouter(ScriptedBroker())

    @passing.subscriber("in")
    async def handler(body: bytes) -> None: ...

    passing.bind(app)

    @asynccontextmanager
    async def between(app: FastAPI) -> AsyncIterator[None]:
        async with passing.lifespan_context(app):
            assert passing.broker.running
        assert outer.status is Status.RUNNING
        yield

    app.include_router(APIRouter(lifespan=between))
    async with serving(app, outer):
        async with passing.lifespan_context(app):
            assert passing.broker.running
        assert not passing.broker.running
        assert outer.status is Status.RUNNING
    assert not outer.broker.running


async def test_a_broker_that_somebody_else_uses_goes_on() -> None:
    app = FastAPI()
    outer, inner = Place(app), Place(app)
    async with outer.router.lifespan_context(None):
        async with serving(app, outer, inner):
            pass
        assert outer.status is Status.RUNNING
        assert inner.status is Status.STOPPED
    assert not outer.broker.running


async def test_a_cancelled_end_leaves_nothing_running() -> None:
    app = FastAPI()
    outer, inner = Place(app, graceful_timeout=None), Place(app, graceful_timeout=None)
    async with serving(app, outer, inner) as server:
        server.end()
        await until(lambda: outer.status is inner.status is Status.STOPPED)
        server.task.cancel()
        outer.goes_on.set()
        inner.goes_on.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server.ended()
        server.task = asyncio.ensure_future(asyncio.sleep(0))
    await until(lambda: not outer.broker.running and not inner.broker.running)
    assert outer.broker.script.log[-1] == inner.broker.script.log[-1] == "close"


async def one_that_waits(**options: Any) -> ScriptedBroker:
    """Return a broker that is started, with a handler that runs and does not end."""
    broker, begun = ScriptedBroker(graceful_timeout=None), asyncio.Event()

    @broker.subscriber("in")
    async def handler(body: bytes) -> None:
        begun.set()
        await asyncio.Event().wait()

    await broker.start()
    broker.script.give("1")
    await asyncio.wait_for(begun.wait(), DEADLINE)
    return broker


@pytest.fixture
def signals() -> Iterator[list[int]]:
    """Handle Ctrl-C as a server does that ends already."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    yield heard
    signal.signal(signal.SIGINT, before)


async def test_a_signal_that_hurries_one_stop_hurries_those_that_follow(signals: list[int]) -> None:
    brokers = [await one_that_waits() for _ in range(3)]
    stopping = asyncio.ensure_future(brokers[0].stop())
    await until(impatience.is_listening)
    signal.raise_signal(signal.SIGINT)
    await asyncio.wait_for(stopping, DEADLINE)
    for broker in brokers[1:]:
        await asyncio.wait_for(broker.stop(), DEADLINE)
        assert broker.report.counts == {"cancelled": 1}
    assert signals == [signal.SIGINT]


async def test_a_signal_of_before_does_not_hurry_what_is_started_later(signals: list[int]) -> None:
    broker = await one_that_waits()
    stopping = asyncio.ensure_future(broker.stop())
    await until(impatience.is_listening)
    signal.raise_signal(signal.SIGINT)
    await asyncio.wait_for(stopping, DEADLINE)
    broker = await one_that_waits()
    stopping = asyncio.ensure_future(broker.stop())
    await until(impatience.is_listening)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(stopping), 0.2)
    signal.raise_signal(signal.SIGINT)
    await asyncio.wait_for(stopping, DEADLINE)


async def test_a_signal_hurries_every_broker_of_the_app(signals: list[int]) -> None:
    app = FastAPI()
    places = [Place(app, graceful_timeout=None) for _ in range(3)]
    async with serving(app, *places) as server:
        server.end()
        await until(lambda: all(place.status is Status.STOPPED for place in places))
        await until(impatience.is_listening)
        signal.raise_signal(signal.SIGINT)
        await server.ended()
    for place in places:
        assert place.broker.report.counts == {"cancelled": 1}
