"""The test broker: the production path without a server, on whatever loop publishes."""

import asyncio
import threading
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient
from fastapi_stream_core import AckPolicy, NotStarted, SetupError, Source, StreamMessage, Transport
from fastapi_stream_core.subscription import Status
from fastapi_stream_core.testing.reference import LocalBroker, LocalRouter, LocalTransport, TestLocalBroker


def make() -> tuple[LocalRouter, FastAPI]:
    router = LocalRouter()

    @router.post("/orders/{number}")
    async def create(number: int) -> str:
        await router.broker.publish({"number": number}, "orders")
        return "ok"

    @router.get("/state")
    async def state(request: Request) -> bool:
        return request.state.broker is router.broker

    app = FastAPI(lifespan=router.lifespan_context)
    app.include_router(router)
    return router, app


def test_with_a_test_client() -> None:
    router, app = make()

    @router.subscriber("orders")
    async def on_order(number: int) -> None: ...

    with TestLocalBroker(router.broker) as broker, TestClient(app) as client:
        assert broker is router.broker
        assert client.get("/state").json() is True
        assert client.post("/orders/1").json() == "ok"
        on_order.mock.assert_called_once_with({"number": 1})


async def test_the_mock_and_what_was_published() -> None:
    router, _ = make()

    @router.subscriber("orders")
    @router.publisher("invoices")
    async def bill(number: int) -> dict[str, int]:
        return {"total": number}

    async with TestLocalBroker(router.broker) as broker:
        await broker.publish({"number": 1}, "orders")
        bill.mock.assert_called_once_with({"number": 1})
        await bill.wait_called()
        assert [await message.decode() for message in broker.published("invoices")] == [{"total": 1}]
    async with TestLocalBroker(router.broker):
        bill.mock.assert_not_called()
        with pytest.raises(TimeoutError):
            await bill.wait_called(0.01)


async def test_the_error_of_a_handler_comes_out_of_publish() -> None:
    router = LocalRouter()
    attempts: list[int] = []

    @router.subscriber("orders")
    async def fails(number: int, message: StreamMessage) -> None:
        attempts.append(message.attempt)
        raise ValueError("no")

    async with TestLocalBroker(router.broker) as broker:
        with pytest.raises(ValueError, match="no"):
            await broker.publish({"number": 1}, "orders")
        assert attempts == [1, 2, 3, 4, 5]
        fails.mock.assert_called_once_with({"number": 1})
    async with TestLocalBroker(router.broker, raise_errors=False) as broker:
        await broker.publish({"number": 1}, "orders")


async def test_a_chain_of_handlers_is_over_when_publish_returns() -> None:
    router = LocalRouter()
    done: list[str] = []

    @router.subscriber("one")
    @router.publisher("two")
    async def first(msg: str) -> str:
        return msg + "1"

    @router.subscriber("two")
    async def second(msg: str) -> None:
        await router.broker.publish(msg + "2", "three")
        done.append("second")

    @router.subscriber("three")
    async def third(msg: str) -> None:
        await asyncio.sleep(0)
        done.append(msg)

    async with TestLocalBroker(router.broker) as broker:
        await broker.publish("m", "one")
    assert done == ["second", "m12"]


async def test_a_test_client_inside_of_a_running_loop() -> None:
    router, app = make()

    @router.subscriber("orders")
    async def on_order(number: int) -> None: ...

    async with TestLocalBroker(router.broker) as broker:
        for number in range(3):
            with TestClient(app) as client:
                assert client.post(f"/orders/{number}").json() == "ok"
        await broker.publish({"number": 9}, "orders")
        assert [call.args[0]["number"] for call in on_order.mock.call_args_list] == [0, 1, 2, 9]


def test_it_outlives_a_test_client() -> None:
    router, app = make()

    @router.subscriber("orders")
    async def on_order(number: int) -> None: ...

    with TestLocalBroker(router.broker) as broker:
        with TestClient(app) as client:
            client.post("/orders/1")
        asyncio.run(broker.publish({"number": 2}, "orders"))
        assert on_order.mock.call_count == 2
    with pytest.raises(NotStarted):
        asyncio.run(broker.publish({"number": 3}, "orders"))


