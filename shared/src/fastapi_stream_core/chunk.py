"""Sync handlers: many messages in one visit to a thread, where a visit costs more than a short handler."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
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
    """

    def __init__(self) -> None:
        self.size = 1
        self.stopping = False
        self._works: Sequence[Work] = ()
        self._outcomes: Sequence[Outcome] = ()
        self._has_thread = False
        self._dropped: set[StreamMessage] = set()

    async def run(self, works: Sequence[Work], observer: Observer | None) -> tuple[list[Outcome], list[StreamMessage]]:
        """Handle messages in a thread.

        Returns:
            The outcomes of those that were handled: the first ones; and those that still have to be.
        """
        outcomes: list[Outcome] = []
        self._works, self._outcomes, self._has_thread = works, outcomes, False
        is_quick = False
        try:
            is_quick = await visit_thread(self._visit, works, outcomes, observer)
        except Exception as error:  # there was no thread to be had
            outcomes = [(works[0][0], None, error)]
        self._works = self._outcomes = ()
        count = len(outcomes)
        self.size = min(2 * count, MOST) if is_quick else max(count // 2, 1)
        left = [message for message, _, _ in works[count:] if message not in self._dropped]
        self._dropped.clear()
        return outcomes, left

    def unbegun(self) -> list[StreamMessage]:
        """Return what the thread does not begin any more, since the subscription stops."""
        behind = self._works[len(self._outcomes) + self._has_thread :] if self.stopping else ()
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
            del works, outcomes  # what this frame holds, each error of them holds


def _handle(message: StreamMessage, call: Callable[[], Any], observer: Observer | None) -> Any:
    if observer is not None:
        observer.called(message)
    return call()
