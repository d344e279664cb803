"""Conformance: starts and stops that are interrupted, repeated or come from elsewhere leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from time import monotonic
from typing import Any, NamedTuple

import anyio
import pytest
from fastapi import FastAPI

from ...errors import NotStarted, StartInterrupted, WrongEventLoop
from ...router import StreamRouter
from .client import client_of
from .harness import DEADLINE, Harness, Inbox, MemoryHarness

__all__ = ("StartSuite",)

PARTS = 8
"""Moments of a start, and of a stop, at which it is interrupted."""
_HAS_PROC = os.path.isdir("/proc/self/task")
_POOLS = ("asyncio_", "AnyIO worker thread", "ThreadPoolExecutor")


class Held(NamedTuple):
    """What a process holds that a stopped broker must not."""

    tasks: int
    sockets: int
    threads: int

    @classmethod
    def now(cls) -> Held:
        return cls(len(asyncio.all_tasks()), _sockets(), _threads())

    async def again(self) -> None:
        """Wait until no more is held than this."""
        deadline = monotonic() + DEADLINE
        # Nothing tells when a socket is closed.
        while any(one > before for one, before in zip(Held.now(), self, strict=True)) and monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        now = Held.now()
        assert all(one <= before for one, before in zip(now, self, strict=True)), (now, self, asyncio.all_tasks())


def _sockets() -> int:
    """Where the system tells: under Linux."""
    count = 0
    for name in os.listdir("/proc/self/fd") if _HAS_PROC else ():
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:  # closed meanwhile
            continue
    return count


def _threads() -> int:
    """Threads of client libraries included, those of thread pools left out: they rest there."""
    pooled = [thread for thread in threading.enumerate() if thread.name.startswith(_POOLS)]
    return (len(os.listdir("/proc/self/task")) if _HAS_PROC else threading.active_count()) - len(pooled)


class StartSuite:
    """A part of `LifeSuite`."""

    @pytest.mark.parametrize("way", ["cancel start", "stop while starting", "cancel stop", "two starts"])
    async def test_an_interrupted_start_or_stop_leaves_nothing(
        self, harness: Harness, way: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()
        options = {"group": f"group-{address}"} if harness.features.competes else {}

        @harness.subscribe(router, address, **options)
        async def handler(msg: int) -> None:
            seen.put(msg)

        broker = router.broker
        async with harness.app_environment(router):
            await broker.start()
            await broker.stop()
            held, began = Held.now(), monotonic()
            await broker.start()
            seconds = monotonic() - began
            await broker.stop()
            for part in range(PARTS):
                await self._interrupt(router, way, seconds * part / PARTS)
                assert not broker.running
                await held.again()
            await broker.start()
            for number in range(3):
                await harness.publish(broker, number, address)
            assert sorted(await seen.take_many(3)) == [0, 1, 2]
            await broker.stop()
            await held.again()
        gc.collect()
        assert [record for record in caplog.records if record.name == "asyncio" and record.levelno >= 40] == []

    async def _interrupt(self, router: StreamRouter[Any], way: str, seconds: float) -> None:
        broker = router.broker
        if way == "cancel stop":
            await broker.start()
            stopping = asyncio.ensure_future(broker.stop())
            await asyncio.wait([stopping], timeout=seconds / 4)
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            await broker.stop()
            return
        starting = asyncio.ensure_future(broker.start())
        await asyncio.wait([starting], timeout=seconds)
        if way == "cancel start":
            starting.cancel()
            await asyncio.wait([starting])
            if starting.cancelled():
                return
        elif way == "two starts":
            second = asyncio.ensure_future(broker.start())
            starting.cancel()
            await second
            assert broker.running
        await broker.stop()
        await asyncio.wait([starting])
        if not starting.cancelled() and (error := starting.exception()) is not None:
            assert isinstance(error, StartInterrupted)

    async def test_a_test_broker_takes_over_a_started_broker_and_gives_it_back(self, harness: Harness) -> None:
        if isinstance(harness, MemoryHarness):
            pytest.skip("it is under a test broker already")
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address)
        async def handler(msg: str) -> None:
            seen.put(msg)

        test_broker: Any = harness.test_broker_of(router)
        async with harness.running(router) as broker:
            await harness.publish(broker, "before", address)
            assert await seen.take() == "before"
            async with test_broker(router) as tested:
                assert tested is broker
                await harness.publish(broker, "in memory", address)
                assert await seen.take() == "in memory"
                handler.mock.assert_called_once_with("in memory")
            await harness.publish(broker, "after", address)
            assert await seen.take() == "after"
        assert seen.all == ["before", "in memory", "after"]

    async def test_publishing_from_another_event_loop_is_refused_before_anything_is_sent(
        self, harness: Harness
    ) -> None:
        in_memory = isinstance(harness, MemoryHarness)  # there every loop is served
        seen = Inbox()
        router = harness.router()
        address = harness.address()
        publisher = harness.publisher(router, address)

        @harness.subscribe(router, address)
        async def handler(msg: str) -> None:
            seen.put(msg)

        async with harness.running(router) as broker:
            calls: list[Callable[[], Awaitable[Any]]] = [
                lambda: harness.publish(broker, "elsewhere", address),
                lambda: publisher.send("elsewhere"),
            ]
            for call in calls:
                refused = pytest.raises(WrongEventLoop, match=r"anyio\.from_thread\.run")
                with nullcontext() if in_memory else refused:
                    await asyncio.to_thread(_run, call)
                if in_memory:
                    assert await seen.take() == "elsewhere"
            await harness.publish(broker, "here", address)
            assert await seen.take() == "here"
            assert seen.all == [*["elsewhere"] * (2 if in_memory else 0), "here"]

    async def test_a_thread_publishes_through_the_loop_of_the_broker(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        first, second = harness.address(), harness.address()

        @harness.subscribe(router, first)
        def handler(msg: str) -> None:
            anyio.from_thread.run(harness.publish, router.broker, f"{msg} from a handler", second)

        @harness.subscribe(router, second)
        async def collect(msg: str) -> None:
            seen.put(msg)

        @router.post("/send")
        def send() -> None:
            anyio.from_thread.run(harness.publish, router.broker, "from an endpoint", second)

        app = FastAPI()
        app.include_router(router)
        async with harness.app_environment(router), client_of(app) as client:
            await harness.publish(router.broker, "sent", first)
            assert await seen.take() == "sent from a handler"
            await client.post("/send")
            assert await seen.take() == "from an endpoint"

    async def test_what_is_published_before_the_start_and_after_the_stop_is_refused(self, harness: Harness) -> None:
        router = harness.router()
        broker = router.broker
        address = harness.address()

        @harness.subscribe(router, address)
        async def handler(msg: str) -> None: ...

        with pytest.raises(NotStarted):
            await harness.publish(broker, "a", address)
        async with harness.running(router):
            await harness.publish(broker, "a", address)
        with pytest.raises(NotStarted):
            await harness.publish(broker, "a", address)
        assert not broker.running


def _run(call: Callable[[], Awaitable[Any]]) -> None:
    async def main() -> None:
        await call()

    asyncio.run(main())