async def test_without_a_test_broker_nothing_is_published() -> None:
    with pytest.raises(NotStarted, match="lifespan"):
        await LocalBroker().publish("a", "b")


async def test_overrides_work_without_a_lifespan() -> None:
    router, app = make()

    async def original() -> str:
        return "original"

    seen: list[str] = []

    @router.subscriber("orders")
    async def on_order(number: int, dep: Annotated[str, Depends(original)]) -> None:
        seen.append(dep)

    app.dependency_overrides[original] = lambda: "override"
    async with TestLocalBroker(router.broker) as broker:
        await broker.publish({"number": 1}, "orders")
    assert seen == ["override"]


async def test_a_manual_subscriber_that_settles_nothing_does_not_hang() -> None:
    router = LocalRouter()

    @router.subscriber("orders", ack_policy=AckPolicy.MANUAL)
    async def on_order(number: int) -> None: ...

    async with TestLocalBroker(router.broker) as broker:
        await asyncio.wait_for(broker.publish({"number": 1}, "orders"), 5)
        on_order.mock.assert_called_once()


async def test_a_mock_stays_after_the_test_broker() -> None:
    router = LocalRouter()
    publisher = router.publisher("out")

    @router.subscriber("orders")
    @publisher
    async def on_order(number: int) -> int:
        return number

    async with TestLocalBroker(router.broker) as broker:
        assert publisher.mock is not None
        await broker.publish({"number": 1}, "orders")
        publisher.mock.assert_called_once_with(1)
    assert publisher.mock is None


class Server(LocalTransport):
    """Stands for a real server: keeps what reaches it."""

    any_loop = False


class ServedBroker(LocalBroker):
    def __init__(self) -> None:
        super().__init__()
        self.servers_made: list[Server] = []
        self.closed = 0

    def transport(self) -> Transport:
        made = Server(self)
        self.servers_made.append(made)
        return made


def served() -> tuple[ServedBroker, list[str]]:
    broker, seen = ServedBroker(), list[str]()

    @broker.subscriber("orders")
    async def on_order(msg: str) -> None:
        seen.append(msg)

    return broker, seen


async def test_it_takes_over_a_broker_that_is_started_and_gives_it_back() -> None:
    broker, seen = served()
    async with broker:
        await broker.publish("real", "orders")
        (server,) = broker.servers_made
        for _ in range(2):
            async with TestLocalBroker(broker) as tested:
                assert tested is broker
                assert broker.running
                await broker.publish("tested", "orders")
                assert [await one.decode() for one in broker.published("orders")] == ["tested"]
                assert server._sources == {}
        assert len(server.log) == 1
        assert [one.status for one in broker.subscribers] == [Status.RUNNING]
        await broker.publish("real again", "orders")
        assert len(server.log) == 2
    assert seen == ["real", "tested", "tested", "real again"]
    assert len(broker.servers_made) == 1
    assert not broker.running


async def test_it_takes_over_a_broker_that_is_being_started() -> None:
    broker, seen = served()
    starting = asyncio.create_task(broker.start())
    await asyncio.sleep(0)  # one turn: the start has begun, and is not over
    assert not broker.running
    async with TestLocalBroker(broker):
        await broker.publish("tested", "orders")
    await starting
    assert broker.running
    assert broker.servers_made[0].log == []
    await broker.publish("real", "orders")
    await broker.stop()
    assert seen == ["tested", "real"]


async def test_one_test_broker_within_another() -> None:
    broker, seen = served()
    async with broker:
        async with TestLocalBroker(broker):
            await broker.publish("outer", "orders")
            async with TestLocalBroker(broker):
                await broker.publish("inner", "orders")
            await broker.publish("outer again", "orders")
            assert len(broker.published("orders")) == 2
        (server,) = broker.servers_made
        assert len(server.log) == 0
        await broker.publish("real", "orders")
        assert len(server.log) == 1
    assert seen == ["outer", "inner", "outer again", "real"]


