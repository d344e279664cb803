"""Start and stop: whoever calls, cancels or repeats them at whatever moment, each ends whole with nothing left."""

import asyncio
import contextlib
import gc
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from itertools import product
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi_stream_core import (
    BrokerUnavailable,
    Outgoing,
    SetupError,
    Source,
    StartInterrupted,
    StreamMessage,
    Subscription,
    Transport,
    WrongEventLoop,
    supervisor,
    transition,
)
from fastapi_stream_core import run as run_module
from fastapi_stream_core.subscription import Status
from fastapi_stream_core.testing.reference import LocalBroker, LocalRouter, TestLocalBroker

STEPS = 3
"""How often each call of the client below gives way to others."""


class Client:
    """What a slow client library has open; every call gives way several times, and so may be cancelled anywhere."""

    def __init__(self) -> None:
        self.open: set[object] = set()
        self.closing: set[object] = set()
        self.connected = 0
        self.is_stubborn = False
        self.answers = True
        self.ping_error: Exception | None = None
        self.pings = 0
        self.error: Exception | None = None
        self.is_ready = asyncio.Event()
        self.is_ready.set()

    async def take(self) -> None:
        for _ in range(STEPS):
            await asyncio.sleep(0)

    async def acquire(self, thing: object) -> None:
        """Open something; what is open half-way is there from the beginning, as a socket is."""
        self.open.add(thing)
        if self.is_stubborn:  # as a client that takes a cancellation for its own
            with contextlib.suppress(asyncio.CancelledError):
                await self.take()
        await self.take()
        await self.is_ready.wait()
        if self.error is not None:
            raise self.error

    async def asked(self, count: int) -> None:
        """Wait until it was asked `count` times more whether its server is there."""
        expected, deadline = self.pings + count, asyncio.get_running_loop().time() + 30
        while self.pings < expected:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.005)

    async def release(self, thing: object) -> None:
        self.closing.add(thing)
        await self.take()
        self.open.discard(thing)


class SlowSource(Source):
    cancellable = True

    def __init__(self, subscription: Subscription, client: Client) -> None:
        super().__init__(subscription)
        self.client = client

    async def start(self) -> None:
        await self.client.acquire(self)

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        await asyncio.Event().wait()
        return []

    async def release(self, messages: Any) -> None:
        await self.client.take()

    async def flush(self) -> None:
        await self.client.take()

    async def close(self) -> None:
        await self.client.release(self)


class SlowTransport(Transport):
    def __init__(self, client: Client) -> None:
        self.client = client
        self.published: list[Outgoing] = []

    async def start(self) -> None:
        self.client.connected += 1
        await self.client.acquire(self)

    def source(self, subscription: Subscription) -> Source:
        return SlowSource(subscription, self.client)

    async def publish(self, message: Outgoing) -> None:
        self.published.append(message)

    async def ping(self, timeout: float) -> bool:
        self.client.pings += 1
        if self.client.ping_error is not None:
            raise self.client.ping_error
        return self.client.answers

    async def close(self) -> None:
        await self.client.release(self)


class SlowBroker(LocalBroker):
    client: Client
    made: SlowTransport

    def transport(self) -> Transport:
        self.made = SlowTransport(self.client)
        return self.made


class SlowRouter(LocalRouter):
    def __init__(self, broker: SlowBroker) -> None:
        super().__init__(broker, schema_url=None)  # type: ignore[arg-type]


def make(**options: Any) -> SlowBroker:
    broker = SlowBroker(**options)
    broker.client = Client()
    for address in ("a", "b"):

        @broker.subscriber(address)
        async def handler(body: bytes) -> None: ...

    return broker


class Scene:
    """One interleaving: what is called at which step."""

    def __init__(self, client: str = "steady") -> None:
        self.broker = make()
        self.broker.client.is_stubborn = client == "stubborn"
        self.starts: list[asyncio.Task[None]] = []
        self.stops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.starts.append(asyncio.ensure_future(self.broker.start()))

    def stop(self) -> None:
        self.stops.append(asyncio.ensure_future(self.broker.stop()))

    def cancel_start(self) -> None:
        self.starts[0].cancel()

    def cancel_stop(self) -> None:
        if self.stops:
            self.stops[-1].cancel()

    async def play(self, plan: Sequence[tuple[int, Callable[["Scene"], None]]]) -> None:
        """Call each action at its step, and wait until nothing goes on."""
        for step in range(max(step for step, _ in plan) + 1):
            for at, action in plan:
                if at == step:
                    action(self)
            await asyncio.sleep(0)
        outcomes = await asyncio.wait_for(asyncio.gather(*self.starts, *self.stops, return_exceptions=True), 30)
        for outcome in outcomes:
            assert outcome is None or isinstance(outcome, (asyncio.CancelledError, StartInterrupted)), outcome
        await settled(self.broker)


