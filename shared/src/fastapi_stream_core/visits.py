"""Sync handlers: a worker's messages go to a thread many at a time, and are settled one by one when they are back."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextvars import Context
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .cancellation import put_back
from .isolation import in_context
from .policy import Verdict

if TYPE_CHECKING:
    from .chunk import Chunk, Outcome, Work
    from .dispatch import Dispatcher
    from .message import StreamMessage

__all__ = ("Visits",)

READ_SECONDS = 0.005
"""Reading messages for one visit takes so much of a turn of the event loop, and one message more."""


class Visits:
    """Takes a worker's first message and those that a thread can handle with it.

    Args:
        dispatcher: whose messages they are.
        chunk: the thread.
    """

    def __init__(self, dispatcher: Dispatcher, chunk: Chunk) -> None:
        self._dispatcher = dispatcher
        self._chunk = chunk

    async def handle(self, first: StreamMessage) -> bool:
        """Handle messages in a thread; False when the first one has to be handled alone."""
        dispatcher, chunk = self._dispatcher, self._chunk
        works = self._bind(first, chunk.size)
        if not works:
            return False
        try:
            outcomes, left = await chunk.run(works, dispatcher._observer)
        except BaseException:  # by the stop: what the thread goes on with, if there is one, stays unsettled
            self._acknowledge(chunk.finished())
            self._put_back(works, chunk.unbegun())
            raise
        self._put_back(works[len(outcomes) :], left)
        error: BaseException | None = None
        try:
            for (message, result, error), (_, context, _) in zip(outcomes, works[: len(outcomes)], strict=True):
                try:
                    await self._conclude(context, message, result, error)
                finally:
                    dispatcher._over((message,))
        finally:
            outcomes, error = [], None  # since Python 3.13 an error that was raised below holds this frame too
            if chunk.is_cancelled:
                put_back()
        return True

    def _acknowledge(self, outcomes: Sequence[Outcome]) -> None:
        """Settle what was handled before the message for which a thread is given up."""
        dispatcher = self._dispatcher
        for message, result, error in outcomes:
            if error is not None or inspect.iscoroutine(result):
                continue
            pending = dispatcher._settlement.acknowledge(message)
            if pending is not None:
                dispatcher._crew.spawn(dispatcher._settlement.wait(message, pending))

    def _put_back(self, works: Sequence[Work], left: Sequence[StreamMessage]) -> None:
        """Have the messages that are left handled later; the others, which were dropped, are over."""
        dispatcher = self._dispatcher
        for message in left:
            del dispatcher._running[message]
        dispatcher._over([message for message, _, _ in works if message in dispatcher._running])
        dispatcher._ready.extendleft(reversed(left))

    def _bind(self, message: StreamMessage, size: int) -> list[Work]:
        """Take messages that a thread can handle, the given one first; none when that one has to be handled alone."""
        works: list[Work] = []
        dispatcher, ends = self._dispatcher, perf_counter() + READ_SECONDS
        ready, held, replies = dispatcher._ready, dispatcher._redelivery.held, dispatcher._answer.replies
        base, bind = dispatcher._context, dispatcher._plan.bind
        while not (replies and message.reply_to is not None):
            context = base.copy()
            try:
                call = context.run(bind, message)
            except BaseException:  # it fails in the same way where it is handled alone, and is settled there
                break
            if call is None:
                break
            if works:
                ready.popleft()
            works.append((message, context, call))
            now = dispatcher._running[message] = perf_counter()
            if len(works) >= size or now >= ends or not ready or dispatcher._redelivery.due:
                break
            message = ready[0]
            if message.redelivered or message.lane in held:
                break
        return works

    async def _conclude(
        self, context: Context, message: StreamMessage, result: Any, error: BaseException | None
    ) -> None:
        """Settle a message whose handler ran in a thread."""
        dispatcher = self._dispatcher
        try:
            if error is not None:
                raise error
            if inspect.iscoroutine(result):
                await in_context(context, result)
        except BaseException as raised:
            error = None  # what this frame holds, the error holds
            await in_context(context, dispatcher._settlement.failed([message], raised))
            if message in dispatcher._outage.kept:
                return
        else:
            await dispatcher._settlement.finish(message, Verdict.ACK)
        if dispatcher._logs(dispatcher._log_level):
            context.run(dispatcher._report.message_handled, message, dispatcher._log_level)
