"""Counts what the handling of a message costs: calls, tasks, futures, memory. A slow machine counts the same."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Protocol, TypeVar

from .. import chunk, turn, visits
from . import feed

__all__ = ("TooMuchWork", "Work", "Workload", "count_work")

T = TypeVar("T")

MESSAGES = 1000
MOMENT_SECONDS = 0.002
MOMENTS = 20
SHOWN = 80
LEAST = 0.5
_NOT_COUNTED = {__file__, feed.__file__}
_ASKED = {logging.Logger.isEnabledFor.__code__}
_LOGGING = logging.Logger.log.__code__.co_filename


class Workload(AbstractAsyncContextManager[Any], Protocol):
    """What can be counted: `Feed` is one."""

    def prepare(self, count: int) -> None:
        """Make what a client library would have received; it is not counted."""

    async def run(self) -> None:
        """Handle it."""


class TooMuchWork(AssertionError):
    """Handling a message costs more than its limits allow.

    Attributes:
        work: what was counted.
        exceeded: each count that is too high, with its limit.
    """

    def __init__(self, work: Work, exceeded: dict[str, tuple[float, float]]) -> None:
        self.work = work
        self.exceeded = exceeded
        said = ", ".join(f"{name} {count:g} (at most {limit:g})" for name, (count, limit) in exceeded.items())
        super().__init__(f"for each message: {said}.\n{work}")


@dataclass(frozen=True)
class Work:
    """What was counted, each figure for one message.

    Only the thread of the event loop is looked at.

    Attributes:
        python_calls: calls of Python functions, and resumptions of coroutines and generators.
        c_calls: calls of functions and methods that are not written in Python.
        tasks: tasks that the event loop made.
        futures: futures that the event loop made.
        log_calls: calls into `logging` other than the question whether a level is on.
        kept_objects: objects under the garbage collector that are still there afterwards.
        kept_blocks: blocks of memory of any object that are still there afterwards.
        calls: how often each function was called, the most frequent one first.
    """

    python_calls: float
    c_calls: float
    tasks: float
    futures: float
    log_calls: float
    kept_objects: float
    kept_blocks: float
    calls: dict[str, float]

    @property
    def all_calls(self) -> float:
        """Calls of either kind."""
        return self.python_calls + self.c_calls

    def check(self, **limits: float) -> None:
        """Hold the figures against limits, given by the names of the attributes.

        Raises:
            TooMuchWork: a figure is above its limit.
        """
        counts = {name: float(getattr(self, name)) for name in limits}
        exceeded = {name: (counts[name], limit) for name, limit in limits.items() if counts[name] > limit}
        if exceeded:
            raise TooMuchWork(self, exceeded)

    def __str__(self) -> str:
        lines = [
            f"{self.all_calls:.2f} calls ({self.python_calls:.2f} Python, {self.c_calls:.2f} C),"
            f" {self.tasks:.3f} tasks, {self.futures:.3f} futures, {self.log_calls:.2f} calls into logging;"
            f" kept: {self.kept_objects:.3f} objects, {self.kept_blocks:.3f} blocks of memory.",
            "Most frequent:",
        ]
        lines += [f"{count:8.2f}  {name}" for name, count in [*self.calls.items()][:SHOWN] if count >= LEAST]
        return "\n".join(lines)


def count_work(workload: Callable[[], Workload], messages: int = MESSAGES) -> Work:
    """Run a workload on an event loop of its own, and count what it does.

    It runs twice to be warm, once to see what is kept, and once to be counted. A turn of the event loop, and a
    visit to a thread, last here as long as there is work, so that how many there are does not depend on the clock.

    Args:
        workload: makes the workload, on the event loop.
        messages: how many messages each time; a multiple of the batch size where there are batches.
    """
    loop = _CountingLoop()
    try:
        with _long_turns():
            return loop.run_until_complete(_count(loop, workload, messages))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _count(loop: _CountingLoop, make: Callable[[], Workload], messages: int) -> Work:
    workload = make()
    async with workload:
        for _ in range(2):
            workload.prepare(messages)
            await workload.run()
        before = await _memory()
        workload.prepare(messages)
        await workload.run()
        after = await _memory()
        workload.prepare(messages)
        calls = _Calls()
        tasks, futures = loop.tasks, loop.futures
        sampled = sys.getprofile()
        sys.setprofile(calls)
        try:
            await workload.run()
        finally:
            sys.setprofile(sampled)
        tasks, futures = loop.tasks - tasks, loop.futures - futures
    named = calls.named()
    return Work(
        python_calls=calls.python.total() / messages,
        c_calls=calls.c.total() / messages,
        tasks=tasks / messages,
        futures=futures / messages,
        log_calls=calls.into_logging() / messages,
        kept_objects=(after[0] - before[0]) / messages,
        kept_blocks=(after[1] - before[1]) / messages,
        calls={name: count / messages for name, count in named.most_common()},
    )


@contextmanager
def _long_turns() -> Iterator[None]:
    seconds = turn.SECONDS, chunk.SECONDS, visits.READ_SECONDS
    turn.SECONDS = chunk.SECONDS = visits.READ_SECONDS = 3600.0
    try:
        yield
    finally:
        turn.SECONDS, chunk.SECONDS, visits.READ_SECONDS = seconds


async def _memory() -> tuple[int, int]:
    """Return the number of objects and of blocks of memory, when everything that was begun is over.

    A thread lets go of its last work a moment after it gave the result.
    """
    last = (0, 0)
    for _ in range(MOMENTS):
        await asyncio.sleep(MOMENT_SECONDS)
        gc.collect()
        now = (len(gc.get_objects()), sys.getallocatedblocks())
        if now == last:
            break
        last = now
    return last


class _Calls:
    """A profile function that counts and does nothing else."""

    def __init__(self) -> None:
        self.python: Counter[CodeType] = Counter()
        self.c: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call":
            if code.co_filename not in _NOT_COUNTED:
                self.python[code] += 1
        elif event == "c_call" and code.co_filename not in _NOT_COUNTED:
            self.c[_name_of(argument)] += 1

    def into_logging(self) -> int:
        mine = {code: count for code, count in self.python.items() if code.co_filename == _LOGGING}
        return sum(count for code, count in mine.items() if code not in _ASKED)

    def named(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for code, count in self.python.items():
            found[f"{code.co_name} ({'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_firstlineno})"] += count
        return found + self.c


def _name_of(function: Any) -> str:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{module}.{name}" if module and module != "builtins" else name


class _CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts the tasks and futures it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = 0
        self.futures = 0

    def create_task(self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:
        self.tasks += 1
        return super().create_task(coro, **options)

    def create_future(self) -> asyncio.Future[Any]:
        self.futures += 1
        return super().create_future()
