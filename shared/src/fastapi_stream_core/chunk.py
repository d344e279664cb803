"""Sync handlers: many messages in one visit to a thread, where a visit costs more than a short handler."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .calls import visit_thread
from .policy import Verdict

if TYPE_CHECKING:
    from .memory import Observer
    from .message import StreamMessage

__all__ = ("Chunk", "Outcome", "Work")

MOST = 100
"""Messages of one visit."""
SECONDS = 0.002
"""After so much work a visit ends; so acknowledgements follow soon, and a slow handler is visited for each message."""

Work = tuple["StreamMessage", Context, Callable[[], Any]]
"""A message, its context, and what is left to call for it there."""
Outcome = tuple["StreamMessage", Any, BaseException | None]
"""A message, what its handler returned, and what it raised."""


class Chunk:
    """The visits of one worker.

    Messages are handled one after another, each in a context of its own. The first one that fails or is to come again
    ends the visit, and so does a result that has to be awaited: nothing overtakes them.

    Attributes:
        size: how many messages the next visit should have: as many as their handlers were quick.
        stopping: a visit ends with the message that runs.
        is_cancelled: somebody cancelled the worker during the last visit, which went on.
    """

    def __init__(self) -> None:
        self.size = 1
        self.stopping = False
        self.is_cancelled = False
        self._works: Sequence[Work] = ()
        self._outcomes: Sequence[Outcome] = ()
        self._has_thread = self._is_over = False
        self._end: asyncio.Future[None] | None = None
        self._dropped: set[StreamMessage] = set()

    async def run(self, works: Sequence[Work], observer: Observer | None) -> tuple[list[Outcome], list[StreamMessage]]:
        """Handle messages in a thread. When anybody but the stop cancels the worker, the thread is waited for first.

        Returns:
            The outcomes of those that were handled: the first ones; and those that still have to be.

        Raises:
            CancelledError: the stop cancelled the worker, or anybody before the thread had begun, or twice.
        """
        outcomes: list[Outcome] = []
        self._works, self._outcomes, self._has_thread = works, outcomes, False
        self._is_over, self._end, self.is_cancelled = False, None, False
        is_quick = False
        try:
            is_quick = await visit_thread(self._visit, works, outcomes, observer)
        except Exception as error:  # there was no thread to be had
            outcomes = [(works[0][0], None, error)]
        except asyncio.CancelledError:
            if self.stopping or not self._has_thread:
                raise
            self.is_cancelled = True
            await self._ended()
        self._works = self._outcomes = ()
        count = len(outcomes)
        self.size = min(2 * count, MOST) if is_quick else max(count // 2, 1)
        left = [message for message, _, _ in works[count:] if message not in self._dropped]
        self._dropped.clear()
        return outcomes, left

    async def _ended(self) -> None:
        self._end = asyncio.get_running_loop().create_future()
        if not self._is_over:  # the thread sets that before it looks for who waits
            await self._end

    def unbegun(self) -> list[StreamMessage]:
        """Return what the thread does not begin any more: the subscription stops, or it had none."""
        ends = self.stopping or not self._has_thread
        behind = self._works[len(self._outcomes) + self._has_thread :] if ends else ()
        return [message for message, _, _ in behind if message not in self._dropped]

    def finished(self) -> list[Outcome]:
        """Return what the thread has finished, which may go on meanwhile."""
        return list(self._outcomes)

    def drop(self, chosen: Callable[[StreamMessage], bool]) -> None:
        """Forget messages that wait for the thread; what runs goes on."""
        self._dropped.update(message for message, _, _ in self._works if chosen(message))

    def _visit(self, works: Sequence[Work], outcomes: list[Outcome], observer: Observer | None) -> bool:
        """Tell whether all were handled before the time was over."""
        self._has_thread = True
        ends = perf_counter() + SECONDS
        try:
            for message, context, call in works:
                if message in self._dropped:
                    return False
                try:
                    result = context.run(_handle, message, call, observer)
                except BaseException as error:
                    outcomes.append((message, None, error))
                    return False
                outcomes.append((message, result, None))
                if self.stopping or perf_counter() >= ends or inspect.iscoroutine(result):
                    return False
                if message._verdict is Verdict.NACK:  # its handler said so: its lane waits
                    return False
            return True
        finally:
            if self._outcomes is outcomes:  # otherwise it was given up
                self._is_over = True
                if self._end is not None:
                    with suppress(RuntimeError):  # the event loop has ended meanwhile
                        self._end.get_loop().call_soon_threadsafe(_finish, self._end)
            del works, outcomes  # what this frame holds, each error of them holds


def _finish(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _handle(message: StreamMessage, call: Callable[[], Any], observer: Observer | None) -> Any:
    if observer is not None:
        observer.called(message)
    return call()
