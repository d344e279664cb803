"""A broker that is stopped from within: by a handler of its own, in a lifespan that needs it, under a signal."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi_stream_core import StartInterrupted, StreamMessage
from fastapi_stream_core.policy import Verdict
from fastapi_stream_core.testing.reference import LocalBroker, LocalRouter, TestLocalBroker

Stop = Callable[[LocalBroker], Awaitable[None]]


async def stop(broker: LocalBroker) -> None:
    await broker.stop()


async def stop_in_time(broker: LocalBroker) -> None:
    await asyncio.wait_for(broker.stop(), 20)


async def stop_in_a_task(broker: LocalBroker) -> None:
    await asyncio.gather(broker.stop(), broker.stop())


async def leave(broker: LocalBroker) -> None:
    async with broker:
        pass


async def stopped(broker: LocalBroker) -> None:
    """Wait until nothing of a broker that stops goes on; stopping again waits for it."""
    await asyncio.wait_for(broker.stop(), 20)
    assert not broker.running
    assert not asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


@pytest.mark.parametrize("way", [stop, stop_in_time, stop_in_a_task, leave])
async def test_a_handler_that_stops_its_broker_goes_on_and_is_settled(way: Stop) -> None:
    broker = LocalBroker(graceful_timeout=None)
    verdicts: list[Verdict | None] = []
    messages: list[StreamMessage] = []

    @broker.subscriber("a")
    async def handler(message: StreamMessage) -> None:
        messages.append(message)
        await way(broker)
        assert not broker.running
        await broker.publish("still published", "other")
        verdicts.append(message.committed)

    await broker.start()
    await asyncio.wait_for(broker.publish("", "a"), 20)
    await stopped(broker)
    assert verdicts == [None]
    assert [one.committed for one in messages] == [Verdict.ACK]


async def test_a_batch_handler_a_dependency_and_a_background_task_may_stop_it_too() -> None:
    def in_batch(broker: LocalBroker) -> None:
        @broker.subscriber("a", batch=True)
        async def handler(msgs: list[str]) -> None:
            await broker.stop()

    def in_background(broker: LocalBroker) -> None:
        @broker.subscriber("a")
        async def handler(msg: str, tasks: BackgroundTasks) -> None:
            tasks.add_task(broker.stop)

    for declare in (in_batch, in_background):
        broker = LocalBroker(graceful_timeout=None)
        declare(broker)
        await broker.start()
        await asyncio.wait_for(broker.publish("x", "a"), 20)
        await stopped(broker)


async def test_a_sync_handler_may_stop_it_from_its_thread() -> None:
    broker = LocalBroker(graceful_timeout=None)
    loop = asyncio.get_running_loop()

    @broker.subscriber("a")
    def handler(msg: str) -> None:
        asyncio.run_coroutine_threadsafe(broker.stop(), loop).result(20)
        asyncio.run(broker.stop())  # on a loop of its own

    await broker.start()
    await asyncio.wait_for(broker.publish("x", "a"), 20)
    await stopped(broker)


async def test_a_handler_can_not_start_the_broker_again_that_waits_for_it() -> None:
    broker = LocalBroker(graceful_timeout=None)
    errors: list[BaseException] = []

    @broker.subscriber("a")
    async def handler(msg: str) -> None:
        await broker.stop()
        try:
            await broker.start()
        except StartInterrupted as error:
            errors.append(error)

    await broker.start()
    await asyncio.wait_for(broker.publish("x", "a"), 20)
    await stopped(broker)
    assert "handler" in str(errors[0])
    async with broker:
        assert broker.running


async def test_a_handler_that_stops_another_broker_waits_for_it() -> None:
    first, second = LocalBroker(), LocalBroker()

    @first.subscriber("a")
    async def handler(msg: str) -> None:
        await second.start()
        assert second.running
        await second.stop()
        await second.start()

    async with first:
        await asyncio.wait_for(first.publish("x", "a"), 20)
        assert second.running
    await stopped(second)


async def test_a_handler_may_stop_it_while_a_test_takes_it_over() -> None:
    broker = LocalBroker(graceful_timeout=None)
    begun, goes_on = asyncio.Event(), asyncio.Event()

    @broker.subscriber("a")
    async def handler(msg: str) -> None:
        begun.set()
        await goes_on.wait()
        await broker.stop()

    await broker.start()
    publishing = asyncio.ensure_future(broker.publish("x", "a"))
    await begun.wait()
    test = TestLocalBroker(broker)
    taking = asyncio.ensure_future(test.__aenter__())
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.wait_for(asyncio.gather(publishing, taking), 20)
    await test.__aexit__(None, None, None)
    await stopped(broker)


@pytest.mark.parametrize("routers", [1, 2])
async def test_a_broker_that_is_started_again_within_a_lifespan_ends_with_it(routers: int) -> None:
    broker = LocalBroker()
    made = [LocalRouter(broker, schema_url=None) for _ in range(routers)]  # type: ignore[arg-type]
    lifespans = [made[number % routers].lifespan_context(FastAPI()) for number in range(2)]
    for lifespan in lifespans:
        await lifespan.__aenter__()
    await broker.stop()
    await broker.start()
    await lifespans[0].__aexit__(None, None, None)
    assert broker.running
    await lifespans[1].__aexit__(None, None, None)
    assert not broker.running
    await stopped(broker)


async def test_a_broker_of_somebody_else_that_is_started_again_within_a_lifespan_goes_on() -> None:
    broker = LocalBroker()
    router = LocalRouter(broker, schema_url=None)  # type: ignore[arg-type]
    async with broker:
        async with router.lifespan_context(FastAPI()):
            await broker.stop()
            await broker.start()
        assert broker.running
    async with router.lifespan_context(FastAPI()):  # its own again
        assert broker.running
    assert not broker.running
    await stopped(broker)


def test_a_lifespan_whose_loop_has_ended_is_not_waited_for() -> None:
    broker = LocalBroker()
    router = LocalRouter(broker, schema_url=None)  # type: ignore[arg-type]
    lost: list[Any] = []

    async def lose() -> None:
        lost.append(router.lifespan_context(FastAPI()))
        await lost[0].__aenter__()

    async def again() -> None:
        async with LocalRouter(broker, schema_url=None).lifespan_context(FastAPI()):  # type: ignore[arg-type]
            assert broker.running
        assert not broker.running
        await stopped(broker)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(lose())
    loop.close()
    asyncio.run(again())


@asynccontextmanager
async def handled(number: int, seen: list[str]) -> AsyncIterator[None]:
    before = signal.signal(number, lambda number, frame: seen.append("mine"))
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_handler_of_signals_that_somebody_puts_back_later_still_passes_them_on(number: int) -> None:
    seen: list[str] = []
    async with handled(number, seen):
        for _ in range(2):
            await a_server_starts_while_a_broker_stops(number, seen)
            assert seen == ["server", "mine"]
            seen.clear()


async def a_server_starts_while_a_broker_stops(number: int, seen: list[str]) -> None:
    broker = LocalBroker(graceful_timeout=None)
    begun, goes_on = asyncio.Event(), asyncio.Event()

    @broker.subscriber("a")
    async def handler(msg: str) -> None:
        begun.set()
        await goes_on.wait()

    await broker.start()
    publishing = asyncio.ensure_future(broker.publish("x", "a"))
    await begun.wait()
    before = signal.getsignal(number)
    stopping = asyncio.ensure_future(broker.stop())
    deadline = asyncio.get_running_loop().time() + 20
    while signal.getsignal(number) is before:  # until the broker listens
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0)
    # As a server does that starts now, and at its end restores what it found.
    found = signal.signal(number, lambda number, frame: seen.append("server"))
    goes_on.set()
    await asyncio.wait_for(asyncio.gather(stopping, publishing), 20)
    signal.raise_signal(number)
    signal.signal(number, found)
    signal.raise_signal(number)