def test_a_test_broker_that_can_not_take_a_broker_leaves_it_as_it_was() -> None:
    broker, _ = served()
    ready, over = threading.Event(), threading.Event()

    async def run() -> None:
        async with broker:
            ready.set()
            await asyncio.to_thread(over.wait, 20)

    def refuse(subscription: object) -> Source:
        raise ValueError("no source")

    class Refusing(TestLocalBroker):
        def transport(self) -> LocalTransport:
            made = super().transport()
            made.source = refuse  # type: ignore[method-assign, assignment]
            return made

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(20)
        with pytest.raises(ValueError, match="no source"), Refusing(broker):
            pass
    finally:
        over.set()
        thread.join(20)

    async def publish() -> None:
        async with broker:
            await broker.publish("real", "orders")

    asyncio.run(publish())
    assert len(broker.servers_made[-1].log) == 1


async def test_a_broker_that_stops_while_a_test_has_it_stays_stopped() -> None:
    broker, _ = served()
    await broker.start()
    async with TestLocalBroker(broker):
        await broker.stop()
    assert not broker.running
    async with broker:
        await broker.publish("a", "orders")
    assert len(broker.servers_made) == 2


async def test_with_says_that_it_cannot_take_a_broker_of_this_event_loop() -> None:
    broker, seen = served()
    async with broker:
        with pytest.raises(SetupError, match="async with"), TestLocalBroker(broker):
            pass
        await broker.publish("real", "orders")
    assert seen == ["real"]
    assert len(broker.servers_made[0].log) == 1


def test_with_takes_the_broker_of_an_app_that_runs_in_another_thread() -> None:
    broker, seen = served()
    router = LocalRouter(broker)  # type: ignore[arg-type]

    @router.post("/orders")
    async def create() -> None:
        await broker.publish("order", "orders")

    app = FastAPI()
    app.include_router(router)
    with TestClient(app) as client:
        client.post("/orders")
        with TestLocalBroker(broker):
            client.post("/orders")
            assert len(broker.published("orders")) == 1
        client.post("/orders")
        assert len(broker.servers_made[0].log) == 2
    assert seen == ["order"] * 3


@pytest.mark.parametrize("nested", [False, True])
async def test_it_takes_the_router(nested: bool) -> None:
    router, outer = LocalRouter(), LocalRouter()
    if nested:
        outer.include_router(router)

    @router.subscriber("orders")
    async def on_order(number: int) -> None: ...

    async with TestLocalBroker(router) as broker:
        assert broker is (outer.broker if nested else router.broker)
        await broker.publish({"number": 1}, "orders")
        on_order.mock.assert_called_once_with({"number": 1})


@pytest.mark.parametrize("given", [FastAPI(), None, "local"])
def test_it_says_what_it_takes(given: object) -> None:
    with pytest.raises(SetupError, match=r"no broker and no router; give `router\.broker`"):
        TestLocalBroker(given)  # type: ignore[arg-type]


async def test_the_status_belongs_to_the_run() -> None:
    router, app = make()

    @router.subscriber("orders")
    async def on_order(number: int) -> None: ...

    (subscriber,) = router.broker.subscribers
    async with TestLocalBroker(router.broker) as broker:

        def elsewhere() -> None:
            asyncio.run(broker.publish({"number": 1}, "orders"))

        await asyncio.to_thread(elsewhere)
        assert subscriber.running
        with TestClient(app) as client:
            client.post("/orders/2")
        assert subscriber.running
        assert broker.running
    assert subscriber.status is Status.STOPPED
    assert subscriber.runs == []
    assert on_order.mock.call_count == 2


def test_it_takes_no_broker_of_another_package() -> None:
    class Own(LocalBroker):
        pass

    class TestOwn(TestLocalBroker):
        takes = Own

    TestOwn(Own())
    with pytest.raises(
        SetupError, match=r"LocalBroker of fastapi_stream_core is no Own of .*; use the test broker of its"
    ):
        TestOwn(LocalBroker())
