"""While a broker of ours is away: its messages wait, nothing new is begun, no attempt is counted."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .error_tree import leaves_of
from .errors import NotStarted, WrongEventLoop

if TYPE_CHECKING:
    from .broker import Broker
    from .dispatch import Dispatcher
    from .message import StreamMessage

__all__ = ("Outage",)

FIRST_DELAY = 0.2
MAX_DELAY = 3.3
"""With the jitter at most five seconds."""
PING_SECONDS = 3.0


class Outage:
    """Pauses a subscription whose messages could not be published, until every broker that it publishes to answers.

    The messages keep their place meanwhile, unsettled, as if they still ran: claims are extended for them, and copies
    of them wait. They are handled first when it goes on. The seconds until then grow from one try to the next, until
    a message was handled in between.

    Args:
        dispatcher: whose messages wait.

    Attributes:
        active: nothing new is begun or fetched.
        kept: the messages that wait, in their order.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._subscription = dispatcher.subscription
        self._task: asyncio.Task[None] | None = None
        self._delay = FIRST_DELAY
        self._handled = 0
        self._stopping = False
        self._missing: set[Broker] = set()
        self.active = False
        self.kept: dict[StreamMessage, None] = {}

    def keep(self, messages: Sequence[StreamMessage]) -> None:
        """Keep messages whose handling raised."""
        for message in messages:
            message.renew(counts=False)
            self.kept[message] = None

    def begin(self, error: BaseException) -> None:
        """Pause, if it is not paused already."""
        dispatcher = self._dispatcher
        dispatcher._progress.tell()
        self._missing.update(_not_started(error))
        if self.active or self._stopping:
            return
        if dispatcher.handled > self._handled:
            self._delay = FIRST_DELAY
        self.active, dispatcher._crew.begins = True, False
        report, label = self._subscription.broker.report, self._subscription.label
        report.count("paused")
        report.line(logging.WARNING, "%s: paused, since a broker is away: %s", label, error)
        self._task = dispatcher._crew.spawn(self._wait())

    async def _wait(self) -> None:
        while True:
            await asyncio.sleep(self._delay * random.uniform(1.0, 1.5))
            self._delay = min(self._delay * 2, MAX_DELAY)
            if await self._all_answer():
                break
        self._task = None
        self._end("every broker that it publishes to answers")

    async def _all_answer(self) -> bool:
        publishers = self._dispatcher._answer.publishers
        brokers = {self._subscription.broker, *(publisher.broker for publisher in publishers), *self._missing}
        return all(await asyncio.gather(*map(_answers, brokers)))

    def _end(self, reason: str) -> None:
        dispatcher = self._dispatcher
        report, label = self._subscription.broker.report, self._subscription.label
        report.line(logging.WARNING, "%s: goes on, %s", label, reason)
        gone = [message for message in self.kept if message._source is not None and message._source.gone]
        for message in gone:  # the broker delivers it again; a copy may be here already
            del self.kept[message]
        dispatcher._over(gone)
        self._handled = dispatcher.handled
        self._missing.clear()
        due = dispatcher._redelivery.due
        for message in reversed(self.take()):
            # Behind the failed one of its lane, and before whatever came later.
            queue = dispatcher._redelivery.held.get(message.lane) if message.attempt == 1 else None
            (due if queue is None else queue).appendleft(message)
        self.active, dispatcher._crew.begins = False, True
        dispatcher.tell()
        dispatcher.wake()

    def take(self, chosen: Callable[[StreamMessage], bool] | None = None) -> list[StreamMessage]:
        """Return messages that wait, by default all, and keep them no longer."""
        taken = [message for message in self.kept if chosen is None or chosen(message)]
        for message in taken:
            del self.kept[message]
            self._dispatcher._running.pop(message, None)
        return taken

    def drop(self, chosen: Callable[[StreamMessage], bool]) -> list[StreamMessage]:
        """Forget messages that wait, and return them; when none is left there is nothing to wait for."""
        dropped = self.take(chosen)
        if dropped and self.active and not self.kept:
            self._cancel()
            self._end("what waited for a broker is not this process's any more")
        return dropped

    def stop(self) -> list[StreamMessage]:
        """End for good, and return what waits."""
        self._stopping = True
        self._cancel()
        self.active = False
        return self.take()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None


def _not_started(error: BaseException) -> set[Broker]:
    """Return the brokers that an error says are not started."""
    instances = (one._instance for one in leaves_of(error) if isinstance(one, NotStarted))
    return {one for one in instances if one is not None}


async def _answers(broker: Broker) -> bool:
    """Tell whether a broker takes what is published: one that is not started does not, unless a test takes it."""
    if not broker.running:
        return broker._life.transport is not None
    try:
        return await broker.ping(PING_SECONDS)
    except WrongEventLoop:  # it was started anew somewhere else
        return False
