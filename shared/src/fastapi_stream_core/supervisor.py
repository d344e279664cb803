"""Keeps one subscription alive: starts its source, feeds the dispatcher, makes a new source when one breaks."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from .dispatch import Dispatcher
from .errors import BrokerUnavailable
from .prefetch import Prefetch
from .recurrence import Recurrence
from .step import GRACE_SECONDS, ended, step
from .subscription import Status

if TYPE_CHECKING:
    from .message import StreamMessage
    from .subscription import Subscription
    from .transport import Source, Transport

__all__ = ("Supervisor",)

FIRST_DELAY = 0.2
MAX_DELAY = 2.0
"""With the jitter and a client's own connect, below the five seconds after which everything consumes again."""
START_SECONDS = 60.0
CLOSE_SECONDS = 10.0
FETCH_SECONDS = 3.0
IDLE_SECONDS = 0.01
STARTUP_SECONDS = 10.0
"""After which a subscription waits no longer for other brokers, or says that it waits for the startup of the app."""


class Supervisor:
    """Runs one subscription on one event loop until it is stopped.

    Attributes:
        subscription: what is run; it may have other runs on other event loops.
        is_away: whether the broker does not answer, though the source knows nothing of it.
        dispatcher: who handles the messages.
    """

    def __init__(self, subscription: Subscription, transport: Transport) -> None:
        self.subscription = subscription
        self._status = Status.STARTING
        self.is_away = False
        subscription.bound = subscription.broker
        self.dispatcher = Dispatcher(subscription)
        subscription.runs.append(self)
        self._transport = transport
        self._source: Source | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._hurried = asyncio.Event()
        self._losses = Recurrence()

    @property
    def status(self) -> Status:
        """What this run is doing."""
        if self._status is not Status.RUNNING:
            return self._status
        return Status.PAUSED if self.dispatcher.paused else Status.BACKING_OFF if self.is_away else Status.RUNNING

    @status.setter
    def status(self, status: Status) -> None:
        self._status = status

    async def start(self) -> None:
        """Start the source; return when the subscription is positioned. A lost connection is tried again.

        Raises:
            BrokerUnavailable: the broker was away until `startup_timeout` was nearly over.
            Exception: what else the source raised.
        """
        loop, delay = asyncio.get_running_loop(), FIRST_DELAY
        deadline = loop.time() + self.subscription.broker.options["startup_timeout"]
        while not self._stopped.is_set():
            try:
                await self._open()
                break
            except BrokerUnavailable:
                if self._stopped.is_set() or loop.time() + 2 * delay > deadline:
                    self.status = Status.FAILED
                    raise
                await self._discard()
                await self._pause(delay)
                delay = min(2 * delay, MAX_DELAY)
            except Exception:
                self.status = Status.FAILED
                raise
        if self._stopped.is_set():
            await self._discard()
        self._begin()

    async def _open(self) -> None:
        source = self._transport.source(self.subscription)
        source.dispatcher = self.dispatcher
        self._source = source
        await source.start()
        if not self._stopped.is_set():
            self.status = Status.BACKING_OFF if source.awaits else Status.RUNNING

    def _begin(self, anew: bool = False) -> None:
        if not self._stopped.is_set():
            self._task = asyncio.get_running_loop().create_task(self._run(anew), name=f"feed {self.subscription.label}")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Begin anew whatever ended the feed: a consumer never dies silently."""
        if self._stopped.is_set() or task.cancelled() or (error := task.exception()) is None:
            return
        self.status = Status.BACKING_OFF
        self.subscription.broker.report.consumer_lost(self.subscription, error, MAX_DELAY)
        self.dispatcher.loop.call_later(MAX_DELAY, self._begin, True)

    async def _run(self, anew: bool) -> None:
        delay = FIRST_DELAY
        if anew:
            await self._discard()
        await self._await_startup()
        while not self._stopped.is_set():
            began = opened = monotonic()
            try:
                if self._source is None:
                    opened = math.inf
                    await asyncio.wait_for(self._open(), START_SECONDS)
                    opened = monotonic()
                await self._feed()
            except asyncio.CancelledError:
                # Only stop() and the end of the loop cancel this task; if it was a client, a timer makes it anew.
                if not self._stopped.is_set():
                    self.status = Status.BACKING_OFF
                    asyncio.get_running_loop().call_later(FIRST_DELAY, self._begin, True)
                raise
            except Exception as error:
                if self._stopped.is_set():
                    return
                if monotonic() - began > MAX_DELAY:
                    delay = FIRST_DELAY
                if monotonic() - opened > MAX_DELAY:
                    self._losses.end()
                self.status = Status.BACKING_OFF
                pause = delay * random.uniform(0.5, 1.5)
                is_due = self._losses.is_due(error)
                self.subscription.broker.report.consumer_lost(self.subscription, error, pause, is_due)
                await self._discard()
                await self._pause(pause)
                delay = min(delay * 2, MAX_DELAY)

    async def _await_startup(self) -> None:
        """Take no message before the handler can have what it may ask for: the app's other brokers, and its state.

        Where the startup itself waits for a handler, that one does not wait for other brokers for ever. In memory
        nobody waits: a publisher that waits for the handler may be what the startup waits for.
        """
        app_life, subscription = self.subscription.broker.app_life, self.subscription
        if app_life is None or not app_life.is_starting() or self._transport.any_loop:
            return
        asks_for_state = subscription.plan.asks_for_request
        waiting = asyncio.ensure_future(app_life.started() if asks_for_state else app_life.all_connected())
        stopping = asyncio.ensure_future(self._stopped.wait())
        try:
            done, _ = await asyncio.wait(
                {waiting, stopping}, timeout=STARTUP_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not done and asks_for_state:
                text = "%s: its handler asks for a request, so it waits until the app has started"
                subscription.broker.report.line(logging.WARNING, text, subscription.label)
                await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            stopping.cancel()

    async def _feed(self) -> None:
        """Fetch messages, never more than the dispatcher has room for."""
        source, dispatcher = self._source, self.dispatcher
        if source is None:
            return
        subscription = self.subscription
        least = subscription.max_workers * (subscription.batch_size if subscription.batch else 1)
        window = max(source.window, least)
        allowed = least if source.adaptive else window
        prefetch = Prefetch(subscription.options["prefetch_bytes"], dispatcher.held_bytes)
        dispatcher.bound_held(window)
        while not self._stopped.is_set():
            if source.broken:  # whatever the handlers do meanwhile, the next one has to be there
                await asyncio.sleep(0)
                if messages := await source.fetch(window):
                    dispatcher.accept(source, messages)
                continue
            if dispatcher.paused:
                await dispatcher.unpaused()
                continue
            # What waits for its next delivery keeps a place in the window, not in what the handler keeps pace with.
            room = min(allowed - dispatcher.active(), window - dispatcher.backlog())
            # While there is work, a fetch waits until it is worth its price: many messages at a time.
            worth = allowed // 2
            if room <= 0 or (room < worth and dispatcher.ready()):
                await dispatcher.wait_finished(count=max(1, min(worth - room, dispatcher.ready())))
                continue
            room = prefetch.allow(room)
            if not room:  # what waits behind failed messages must not take the bytes of every other lane
                if not dispatcher.give_back():
                    await dispatcher.wait_finished()
                continue
            began, handled = monotonic(), dispatcher.handled
            messages = await source.fetch(room)
            count = len(messages)
            if not self._stopped.is_set():
                self.status = Status.BACKING_OFF if source.awaits else Status.RUNNING
            if count:
                prefetch.fetched(messages)
                dispatcher.accept(source, messages)
                del messages  # the next fetch may take long, and the bodies may be large
            else:
                # A client that answers at once with nothing must not turn this into a hot loop.
                await asyncio.sleep(0 if monotonic() - began > IDLE_SECONDS else IDLE_SECONDS)
            if source.adaptive:
                full = count >= min(room, source.at_once)
                allowed = _allow(allowed, least, window, dispatcher.handled - handled, monotonic() - began, full)

    async def _discard(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            # A broker that knows acknowledgements delivers again what waits here; of any other this is the only copy.
            if source.settles:
                self.dispatcher.forget(source)
            await self._close(source)

    async def _close(self, source: Source) -> None:
        await self._bounded(source.close)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except asyncio.TimeoutError:
            return

    async def stop(self, timeout: float | None) -> None:
        """Take no new messages, hand back what was not started, finish what runs, settle, close.

        Every step is bounded, and being cancelled meanwhile skips none of them.
        """
        self._stopped.set()
        if self.status is not Status.FAILED:
            self.status = Status.STOPPED
        if self._task is None:  # It was not positioned: nothing was fetched.
            await self._discard()
            return self._leave()
        source = self._source
        if source is not None:
            source.stop()
        unstarted = self.dispatcher.halt()
        if not self._task.done():
            await ended(
                [self._task], FETCH_SECONDS if source is not None and not source.cancellable else 0.0, CLOSE_SECONDS
            )
            unstarted += self.dispatcher.halt()
        source = self._source
        await self._release(source, unstarted)
        if (error := await step(partial(self._drain, timeout), None)) is not None:
            self.dispatcher.report_drain(error)
        if unstarted := self.dispatcher.halt():  # what waited behind the last message of a thread
            await self._release(source, unstarted)
        if source is not None:
            await self._bounded(source.flush)
            await self._close(source)
            self._source = None
        self._leave()

    def hurry(self) -> None:
        """Wait no longer for the handlers that run: they are cancelled, and their messages stay unsettled."""
        self._hurried.set()

    async def _drain(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        draining = loop.create_task(self.dispatcher.drain(timeout))
        tasks = [draining, loop.create_task(self._hurried.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await ended(tasks, 0.0)
        error = None if draining.cancelled() else draining.exception()
        if self._hurried.is_set() or error is not None:
            await self.dispatcher.drain(0.0)
        if error is not None:
            raise error

    def abandon(self) -> None:
        """Forget the run: nobody waits for its end, or its event loop is over."""
        self._stopped.set()
        self.status = Status.STOPPED
        task, loop = self._task, self.dispatcher.loop
        if task is not None and loop.is_running():
            loop.call_soon_threadsafe(task.cancel)
        self._leave()

    def _leave(self) -> None:
        subscription = self.subscription
        if self in subscription.runs:
            subscription.runs.remove(self)
            subscription.last_status = self.status
        if not subscription.runs:
            subscription.bound = None

    async def _release(self, current: Source | None, unstarted: list[StreamMessage]) -> None:
        """Hand back what was not started; also what a source fetched that is gone, where the broker has it no more."""
        released: dict[Source, list[StreamMessage]] = {} if current is None else {current: []}
        for message in unstarted:
            source = message._source
            if source is not None and (source is current or not source.settles):
                released.setdefault(source, []).append(message)
        for source, messages in released.items():
            await self._bounded(partial(source.release, messages))

    async def _bounded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if (error := await step(work, CLOSE_SECONDS)) is not None:
            self.dispatcher.report_close(error)


def _allow(allowed: int, least: int, window: int, handled: int, seconds: float, full: bool) -> int:
    """Follow the pace of the handler, so that what is claimed at the broker is handled within about a second.

    Never under `least`, the messages that the workers take at once.
    """
    if full and (handled or allowed <= least) and seconds < 0.5:
        return min(allowed * 2, window)
    if seconds > 2.0 and handled < allowed:
        return max(least, allowed // 2)
    return allowed


async def start_all(supervisors: list[Supervisor], timeout: float, address: str) -> None:
    """Start subscriptions at the same time; when one fails, the error of the first one that did is raised.

    Raises:
        BrokerUnavailable: not all of them were positioned within `timeout` seconds, and what a group may take more.
    """
    if not supervisors:
        return
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(supervisor.start()) for supervisor in supervisors]
    timeout += max(supervisor.subscription.join_seconds for supervisor in supervisors)
    try:
        done, pending = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        await ended(tasks, 0.0, CLOSE_SECONDS)
        raise
    await ended(tasks, GRACE_SECONDS, CLOSE_SECONDS)
    for task in tasks:
        if task in done and (error := task.exception()) is not None:
            raise error
    if pending:
        raise BrokerUnavailable(address, "subscribe", timeout)
