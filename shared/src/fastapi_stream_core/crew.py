"""The workers of one subscription: tasks that are started when they are needed, and rest until they are woken."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from .turn import Turn

if TYPE_CHECKING:
    from .subscription import Subscription

__all__ = ("Crew",)


class Crew:
    """Wakes as many workers as there is work for.

    One worker goes on at once; the others turn by turn while messages still wait, twice as many each time. So handlers
    that wait soon run at the same time, and a worker that finds its message done by another is never woken for it.

    Args:
        subscription: whose messages are handled.
        work: what a worker does, until it is told to stop.
        waits: tells how many messages wait for a worker; 0 while nothing is to be started.

    Attributes:
        turn: of the event loop, shared by the workers.
        begins: whether a worker may begin with a message; otherwise they finish what they do, and rest.
        tasks: the workers, and whatever else has to end before the subscription does.
    """

    def __init__(
        self, subscription: Subscription, work: Callable[[], Coroutine[Any, Any, None]], waits: Callable[[], int]
    ) -> None:
        self._subscription = subscription
        self._work = work
        self._waits = waits
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._limit = subscription.max_workers
        self._resting: deque[asyncio.Future[None]] = deque()
        self._size = 0
        self._is_spreading = False
        self.turn = Turn(self._loop)
        self.begins = True
        self.tasks: set[asyncio.Task[None]] = set()

    def wake(self, count: int) -> None:
        """Have `count` messages handled that wait now."""
        if not count:
            return
        self.turn.begin()
        self._wake(1)
        if count > 1 and not self._is_spreading and (self._resting or self._size < self._limit):
            self._is_spreading = True
            self._loop.call_soon(self._spread, 2)

    def _spread(self, count: int) -> None:
        self._is_spreading = False
        self._wake(min(count, self._waits()))
        if self._waits() and (self._resting or self._size < self._limit):
            self._is_spreading = True
            self._loop.call_soon(self._spread, 2 * count)

    def _wake(self, count: int) -> None:
        while count and self._resting:
            resting = self._resting.popleft()
            if not resting.done():
                resting.set_result(None)
                count -= 1
        while count and self._size < self._limit:
            count -= 1
            self._size += 1
            # Not in the context of the message that happened to wake it.
            worker: asyncio.Task[None] = self._context.copy().run(self._begin)
            self.tasks.add(worker)
            worker.add_done_callback(self._worker_ended)

    def _begin(self) -> asyncio.Task[None]:
        return self._loop.create_task(self._work(), name=self._subscription.label)

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        self._size -= 1
        self.tasks.discard(worker)
        if not worker.cancelled() and (error := worker.exception()) is not None:
            report = self._subscription.broker.report
            report.line(logging.ERROR, "%s: a worker ended: %r", self._subscription.label, error, error=error)
        if self._waits():
            self.wake(1)

    async def rest(self, seconds: float | None = None) -> None:
        """Wait to be woken, `seconds` at most."""
        resting = self._loop.create_future()
        self._resting.append(resting)
        if seconds is None:
            await resting
            return
        try:
            await asyncio.wait_for(resting, seconds)
        except asyncio.TimeoutError:
            if resting in self._resting:
                self._resting.remove(resting)

    def wake_all(self) -> None:
        """Wake whoever rests, at the end."""
        for resting in self._resting:
            if not resting.done():
                resting.set_result(None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside the workers that has to end before the subscription does."""
        task: asyncio.Task[None] = self._context.copy().run(self._loop.create_task, work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def end(self, timeout: float | None, cancelling: Callable[[], None]) -> None:
        """Wait for what still runs, `timeout` seconds at most, then cancel it and call `cancelling`, before it ends."""
        if self.tasks:
            _, late = await asyncio.wait(self.tasks, timeout=timeout)
            for task in late:
                task.cancel()
            if late:
                cancelling()
                await asyncio.wait(late, timeout=1.0)