async def settled(broker: SlowBroker) -> None:
    """Wait until nothing but what a started broker needs goes on, and check what is open."""
    needed = 3 if broker.running else 0  # a feed for each subscription, and who watches over the broker
    deadline = asyncio.get_running_loop().time() + 30
    while len(others()) > needed and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0)
        needed = 3 if broker.running else 0
    assert len(others()) == needed, others()
    assert len(broker.client.open) == (3 if broker.running else 0), broker.client.open
    assert [one.status for one in broker.subscribers] == [Status.RUNNING if broker.running else Status.STOPPED] * 2


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


def run(work: Callable[[], Awaitable[None]], *, collect: bool = True) -> None:
    """Run on a loop of its own; what the loop complains about fails the test."""
    complaints: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await work()
        if collect:
            gc.collect()
            await asyncio.sleep(0)

    threads = set(threading.enumerate())
    asyncio.run(main())
    gc.collect()
    assert not complaints
    assert set(threading.enumerate()) <= threads  # one that another test left may have ended meanwhile


ACTIONS = [Scene.start, Scene.stop, Scene.cancel_start, Scene.cancel_stop]
LAST = 30
"""Steps after which a start, and the stop after it, are over."""


@pytest.mark.parametrize("client", ["steady", "cancelled", "stubborn"])
@pytest.mark.parametrize("action", ACTIONS)
def test_everything_that_may_happen_to_a_start_at_every_step(
    action: Callable[[Scene], None], client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if client != "steady":
        cancel_at_once(monkeypatch)

    async def work() -> None:
        for step in range(LAST):
            scene = Scene(client)
            await scene.play([(0, Scene.start), (step, action)])
            assert scene.broker.running is (action in (Scene.start, Scene.cancel_stop) or is_late(scene, action))
            await scene.broker.stop()
            await settled(scene.broker)

    run(work)


def cancel_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a client cancelled wherever it is, as it is when its server does not answer."""
    for module in (transition, supervisor):
        monkeypatch.setattr(module, "GRACE_SECONDS", 0.0)


def is_late(scene: Scene, action: Callable[[Scene], None]) -> bool:
    return action is Scene.cancel_start and not scene.starts[0].cancelled()


@pytest.mark.parametrize(("first", "second"), list(product(ACTIONS, ACTIONS)))
def test_everything_that_may_happen_twice_at_every_two_steps(
    first: Callable[[Scene], None], second: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel_at_once(monkeypatch)

    async def work() -> None:
        for early in range(0, LAST, 2):
            for late in range(early, LAST, 2):
                scene = Scene()
                await scene.play([(0, Scene.start), (early, first), (late, second)])
                if second is Scene.start:
                    assert scene.broker.running or scene.starts[-1].exception() is not None
                if second is Scene.stop:
                    assert not scene.broker.running
                await scene.broker.stop()
                await settled(scene.broker)

    run(work)


@pytest.mark.parametrize("way", ["start", "stop"])
def test_a_loop_that_ends_at_every_step(way: str) -> None:
    for step in range(2, LAST):  # one turn after the call, so that it has begun
        broker: list[SlowBroker] = []
        calls: list[asyncio.Task[None]] = []

        async def work(
            step: int = step, broker: list[SlowBroker] = broker, calls: list[asyncio.Task[None]] = calls
        ) -> None:
            broker.append(make())
            if way == "stop":
                await broker[0].start()
            calls.append(asyncio.ensure_future(getattr(broker[0], way)()))
            for _ in range(step):
                await asyncio.sleep(0)

        run(work, collect=False)
        client = broker[0].client
        if way == "start" and calls[0].cancelled():
            assert not client.open, step
        if calls[0].cancelled():  # a step that the loop cuts short takes none of the others away
            assert client.open <= client.closing, step
            assert not broker[0].running


async def test_callers_share_one_start_and_one_stop() -> None:
    broker = make()
    await asyncio.gather(*(broker.start() for _ in range(5)))
    assert broker.client.connected == 1
    assert broker.running
    await asyncio.gather(*(broker.stop() for _ in range(5)))
    assert not broker.client.open


async def test_it_is_running_only_when_it_is_started() -> None:
    broker = make()
    starting = asyncio.ensure_future(broker.start())
    while not starting.done():
        assert not broker.running or all(one.running for one in broker.subscribers)
        await asyncio.sleep(0)
    assert broker.running
    stopping = asyncio.ensure_future(broker.stop())
    await asyncio.sleep(0)
    assert not broker.running
    await stopping


async def test_one_of_two_callers_that_is_cancelled_changes_nothing() -> None:
    broker = make()
    first, second = asyncio.ensure_future(broker.start()), asyncio.ensure_future(broker.start())
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert broker.running
    await broker.stop()


async def test_a_start_that_takes_too_long_for_its_caller_is_undone() -> None:
    broker = make()
    broker.client.is_ready.clear()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(broker.start(), 0.05)
    await settled(broker)
    broker.client.is_ready.set()
    async with broker:
        await settled(broker)


async def test_a_start_after_one_that_failed() -> None:
    broker = make()
    broker.client.error = BrokerUnavailable("local", "connect", 1.0)
    for _ in range(2):
        outcomes = await asyncio.gather(broker.start(), broker.start(), return_exceptions=True)
        assert [type(one) for one in outcomes] == [BrokerUnavailable, BrokerUnavailable]
        assert not broker.running
        assert not broker.client.open
        assert not others()
    broker.client.error = None
    async with broker:
        await settled(broker)


async def test_a_stop_that_is_cancelled_still_waits_for_the_handlers() -> None:
    broker = make()
    async with broker:
        stopping = asyncio.ensure_future(broker.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await broker.stop()
        await settled(broker)


async def test_a_client_that_never_connects_does_not_hold_up_a_stop() -> None:
    broker = make()
    broker.client.is_ready.clear()
    starting = asyncio.ensure_future(broker.start())
    for _ in range(5):
        await asyncio.sleep(0)
    await asyncio.wait_for(broker.stop(), 10)
    with pytest.raises(StartInterrupted):
        await starting
    await settled(broker)


async def test_a_signal_ends_the_waiting_for_a_handler() -> None:
    broker = LocalBroker(graceful_timeout=None)
    started, outcome, signals = asyncio.Event(), list[str](), list[int]()

    @broker.subscriber("a")
    async def handler(body: bytes) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise

    def handle(number: int, frame: object) -> None:
        signals.append(number)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        await broker.start()
        publishing = asyncio.ensure_future(broker.publish("a", "a"))
        await started.wait()
        signal.raise_signal(signal.SIGTERM)  # the one that makes a server stop
        stopping = asyncio.ensure_future(broker.stop())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not stopping.done()
        assert outcome == []
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(stopping, 10)
        assert outcome == ["cancelled"]
        assert signals == [signal.SIGTERM] * 2
        assert signal.getsignal(signal.SIGTERM) is handle
        await publishing
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_what_fails_at_the_end_of_a_stop_is_said(caplog: pytest.LogCaptureFixture) -> None:
    broker = make()
    await broker.start()

    async def fails() -> None:
        broker.client.open.discard(broker.made)
        raise OSError("no")

    broker.made.close = fails  # type: ignore[method-assign]
    await broker.stop()
    assert "did not close cleanly" in caplog.text
    await settled(broker)


def test_a_broker_whose_loop_has_ended_starts_again() -> None:
    broker = make()
    asyncio.run(broker.start())
    broker.client = Client()

    async def again() -> None:
        async with broker:
            assert broker.running
            await settled(broker)

    asyncio.run(again())


def test_the_message_of_another_loop_is_not_sent() -> None:
    async def main() -> None:
        broker = make()
        publisher = broker.publisher("out")

        def elsewhere() -> list[type[BaseException]]:
            found: list[type[BaseException]] = []
            for call in (
                lambda: broker.publish("a", "b"),
                lambda: publisher.send("a"),
                broker.ping,
                broker.start,
            ):
                try:
                    asyncio.run(_await(call))
                except Exception as error:
                    found.append(type(error))
            return found

        async with broker:
            assert await asyncio.to_thread(elsewhere) == [WrongEventLoop] * 4
            assert broker.made.published == []
            await asyncio.to_thread(lambda: asyncio.run(broker.stop()))
            assert not broker.running
            await settled(broker)

    asyncio.run(main())


async def _await(call: Callable[[], Awaitable[Any]]) -> None:
    await call()


@pytest.mark.parametrize("home", ["broker", "router", "nested"])
async def test_a_subscriber_that_is_declared_after_the_start_is_refused(home: str) -> None:
    router, nested = LocalRouter(), LocalRouter()
    router.include_router(nested)
    declaring: Any = {"broker": router.broker, "router": router, "nested": nested}[home]
    early = declaring.subscriber("early")

    async def handler(msg: str) -> None: ...

    async with router.broker:
        with pytest.raises(SetupError, match=r"'late'.*LocalBroker is started.*before the start"):
            declaring.subscriber("late")
        with pytest.raises(SetupError, match=r"'early'.*LocalBroker is started"):
            early(handler)
    assert len(router.broker.subscribers) == 1
    early(handler)


async def test_a_router_with_subscribers_is_not_nested_after_the_start() -> None:
    router, nested = LocalRouter(), LocalRouter()

    @nested.subscriber("a")
    async def handler(msg: str) -> None: ...

    async with TestLocalBroker(router.broker):
        with pytest.raises(SetupError, match="is started"):
            router.include_router(nested)


async def test_a_publisher_of_a_function_that_handles_nothing_is_refused() -> None:
    router = LocalRouter()

    @router.get("/orders")
    @router.publisher("orders")
    async def orders() -> str:
        return "order"

    with pytest.raises(SetupError, match=r"publisher\('orders'\).*'orders'.*no subscriber's handler"):
        await router.broker.start()
    assert not router.broker.running
    router.subscriber("again")(orders)
    async with router.broker:
        assert router.broker.running


@pytest.mark.parametrize("name", ["subscriber", "publisher"])
@pytest.mark.parametrize("home", [LocalRouter, LocalBroker])
def test_a_decorator_without_parentheses_is_refused(name: str, home: Any) -> None:
    def handler(msg: str) -> None: ...

    with pytest.raises(SetupError, match=rf"{home.__name__}\.{name}: it decorates 'handler'.*parentheses"):
        getattr(home(), name)(handler)


async def status(broker: SlowBroker, expected: Status) -> None:
    deadline = asyncio.get_running_loop().time() + 30
    while {one.status for one in broker.subscribers} != {expected}:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


async def test_a_broker_that_is_away_while_its_client_says_nothing_shows_in_the_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("WATCH_SECONDS", "AWAY_SECONDS"):
        monkeypatch.setattr(run_module, name, 0.01)
    broker = make()
    async with broker:
        await status(broker, Status.RUNNING)
        broker.client.answers = False
        await status(broker, Status.BACKING_OFF)
        assert not any(one.running for one in broker.subscribers)
        assert broker.running
        broker.client.answers = True
        for error in (OSError("no"), asyncio.CancelledError()):
            broker.client.ping_error = error
            await broker.client.asked(2)
            await status(broker, Status.BACKING_OFF)
        broker.client.ping_error = None
        await status(broker, Status.RUNNING)
    await settled(broker)


async def test_a_subscription_that_can_not_be_started_has_failed() -> None:
    broker = make()
    broker.client.error = ValueError("no")
    original = broker.transport

    def connected() -> Transport:
        made = original()

        async def start() -> None:
            broker.client.open.add(made)

        made.start = start  # type: ignore[method-assign]
        return made

    broker._life.make_transport = connected
    with pytest.raises(ValueError, match="no"):
        await broker.start()
    assert [one.status for one in broker.subscribers] == [Status.FAILED] * 2
    broker.client.error = None
    async with broker:
        await settled(broker)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("routers", [1, 2])
async def test_lifespans_that_overlap_share_the_broker_until_the_last_one_ends(first: int, routers: int) -> None:
    broker = make()
    made = [SlowRouter(broker) for _ in range(routers)] * (3 - routers)
    lifespans = [router.lifespan_context(FastAPI()) for router in made]
    entered = await asyncio.gather(*(one.__aenter__() for one in lifespans))
    assert [state["broker"] for state in entered] == [broker] * 2
    assert broker.client.connected == 1
    await settled(broker)
    await lifespans[first].__aexit__(None, None, None)
    assert broker.running
    await lifespans[1 - first].__aexit__(None, None, None)
    assert not broker.running
    await settled(broker)


async def test_a_lifespan_leaves_a_broker_alone_that_was_started_before() -> None:
    broker = make()
    async with broker:
        async with SlowRouter(broker).lifespan_context(FastAPI()):
            assert broker.running
        assert broker.running
    await settled(broker)


def run_without_asyncio(work: Any) -> None:
    """Run what suspends nowhere as another library does, such as trio."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


@pytest.mark.parametrize("way", ["start", "include", "run", "again"])
def test_another_library_than_asyncio_is_refused(way: str) -> None:
    broker = make()
    router = SlowRouter(broker)
    app = FastAPI(lifespan=router.lifespan_context if way in ("run", "again") else None)
    if way == "include":
        app.include_router(router)
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(event: Any) -> None:
        sent.append(event["type"])

    for _ in range(2 if way == "again" else 1):
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        work = broker.start() if way == "start" else app(scope, receive, send)
        with pytest.raises(SetupError, match=r"no event loop of asyncio runs; run it with asyncio"):
            run_without_asyncio(work)
    assert not broker.running
    assert "lifespan.startup.complete" not in sent


@pytest.mark.parametrize("way", ["start", "publish"])
def test_a_test_broker_under_another_library_than_asyncio_is_refused(way: str) -> None:
    broker = LocalBroker()

    @broker.subscriber("in")
    async def handle(body: bytes) -> None: ...

    async def start() -> None:
        async with TestLocalBroker(broker):
            raise AssertionError("it can't run")

    async def publish() -> None:
        with TestLocalBroker(broker):
            await broker.publish(b"1", "in")

    with pytest.raises(SetupError, match=r"no event loop of asyncio runs; run it with asyncio"):
        run_without_asyncio(start() if way == "start" else publish())
    assert not broker.running
