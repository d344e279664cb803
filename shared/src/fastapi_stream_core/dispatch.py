"""Handles the messages of one subscription: workers, order, fairness."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .answer import Answer
from .batch import Batches
from .cancellation import cancellations_of, put_back
from .chunk import Chunk
from .copies import Copies
from .crew import Crew
from .isolation import as_coroutine, context_for, in_context, rest_in_context
from .message import StreamMessage
from .outage import Outage
from .policy import AckPolicy, Verdict
from .progress import Progress
from .redelivery import Redelivery, take
from .settlement import Settlement
from .visits import Visits

if TYPE_CHECKING:
    from .memory import Observer
    from .subscription import Subscription
    from .transport import Source

__all__ = ("Dispatcher",)

TELL_SECONDS = 1.0
"""Of a stop that waits for handlers, until it is said which ones."""


class Dispatcher:
    """Runs the handler of one subscription on one event loop.

    Messages that a source fetched wait here until one of the workers is free. The workers are tasks that live
    as long as there is something to do; a message costs no task of its own. It has a context of its own: a copy of
    the one in which the dispatcher was made.
    """

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self._plan = subscription.plan
        self._call = subscription.plan.run
        self._ack_first = subscription.ack_policy is AckPolicy.ACK_FIRST
        self._manual = subscription.ack_policy is AckPolicy.MANUAL
        self._answer = Answer(subscription)
        self._log_level = subscription.broker.log_level
        self._logs = subscription.broker.report.is_on
        self._report = subscription.broker.report
        self._observer: Observer | None = None
        self.loop = asyncio.get_running_loop()
        self._context = context_for(subscription.broker)
        self._limit = subscription.max_workers
        self._ready: deque[StreamMessage] = deque()
        self._running: dict[StreamMessage, float] = {}
        self._crew = Crew(subscription, self._work, self._waits)
        self._redelivery = Redelivery(subscription, self._ready, self._running, self._crew.wake)
        # Workers of a sync handler that waits would stand in line behind each other.
        once = self._limit == 1 and not subscription.batch and not self._answer.publishers
        late = not self._ack_first and not self._manual
        self._chunk = Chunk() if once and late and self._plan.is_sync else None
        self._batches = Batches(self) if subscription.batch else None
        self._several = None if self._batches is None else self._batches.handle
        if self._chunk is not None:
            self._several = Visits(self, self._chunk).handle
        self._copies = Copies(self._running)
        self._progress = Progress(self.loop)
        self._outage = Outage(self)
        self._settlement = Settlement(subscription, self._redelivery, self._outage)
        self.settle = self._settlement.by_hand
        self._stopping = False

    def observe(self, observer: Observer) -> None:
        """Tell somebody of every message from now on."""
        self._observer = self._settlement.observer = observer

    # Intake.

    def accept(self, source: Source, messages: Sequence[StreamMessage]) -> None:
        """Take messages that a source fetched."""
        ready = self._ready
        for message in messages:
            message._source = source
            if message.redelivered and self._copies.keep(message):
                continue
            ready.append(message)
        self._crew.wake(len(messages))

    def backlog(self) -> int:
        """Return how many fetched messages keep a place; a lane that waits is paused at the source and keeps none."""
        return len(self._ready) + len(self._running) + self._redelivery.waiting()

    def active(self) -> int:
        """Return how many fetched messages wait for a worker, or run."""
        return len(self._ready) + len(self._running) + len(self._redelivery.due)

    def held_bytes(self) -> int:
        """Return how many bytes the messages hold that are fetched and not finished."""
        copies = (copy for copies in self._copies.kept.values() for copy in copies)
        return sum(one.size for one in (*self._ready, *self._running, *self._redelivery.messages(), *copies))

    def bound_held(self, window: int) -> None:
        """Say how many messages may wait behind failed ones; what is more is given back, or keeps a place."""
        self._redelivery.most_held = window

    def give_back(self) -> bool:
        """Have sources fetch again later what waits behind failed messages, when nothing else waits; False: nothing."""
        return not self._ready and self._redelivery.give_back()

    @property
    def handled(self) -> int:
        """How many messages are finished."""
        return self._progress.handled

    def ready(self) -> int:
        """Return how many messages wait for a worker: those that an idle one is about to take do not."""
        return max(0, len(self._ready) - max(0, self._limit - len(self._running)))

    def unfinished(self) -> set[StreamMessage]:
        """Return the messages that wait for a worker or run, for sources whose claims expire and can be extended."""
        return {*self._ready, *self._running, *self._redelivery.due}

    @property
    def paused(self) -> bool:
        """Whether nothing new is begun, since a broker is away; then nothing is to be fetched."""
        return self._outage.active

    def wake(self) -> None:
        """Have what waits for a worker handled."""
        self._crew.wake(self._waits())

    async def unpaused(self) -> None:
        """Wait until it goes on, stops, or a source is broken."""
        await self._progress.wait(None, sys.maxsize)

    def tell(self) -> None:
        """Have whoever waits for room, or until it goes on, look again."""
        self._progress.tell()

    async def wait_finished(self, timeout: float | None = None, count: int = 1) -> None:
        """Wait until `count` messages more are finished, or one is put aside, `timeout` seconds at most."""
        await self._progress.wait(timeout, count)

    def late(self) -> None:
        """Count an acknowledgement that came too late: its connection or partition is gone."""
        self._report.count("late")

    def report_close(self, error: BaseException) -> None:
        """Log that the source did not close cleanly."""
        self._report.line(logging.WARNING, "%s: closing the consumer failed: %r", self.subscription.label, error)

    def report_drain(self, error: BaseException) -> None:
        """Log that something went wrong while handlers were waited for, which are cancelled then."""
        self._report.line(logging.ERROR, "%s: waiting for its handlers failed: %r", self.subscription.label, error)

    async def revoke(self, lanes: Iterable[Hashable], timeout: float) -> None:
        """Give up lanes that went to another consumer: drop what waits, finish what runs, `timeout` seconds at most."""
        gone = set(lanes)
        self._drop(lambda message: message.lane in gone)
        deadline = self.loop.time() + timeout
        while any(message.lane in gone for message in self._running) and (left := deadline - self.loop.time()) > 0:
            await self.wait_finished(left)

    def forget(self, source: Source) -> list[StreamMessage]:
        """Drop what waits of a source that is gone, and return it; what runs goes on."""
        return self._drop(lambda message: message._source is source)

    def _drop(self, chosen: Callable[[StreamMessage], bool]) -> list[StreamMessage]:
        self._progress.tell()
        if self._chunk is not None:
            self._chunk.drop(chosen)
        gathered = [] if self._batches is None else self._batches.drop(chosen)
        waiting = gathered + self._outage.drop(chosen) + self._redelivery.drop(chosen)
        dropped = waiting + take(self._ready, chosen) + self._copies.drop(chosen)
        self.wake()  # what waited behind that
        return dropped

    def _is_finished(self, message: StreamMessage) -> bool:
        """Tell whether a copy has nothing left to do: its message was handled while it waited."""
        return message.attempt == 1 and message._source is not None and message._source.is_finished(message)

    # Workers.

    def _waits(self) -> int:
        return 0 if not self._crew.begins else len(self._ready) + len(self._redelivery.due)

    async def _work(self) -> None:
        """Handle messages one after another: the path of every message, in one coroutine and with local names.

        A coroutine of its own for each message would cost a tenth of everything else that is done for it.
        """
        redelivery, ready, running, turn = self._redelivery, self._ready, self._running, self._crew.turn
        due, kept, progress, settlement = redelivery.due, self._copies.kept, self._progress, self._settlement
        several, call, answer = self._several, self._call, self._answer
        crew, kept_back, coroutine_type = self._crew, self._outage.kept, CoroutineType
        publishers, replies, ack_first, settles = answer.publishers, answer.replies, self._ack_first, not self._manual
        acked, now, base = Verdict.ACK, perf_counter, self._context
        worker: Any = asyncio.current_task()
        is_cancelled = cancellations_of(worker)
        while True:
            logged, observer = self._logs(self._log_level), self._observer
            moment = now()
            if turn.is_awaited or moment >= turn.ends:  # those that were woken before may have needed all of it
                await turn.next()
                moment = now()
            while crew.begins:
                if due:
                    message = due.popleft()
                elif ready:
                    message = ready.popleft()
                else:
                    break
                if (redelivery.held and redelivery.holds(message)) or (
                    message.redelivered and self._is_finished(message)
                ):
                    progress.tell()
                    continue
                if several is not None and await several(message):
                    if worker._must_cancel or is_cancelled():
                        return
                    if now() >= turn.ends:
                        await turn.next()
                    continue
                running[message] = moment
                waited = False
                context = base.copy()
                try:
                    if ack_first:
                        pending = settlement.acknowledge(message)
                        if pending is not None:
                            await settlement.wait(message, pending)
                    if observer is not None:
                        context.run(observer.called, message)
                    try:
                        work = context.run(call, message)
                        if type(work) is not coroutine_type:
                            work = as_coroutine(work)
                        try:
                            first = context.run(work.send, None)
                        except StopIteration as stop:  # it did not wait for anything
                            result = stop.value
                        else:
                            waited = True
                            result = await rest_in_context(context, work, first)
                        if publishers or (replies and message.reply_to is not None):
                            work = answer.send(message, result)
                            try:
                                first = context.run(work.send, None)
                            except StopIteration:
                                pass
                            else:
                                await rest_in_context(context, work, first)
                    except BaseException as error:
                        message.background = None
                        await in_context(context, settlement.failed([message], error))
                        if message in kept_back:
                            continue
                    else:
                        if settles and message._verdict is None:  # `acknowledge` without its call
                            message._verdict = acked
                            try:
                                pending = message._source.ack(message)  # type: ignore[union-attr]
                            except Exception as error:
                                self._report.settle_failed(message, error)
                            else:
                                if pending is not None:
                                    await settlement.wait(message, pending)
                    if message.background is not None:
                        waited = True
                        await in_context(context, self._run_background(message))
                    if logged:
                        context.run(self._report.message_handled, message, self._log_level)
                finally:
                    if not kept_back or message not in kept_back:
                        del running[message]
                        handled = progress.handled = progress.handled + 1
                        if handled >= progress.due:
                            progress.tell(handled)
                        if kept or observer is not None:
                            self._done(message)
                # By this message: the next one, and a timeout in it, must know nothing of that.
                if worker._must_cancel or (waited and is_cancelled()):
                    return
                moment = now()
                if moment >= turn.ends:
                    await turn.next()
                    logged, observer, moment = self._logs(self._log_level), self._observer, now()
            if self._stopping:
                return
            # A worker that rests keeps nothing of its last message alive.
            message = context = work = first = result = pending = None  # type: ignore[assignment]
            await self._crew.rest()

    def _over(self, messages: Iterable[StreamMessage]) -> None:
        """Note, for several messages at once, what the worker notes for one alone."""
        progress, running, kept_back = self._progress, self._running, self._outage.kept
        watched = self._copies.kept or self._observer is not None
        for message in messages:
            if kept_back and message in kept_back:
                continue
            del running[message]
            progress.handled += 1
            if watched:
                self._done(message)
        if progress.handled >= progress.due:
            progress.tell(progress.handled)

    def _done(self, message: StreamMessage) -> None:
        """Tell whoever waits for a message that it is over."""
        if copies := self._copies.of(message):
            self._settle_copies(message, copies)
        if self._observer is not None:
            self._observer.finished(message)

    def _settle_copies(self, message: StreamMessage, copies: list[StreamMessage]) -> None:
        """Give the copies of a message the outcome of its first run; when that failed they run themselves."""
        for copy in copies:
            verdict = message._verdict
            if copy.sure_of_copies and (verdict is Verdict.ACK or verdict is Verdict.REJECT):
                pending = self._settlement.settle(copy, verdict)
                if pending is not None:
                    self._crew.spawn(self._settlement.wait(copy, pending))
            else:
                self._ready.append(copy)
                self._crew.wake(1)

    async def _run_background(self, message: StreamMessage) -> None:
        try:
            await message.background()
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            if isinstance(error, (KeyboardInterrupt, SystemExit)) or (cancelled and self._settlement.cancels):
                raise
            self._report.background_failed(message, error)
            if cancelled:
                put_back()

    # Stop.

    def halt(self) -> list[StreamMessage]:
        """Start nothing more; return what was fetched and not started."""
        self._stopping = True
        self._crew.begins = False
        if self._chunk is not None:
            self._chunk.stopping = True
        unstarted = self._outage.stop() + self._redelivery.drop(_every)
        unstarted += take(self._ready, _every) + self._copies.drop(_every)
        self._progress.tell()
        self._crew.wake_all()
        return unstarted

    async def drain(self, timeout: float | None) -> None:
        """Wait for the running handlers, `timeout` seconds at most, then cancel them; their messages stay unsettled."""
        telling = self.loop.call_later(TELL_SECONDS, self._tell_waiting, timeout)
        try:
            await self._crew.end(timeout, self._tell_cancelled)
        finally:
            telling.cancel()

    def _run_seconds(self) -> dict[StreamMessage, float]:
        """Return the messages whose handler runs, and since when."""
        now, waiting = perf_counter(), {*self._outage.kept}
        if self._chunk is not None:
            waiting.update(self._chunk.unbegun(), (message for message, _, _ in self._chunk.finished()))
        return {one: now - since for one, since in self._running.items() if one not in waiting}

    def _tell_waiting(self, timeout: float | None) -> None:
        if running := self._run_seconds():
            self._report.waiting(self.subscription, list(running.values()), timeout)

    def _tell_cancelled(self) -> None:
        self._settlement.cancels = True
        for message, seconds in self._run_seconds().items():
            self._report.message_cancelled(message, seconds, self._plan.is_in_thread)


def _every(message: StreamMessage) -> bool:
    return True
