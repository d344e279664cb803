"""Sync handlers in chunks: what nobody may notice but in the speed."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated, Any

import anyio
import pytest
from fastapi import Depends, FastAPI, UploadFile
from fastapi_stream_core import AckPolicy, Context, Retry, StreamMessage
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.reference import LocalBroker, LocalMessage
from pydantic import AfterValidator

from scripted import ScriptedBroker

COUNT = 1000


def feed(
    handler: Callable[..., Any],
    settled: list[int] | None = None,
    bodies: Callable[[int], bytes] | None = None,
    **options: Any,
) -> Feed[Any]:
    """Return a feed of numbers for one handler; `settled` gets those that were acknowledged."""
    broker = LocalBroker(logger=None)
    broker.subscriber("numbers", **options)(handler)

    def record(number: int) -> Outgoing:
        body = b"%d" % number if bodies is None else bodies(number)
        return Outgoing("numbers", body, "c-1", [], "application/json", None, {}, False)

    def message(outgoing: Outgoing) -> LocalMessage:
        return LocalMessage(outgoing.body, outgoing, outgoing.address, lane="numbers")

    def settle(message: Any) -> None:
        if settled is not None:
            settled.append(int(message.body))

    return Feed(broker, record, message, settle)


async def run(source: Feed[Any], count: int = COUNT) -> None:
    async with source:
        source.prepare(count)
        await asyncio.wait_for(source.run(), 20)


async def test_every_message_in_order_off_the_loop() -> None:
    handled: list[int] = []
    threads: set[int] = set()
    settled: list[int] = []

    def handle(number: int) -> None:
        handled.append(number)
        threads.add(threading.get_ident())

    await run(feed(handle, settled))
    assert handled == settled == list(range(COUNT))
    assert threading.get_ident() not in threads


async def test_each_message_has_a_context_of_its_own() -> None:
    kept: ContextVar[str] = ContextVar("kept", default="")
    found: list[tuple[str, bytes]] = []

    def before() -> str:
        found.append((kept.get(), b""))
        kept.set("mine")
        return kept.get()

    def handle(
        number: int, own: Annotated[str, Depends(before)], body: Annotated[bytes, Context("message.body")]
    ) -> None:
        found.append((kept.get() + own, body))

    await run(feed(handle), 50)
    assert found == [one for number in range(50) for one in (("", b""), ("minemine", b"%d" % number))]


async def test_what_follows_a_failed_message_waits_for_it() -> None:
    tries: list[int] = []
    settled: list[int] = []

    def handle(number: int) -> None:
        tries.append(number)
        if number % 100 == 70 and tries.count(number) == 1:
            raise ValueError(number)

    await run(feed(handle, settled), 300)
    assert settled == list(range(300))
    assert [one for one in tries if one % 100 == 70] == [70, 70, 170, 170, 270, 270]
    assert tries == sorted(tries)


async def test_an_invalid_message_in_the_middle_is_rejected_alone() -> None:
    handled: list[int] = []
    source = feed(_note(handled), bodies=lambda n: b'"x"' if n == 40 else b"%d" % n)
    await run(source, 100)
    assert handled == [one for one in range(100) if one != 40]
    assert source.broker.report.counts["rejected"] == 1


def _note(handled: list[int]) -> Callable[..., Any]:
    def handle(number: int) -> None:
        handled.append(number)

    return handle


async def test_a_slow_handler_is_acknowledged_after_each_message() -> None:
    settled: list[int] = []
    open_ones: list[int] = []

    def handle(number: int) -> None:
        open_ones.append(number - len(settled))
        time.sleep(0.005)  # the handler's work

    await run(feed(handle, settled), 30)
    assert settled == list(range(30))
    assert max(open_ones) <= 1


async def test_a_result_that_has_to_be_awaited_holds_up_the_next_message() -> None:
    seen: list[str] = []

    async def later(number: int) -> None:
        await asyncio.sleep(0)
        seen.append(f"end {number}")

    def handle(number: int) -> Any:
        seen.append(f"begin {number}")
        return later(number)

    await run(feed(handle), 20)
    assert seen == [f"{word} {number}" for number in range(20) for word in ("begin", "end")]


async def test_overrides_are_looked_up_for_each_message() -> None:
    found: list[str] = []

    def name() -> str:
        return "own"

    async def other() -> str:
        return "other"

    def handle(number: int, who: Annotated[str, Depends(name)]) -> None:
        found.append(who)

    source = feed(handle)

    class Provider:
        dependency_overrides: dict[Any, Any] = {}  # noqa: RUF012

    source.broker.overrides_provider = Provider()
    async with source:
        source.prepare(20)
        await asyncio.wait_for(source.run(), 20)
        Provider.dependency_overrides[name] = other
        source.prepare(20)
        await asyncio.wait_for(source.run(), 20)
    assert found == ["own"] * 20 + ["other"] * 20


async def test_a_stop_finishes_the_running_message_and_starts_no_other() -> None:
    begun = threading.Event()
    go_on = threading.Event()
    handled: list[int] = []
    settled: list[int] = []

    def handle(number: int) -> None:
        handled.append(number)
        if number == 500:
            begun.set()
            go_on.wait(20)

    source = feed(handle, settled)
    async with source:
        source.prepare(COUNT)
        running = asyncio.ensure_future(source.run())
        assert await asyncio.to_thread(begun.wait, 20)
        stopping = asyncio.ensure_future(source.broker.stop())
        await asyncio.wait_for(source.stopping.wait(), 20)
        go_on.set()
        await asyncio.wait_for(stopping, 20)
        running.cancel()
    assert handled == settled == list(range(501))
    given_back = {int(message.body) for message in source.released}
    assert 501 in given_back
    assert not given_back & set(handled)
    assert len(given_back) == len(source.released)


@pytest.mark.parametrize("outcome", ["succeeds", "fails", "is a coroutine"])
async def test_a_visit_goes_on_though_somebody_cancels_its_worker(outcome: str) -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in")
    subscriber.retry = Retry(delay=0.001)
    begun, go_on = threading.Event(), threading.Event()
    runs: list[bytes] = []

    async def later() -> None:
        await asyncio.sleep(0)

    def handle(body: bytes) -> Any:
        runs.append(body)
        if body == b"2" and runs.count(b"2") == 1:
            begun.set()
            go_on.wait(20)
            if outcome == "fails":
                raise ValueError("once")
            return later() if outcome == "is a coroutine" else None
        return None

    subscriber(handle)
    async with broker:
        broker.script.give("1", "2", "3", "4", lane=0)
        assert await asyncio.to_thread(begun.wait, 20)
        workers = [task for task in asyncio.all_tasks() if task.get_name() == subscriber.label]
        for worker in workers:
            worker.cancel()
        asyncio.get_running_loop().call_later(0.01, go_on.set)
        await asyncio.wait(workers, timeout=20)
        await until(lambda: {f"ack {number}" for number in (1, 2, 3, 4)} <= set(broker.script.log))
        assert broker.script.sources[0].dispatcher.backlog() == 0
    assert [entry for entry in broker.script.log if entry.startswith("ack")] == ["ack 1", "ack 2", "ack 3", "ack 4"]
    assert runs == [b"1", b"2", *([b"2"] if outcome == "fails" else []), b"3", b"4"]


@pytest.mark.parametrize("failure", [GeneratorExit, StopIteration, KeyError])
async def test_whatever_a_handler_raises_is_settled(failure: type[BaseException]) -> None:
    tries: list[int] = []
    settled: list[int] = []

    def handle(number: int) -> None:
        tries.append(number)
        if number == 30 and tries.count(30) == 1:
            raise failure()

    source = feed(handle, settled)
    await run(source, 60)
    assert tries.count(30) == 2
    assert settled == list(range(60))


async def test_what_cannot_be_bound_fails_where_it_is_handled() -> None:
    """A wrong override: each message is settled with its error, and nothing stays behind."""
    broker = ScriptedBroker()
    broker.app = app = FastAPI()
    handled: list[bytes] = []

    def number() -> int:
        return 1

    def right() -> int:
        return 2

    def wrong(*values: int, file: UploadFile) -> int:
        return 3

    def handle(body: bytes, number: Annotated[int, Depends(number)]) -> None:
        handled.append(body + b"%d" % number)

    broker.subscriber("in", ack_policy=AckPolicy.REJECT_ON_ERROR)(handle)
    async with broker:
        script, overrides = broker.script, app.dependency_overrides
        script.give("a", lane=0)
        await until(lambda: "ack a" in script.log)
        worker = [task for task in asyncio.all_tasks() if task.get_name() == broker.subscribers[0].label]
        for override, last in ((right, "ack c right"), (wrong, "reject c wrong")):
            overrides[number] = override
            script.give(f"b {override.__name__}", f"c {override.__name__}", lane=0)
            await until(lambda last=last: last in script.log)  # type: ignore[misc]
        overrides.clear()
        script.give("d", lane=0)
        await until(lambda: "ack d" in script.log)
        assert [task.done() for task in worker] == [False], "the same worker goes on"
    assert script.log[1:7] == ["ack a", "ack b right", "ack c right", "reject b wrong", "reject c wrong", "ack d"]
    assert handled == [b"a1", b"b right2", b"c right2", b"d1"]
    assert broker.report.counts == {"failed": 2, "rejected": 2}


async def test_one_that_cannot_be_bound_keeps_none_of_those_before_it() -> None:
    broker = ScriptedBroker()

    def check(body: bytes) -> bytes:
        if body == b"30":
            raise RuntimeError("a bug in a validator")
        return body

    @broker.subscriber("in", ack_policy=AckPolicy.REJECT_ON_ERROR)
    def handle(body: Annotated[bytes, AfterValidator(check)]) -> None: ...

    async with broker:
        script = broker.script
        script.give(*map(str, range(60)), lane=0)
        await until(lambda: len(script.log) == 61)
        await until(lambda: script.sources[0].dispatcher.backlog() == 0)
        assert script.log[1:] == [f"{'reject' if one == 30 else 'ack'} {one}" for one in range(60)]


async def test_nothing_overtakes_what_a_handler_has_delivered_again() -> None:
    broker = ScriptedBroker()
    runs: list[int] = []

    @broker.subscriber("in")
    def handle(number: int, message: StreamMessage) -> None:
        runs.append(number)
        if number == 250 and message.attempt == 1:
            anyio.from_thread.run(message.nack, 0.05)

    async with broker:
        broker.script.give(*map(str, range(400)), lane="a")
        await until(lambda: "ack 399" in broker.script.log)
    assert runs == [*range(251), *range(250, 400)]


async def test_a_copy_of_what_was_dropped_while_it_waited_for_the_thread_is_handled() -> None:
    broker = ScriptedBroker()
    begun, go_on = threading.Event(), threading.Event()
    handled: list[str] = []

    @broker.subscriber("in")
    def handle(text: str) -> None:
        if text == "slow":
            begun.set()
            go_on.wait(20)
        handled.append(text)

    async with broker:
        script = broker.script
        try:
            quick = [f"quick {number}" for number in range(20)]
            script.give(*quick)
            await until(lambda: f"ack {quick[-1]}" in script.log)
            script.give("slow", "behind")
            await until(begun.is_set)
            script.items.put_nowait(ConnectionResetError("cut"))
            await until(lambda: script.log.count("start") == 2)
            script.give("behind", redelivered=True, attempt=2)
            fetched = script.fetches
            await until(lambda: script.fetches > fetched)
        finally:
            go_on.set()
        await until(lambda: "behind" in handled)
        await until(lambda: script.sources[-1].dispatcher.backlog() == 0)
    assert handled[-2:] == ["slow", "behind"]
