"""Conformance: cancellations that a handler makes, and not the stop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import anyio
from fastapi import BackgroundTasks, Depends

from ...message import StreamMessage
from .harness import DEADLINE, Harness, Inbox, needs, until

__all__ = ("CancellationSuite",)


class CancellationSuite:
    """What a cancellation does to its message, and to the next one of the same worker."""

    async def _handle_both(
        self, harness: Harness, handler: Callable[..., Any], seen: Inbox, count: int, rejected: int = 0
    ) -> dict[str, int]:
        """Have one worker handle "bad", then "good", until so much was seen and rejected; return what was counted."""
        router = harness.router()
        address = harness.address()
        counts = router.broker.report.counts
        harness.subscribe(router, address, max_workers=1)(handler)
        async with harness.running(router) as broker:
            for body in ("bad", "good"):
                await harness.publish(broker, body, address)
            await seen.take_many(count)
            await until(lambda: counts.get("rejected", 0) == rejected)
        return dict(counts)

    async def test_a_background_task_that_is_cancelled_is_one_that_failed(self, harness: Harness) -> None:
        seen = Inbox()

        async def task() -> None:
            other = asyncio.ensure_future(asyncio.Event().wait())
            other.cancel()
            await other

        async def handler(msg: str, tasks: BackgroundTasks) -> None:
            if msg == "bad":
                tasks.add_task(task)
            else:
                tasks.add_task(seen.put, msg)

        assert await self._handle_both(harness, handler, seen, 1) == {"background_failed": 1}
        assert seen.all == ["good"]

    async def test_a_handler_that_its_own_scope_ends_failed(self, harness: Harness) -> None:
        seen = Inbox()
        runs: list[str] = []

        async def limited() -> AsyncIterator[None]:
            with anyio.move_on_after(0.01):
                yield

        async def handler(msg: str, _: Annotated[None, Depends(limited)]) -> None:
            runs.append(msg)
            if msg == "bad":
                await asyncio.Event().wait()
            seen.put(msg)

        expected = 5 if harness.features.settles else 1
        counts = await self._handle_both(harness, handler, seen, 1, rejected=1)
        assert seen.all == ["good"]
        assert runs.count("bad") == counts["failed"] == expected

    async def test_a_cancellation_that_a_message_leaves_behind_is_not_the_next_ones(self, harness: Harness) -> None:
        seen = Inbox()

        async def handler(msg: str) -> None:
            if msg == "bad":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            else:
                await asyncio.sleep(0.01)
            seen.put(msg)

        await self._handle_both(harness, handler, seen, 2)
        assert seen.all == ["bad", "good"]

    async def test_a_late_cancellation_is_a_failure_of_the_message_that_runs(self, harness: Harness) -> None:
        needs(harness, "settles")
        seen = Inbox()
        running = asyncio.Event()
        others: list[asyncio.Task[None]] = []

        async def cancel_later(task: asyncio.Task[Any]) -> None:
            await asyncio.wait_for(running.wait(), DEADLINE)
            task.cancel()

        async def handler(msg: str, message: StreamMessage) -> None:
            if msg == "bad":
                task = asyncio.current_task()
                assert task is not None
                others.append(asyncio.ensure_future(cancel_later(task)))
            elif message.attempt == 1:
                running.set()
                await asyncio.sleep(DEADLINE)
            seen.put((msg, message.attempt))

        assert await self._handle_both(harness, handler, seen, 2) == {"failed": 1, "retried": 1}
        assert seen.all == [("bad", 1), ("good", 2)]
