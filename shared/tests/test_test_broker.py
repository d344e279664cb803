"""The test broker: the production path without a server, on whatever loop publishes."""

import asyncio
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient
from fastapi_stream_core import AckPolicy, NotStarted, StreamMessage
from fastapi_stream_core.testing.reference import LocalBroker, LocalRouter, TestLocalBroker


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
