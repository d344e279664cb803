"""Cancellations that a handler makes, or leaves behind, are failures of their message; only the stop's are not."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import anyio
import pytest
from fastapi import BackgroundTasks, Depends
from fastapi_stream_core import AckPolicy, Retry, StreamMessage
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_core.testing.reference import LocalRouter, TestLocalBroker

from scripted import DEADLINE, ScriptedBroker, ScriptedSource

QUICK = Retry(delay=0.001)


def worker() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def scope() -> AsyncIterator[None]:
    with anyio.move_on_after(0.001):
        yield


async def awaits_what_it_cancelled() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


async def cancels_itself() -> None:
    worker().cancel()
    await asyncio.Event().wait()


async def is_cancelled_later() -> None:
    asyncio.get_running_loop().call_later(0.001, worker().cancel)
    await asyncio.Event().wait()


async def raises() -> None:
    raise asyncio.CancelledError


WAYS = [awaits_what_it_cancelled, cancels_itself, is_cancelled_later, raises]


async def finished(broker: ScriptedBroker, *lines: str) -> None:
    await until(lambda: set(lines) <= set(broker.script.log))
    await until(lambda: not broker.script.sources[0].dispatcher.backlog())


@pytest.mark.parametrize("policy", [AckPolicy.ACK, AckPolicy.REJECT_ON_ERROR, AckPolicy.NACK_ON_ERROR])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_a_handler_that_is_always_cancelled_is_given_up(
    way: Callable[[], Awaitable[None]], batch: bool, policy: AckPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in", ack_policy=policy, batch=batch, max_workers=1)
    subscriber.retry = QUICK
    runs: list[Any] = []

    async def handle(body: bytes) -> None:
        runs.append(body)
        if body == b"1":
            await way()

    async def handle_batch(bodies: list[bytes]) -> None:
        await handle(bodies[0])

    subscriber(handle_batch if batch else handle)
    async with broker:
        broker.script.give("1", lane=0)
        broker.script.give("2", lane=int(batch))
        await finished(broker, "reject 1", "ack 2")
    assert sorted(runs) == [b"1"] * 5 + [b"2"]
    assert broker.report.counts == {"failed": 5, "retried": 4, "rejected": 1}
    assert "handle" in caplog.text
    assert "failed, delivery 5, rejected: CancelledError" in caplog.text


async def test_a_sync_handler_that_is_always_cancelled_is_given_up() -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in")
    subscriber.retry = QUICK
    runs: list[bytes] = []

    @subscriber
    def handle(body: bytes) -> None:
        runs.append(body)
        if body == b"2":
            raise asyncio.CancelledError

    async with broker:
        broker.script.give("1", "2", "3", lane=0)
        await finished(broker, "ack 1", "reject 2", "ack 3")
    assert runs == [b"1"] + [b"2"] * 5 + [b"3"]


async def test_a_dependency_that_ends_the_handler_by_its_own_scope() -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in", max_workers=1)
    subscriber.retry = QUICK
    runs: list[bytes] = []

    @subscriber
    async def handle(body: bytes, _: Annotated[None, Depends(scope)]) -> None:
        runs.append(body)
        if body == b"1":
            await asyncio.Event().wait()

    async with broker:
        broker.script.give("1", "2", lane=0)
        await finished(broker, "reject 1", "ack 2")
    assert runs == [b"1"] * 5 + [b"2"]


@pytest.mark.parametrize("policy", [AckPolicy.ACK, AckPolicy.REJECT_ON_ERROR])
async def test_a_policy_that_delivers_once_gives_a_message_no_one_elses_cancellation(policy: AckPolicy) -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in", ack_policy=policy, max_workers=1)
    subscriber.retry = QUICK
    runs: list[tuple[bytes, int]] = []
    second = asyncio.Event()
    left_behind: list[asyncio.Task[None]] = []

    async def cancel(task: asyncio.Task[Any]) -> None:
        await second.wait()
        task.cancel()

    @subscriber
    async def handle(body: bytes, message: StreamMessage) -> None:
        runs.append((body, message.attempt))
        if body == b"1":
            left_behind.append(asyncio.create_task(cancel(worker())))
        elif message.attempt == 1:
            second.set()
            await asyncio.Event().wait()

    async with broker:
        broker.script.give("1", "2")
        await finished(broker, "ack 1", "ack 2")
    assert runs == [(b"1", 1), (b"2", 1), (b"2", 2)]


@pytest.mark.parametrize("kind", ["alone", "batch", "with an error", "caught", "awaited", "in the background"])
@pytest.mark.parametrize("settles", [True, False])
async def test_what_a_message_leaves_behind_is_not_the_next_ones(kind: str, settles: bool) -> None:
    broker = ScriptedBroker({"settles": settles})
    subscriber = broker.subscriber("in", batch=kind == "batch", max_workers=1)
    subscriber.retry = QUICK
    runs: list[Any] = []

    async def handle(body: bytes, tasks: BackgroundTasks) -> None:
        runs.append(body)
        if body == b"1" and runs.count(body) == 1:
            if kind == "in the background":
                tasks.add_task(lambda task: task.cancel(), worker())
                return
            worker().cancel()
            if kind == "with an error":
                raise ValueError
            if kind == "caught":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
        if body != b"1" or kind == "awaited":
            async with anyio.create_task_group() as group:
                group.start_soon(asyncio.sleep, 0)
            await asyncio.wait_for(asyncio.sleep(0.001), DEADLINE)

    async def handle_batch(bodies: list[bytes], tasks: BackgroundTasks) -> None:
        await handle(bodies[0], tasks)

    subscriber(handle_batch if kind == "batch" else handle)
    async with broker:
        for text in "123":
            broker.script.give(text, lane=text)
        await until(lambda: {b"2", b"3"} <= set(runs))
        await until(lambda: not broker.script.sources[0].dispatcher.backlog())
    again = settles and kind in ("with an error", "awaited")
    assert sorted(runs) == [b"1"] * (1 + again) + [b"2", b"3"]
    assert [one for one in broker.script.log if one[-1] in "23"][-2:] == ["ack 2", "ack 3"]
    assert broker.report.counts.get("failed", 0) == (kind in ("with an error", "awaited"))


async def test_a_batch_that_is_gathered_when_its_worker_is_cancelled_is_handled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in", batch=True, max_workers=1)
    runs: list[Any] = []
    monkeypatch.setattr(type(subscriber), "batch_seconds", DEADLINE)

    @subscriber
    async def handle(bodies: list[bytes]) -> None:
        runs.append(bodies)

    async with broker:
        broker.script.give("1", "2", lane=0)
        await until(lambda: len(broker.script.sources[0].dispatcher.unfinished()) == 2)
        (gathering,) = [task for task in asyncio.all_tasks() if task.get_name() == subscriber.label]
        await asyncio.sleep(0.01)
        gathering.cancel()
        await asyncio.wait({gathering})
        broker.script.give("3", lane=1)  # it ends the batch of the other lane
        await until(lambda: runs)
    assert runs[0] == [b"1", b"2"]
    assert {"ack 1", "ack 2"} <= set(broker.script.log)


@pytest.mark.parametrize("batch", [False, True])
async def test_an_acknowledgement_that_has_begun_goes_on(batch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in", batch=batch, max_workers=1)
    began, go_on, acknowledged = asyncio.Event(), asyncio.Event(), []

    async def acknowledge(source: ScriptedSource, message: StreamMessage) -> None:
        began.set()
        await go_on.wait()
        acknowledged.append(message.body)

    monkeypatch.setattr(ScriptedSource, "ack", acknowledge)
    workers: list[asyncio.Task[Any]] = []

    async def handle(body: bytes) -> None:
        workers.append(worker())

    async def handle_batch(bodies: list[bytes]) -> None:
        workers.append(worker())

    subscriber(handle_batch if batch else handle)
    async with broker:
        broker.script.give("1")
        await asyncio.wait_for(began.wait(), DEADLINE)
        workers[0].cancel()
        await asyncio.wait(workers)
        broker.script.give("2")
        await until(lambda: len(workers) == 2)
        go_on.set()
        await until(lambda: len(acknowledged) == 2)
    assert acknowledged == [b"1", b"2"]
    assert "late" not in broker.report.counts


async def test_a_handlers_own_timeout_around_an_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = ScriptedBroker()
    go_on, acknowledged, said = asyncio.Event(), [], []

    async def acknowledge(source: ScriptedSource, message: StreamMessage) -> None:
        await go_on.wait()
        acknowledged.append(message.body)

    monkeypatch.setattr(ScriptedSource, "ack", acknowledge)

    @broker.subscriber("in")
    async def handle(body: bytes, message: StreamMessage) -> None:
        with anyio.move_on_after(0.001) as moving:
            await message.ack()
        await asyncio.sleep(0)
        said.append(moving.cancelled_caught)

    async with broker:
        broker.script.give("1")
        await until(lambda: said == [True])
        go_on.set()
        await until(lambda: acknowledged == [b"1"])
    assert broker.report.counts == {}


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_a_background_task_that_is_cancelled_is_one_that_failed(
    way: Callable[[], Awaitable[None]], batch: bool, caplog: pytest.LogCaptureFixture
) -> None:
    broker = ScriptedBroker(log_level=logging.INFO)
    subscriber = broker.subscriber("in", batch=batch, max_workers=1)
    ran: list[bytes] = []

    async def handle(body: bytes, tasks: BackgroundTasks) -> None:
        if body == b"1":
            tasks.add_task(way)
        else:
            tasks.add_task(ran.append, body)

    async def handle_batch(bodies: list[bytes], tasks: BackgroundTasks) -> None:
        await handle(bodies[0], tasks)

    subscriber(handle_batch if batch else handle)
    with caplog.at_level(logging.INFO):
        async with broker:
            broker.script.give("1", lane=1)
            broker.script.give("2", lane=2)
            await finished(broker, "ack 1", "ack 2")
            await until(lambda: ran == [b"2"])
    assert broker.report.counts == {"background_failed": 1}
    assert "at 1: a background task failed: CancelledError" in caplog.text
    handled = [record.getMessage() for record in caplog.records if record.getMessage().endswith("acked")]
    assert [line.split(":")[0] for line in handled] == ["in at 1", "in at 2"]


async def test_a_background_task_that_the_stop_cancels_is_none_that_failed() -> None:
    broker = ScriptedBroker(graceful_timeout=0.01)
    begun, said = asyncio.Event(), []

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    @broker.subscriber("in")
    async def handle(body: bytes, tasks: BackgroundTasks) -> None:
        tasks.add_task(waits)

    async with broker:
        broker.script.give("1")
        await asyncio.wait_for(begun.wait(), DEADLINE)
    assert said == ["cancelled"]
    assert "background_failed" not in broker.report.counts


async def test_a_handler_that_is_cancelled_while_the_stop_waits_for_it_failed() -> None:
    broker = ScriptedBroker()
    begun, go_on = asyncio.Event(), asyncio.Event()

    @broker.subscriber("in")
    async def handle(body: bytes) -> None:
        begun.set()
        await go_on.wait()
        await awaits_what_it_cancelled()

    async with broker:
        broker.script.give("1")
        await asyncio.wait_for(begun.wait(), DEADLINE)
        asyncio.get_running_loop().call_later(0.01, go_on.set)
    assert broker.report.counts == {"failed": 1, "retried": 1}


FORGETS = pytest.mark.skipif(sys.version_info < (3, 11), reason="a task that caught its cancellation remembers none")


@pytest.mark.parametrize("where", ["handler", pytest.param("caught", marks=FORGETS), "background", "rests"])
def test_a_loop_that_ends_ends_the_workers(where: str) -> None:
    workers: list[asyncio.Task[Any]] = []

    async def waits(begun: asyncio.Event) -> None:
        workers.append(worker())
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if where != "caught":
                raise

    async def main() -> None:
        broker = ScriptedBroker()
        begun = asyncio.Event()

        @broker.subscriber("in")
        async def handle(body: bytes, tasks: BackgroundTasks) -> None:
            if where in ("handler", "caught"):
                await waits(begun)
            elif where == "background":
                tasks.add_task(waits, begun)
            else:
                workers.append(worker())
                begun.set()

        await broker.start()
        broker.script.give("1")
        await asyncio.wait_for(begun.wait(), DEADLINE)
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), DEADLINE))
    assert all(task.done() for task in workers)


async def test_who_publishes_under_a_test_broker_is_not_cancelled() -> None:
    router = LocalRouter()
    subscriber = router.subscriber("in")
    subscriber.retry = QUICK

    @subscriber
    async def handle(number: int) -> None:
        await awaits_what_it_cancelled()

    async with TestLocalBroker(router) as broker:
        with pytest.raises(RuntimeError, match="raised CancelledError") as caught:
            await broker.publish(1, "in")
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
