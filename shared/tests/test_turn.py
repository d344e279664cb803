"""Fairness: no turn of the event loop is longer than one message that takes long to read, or a few small ones."""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.reference import LocalBroker, LocalMessage
from fastapi_stream_core.turn import SECONDS, Turn

COUNT = 60


class Passes(selectors.DefaultSelector):
    """Counts the turns of an event loop."""

    number = 0

    def select(self, timeout: float | None = None) -> Any:
        self.number += 1
        return super().select(timeout)


def run(passes: Passes, test: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.SelectorEventLoop(passes)
    try:
        loop.run_until_complete(asyncio.wait_for(test, 60))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def work(seconds: float) -> None:
    """Keep the event loop for a while, as the reading of a large body does."""
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        pass


class SlowMessage(LocalMessage):
    """One that takes longer to read than a turn."""

    __slots__ = ()
    reading: Callable[[], None]

    def decoded(self) -> Any:
        type(self).reading()
        return super().decoded()


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "waits"])
@pytest.mark.parametrize("workers", [1, 100])
def test_one_message_that_takes_long_is_read_in_a_turn(workers: int, waits: bool, is_sync: bool) -> None:
    """However many workers there are; and one more at most, whose handler has just ended its wait for something."""
    passes = Passes()
    run(passes, read_slowly(passes, workers, waits, is_sync))


async def read_slowly(passes: Passes, workers: int, waits: bool, is_sync: bool) -> None:
    broker, read, slow = LocalBroker(logger=None), list[int](), [0.0]

    async def handle(number: int) -> None:
        if waits:
            await asyncio.sleep(0)

    def handle_in_thread(number: int) -> None: ...

    subscription = broker.subscriber("numbers", max_workers=workers)
    subscription(handle_in_thread if is_sync else handle)

    class Message(SlowMessage):
        __slots__ = ()

        @staticmethod
        def reading() -> None:
            read.append(passes.number)
            work(slow[0])

    def record(number: int) -> Outgoing:
        return Outgoing("numbers", b"%d" % number, "c-1", [], "application/json", None, {}, False)

    source = Feed(broker, record, lambda one: Message(one.body, one, one.address, lane="numbers"), lambda message: None)
    async with source:
        # First small ones: then all workers are there, and visit threads with many.
        for slow[0] in (0.0, 6 * SECONDS):
            read.clear()
            source.prepare(COUNT)
            await source.run()
    assert len(read) == COUNT
    assert max(read.count(one) for one in set(read)) <= 1 + (waits or is_sync)


def test_those_who_wait_go_on_in_the_time_that_is_left() -> None:
    passes = Passes()
    run(passes, take_turns(passes))


async def take_turns(passes: Passes) -> None:
    turn = Turn(asyncio.get_running_loop())
    went: list[tuple[int, int]] = []

    async def worker(number: int, seconds: float) -> None:
        await turn.next()
        went.append((number, passes.number))
        work(seconds)

    tasks = [asyncio.create_task(worker(number, 2 * SECONDS if number in (3, 4) else 0.0)) for number in range(20)]
    await asyncio.gather(*tasks)
    assert sorted(number for number, _ in went) == list(range(20))
    by_pass = [[number for number, one in went if one == at] for at in sorted({at for _, at in went})]
    for numbers in by_pass:
        assert not {3, 4} & set(numbers[:-1]), "nobody goes on after one who needed all of it"


async def test_one_that_waits_may_be_cancelled() -> None:
    turn = Turn(asyncio.get_running_loop())
    tasks = [asyncio.create_task(turn.next()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.wait_for(asyncio.wait(tasks), 10)
    assert [task.cancelled() for task in tasks] == [True, False, True]
    await asyncio.wait_for(turn.next(), 10)


async def test_subscriptions_that_always_have_something_to_do_share_the_loop() -> None:
    """Whoever comes last in each turn of the loop finds that the others needed all of its time."""
    loop = asyncio.get_running_loop()
    counts = [0, 0, 0]

    async def worker(number: int, turn: Turn) -> None:
        while max(counts) < 20:
            counts[number] += 1
            work(1.5 * SECONDS)
            await turn.next()

    turns = [Turn(loop) for _ in counts]
    workers = [worker(number, turn) for number, turn in enumerate(turns) for _ in range(2)]
    await asyncio.wait_for(asyncio.gather(*workers), 60)
    assert min(counts) >= 10
