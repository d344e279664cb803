"""Messages that this process handles again after a delay, and those that wait behind them in the same lane."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .message import StreamMessage
    from .subscription import Subscription
    from .transport import Source

__all__ = ("Redelivery",)

AGAIN_SECONDS = 0.02
"""Until a message that is due is looked at again while its handler still runs."""


class Redelivery:
    """Keeps failed messages until they are due; their lanes stand still meanwhile, other lanes go on.

    Attributes:
        held: what waits behind the failed messages of each lane that stands still.
        due: messages whose time has come, to be handled before anything else.
        ready: where the messages of a lane go back to when the lane goes on.
        recall: gives what was taken of a lane that is to wait, and not begun.
        most_held: messages that may wait behind failed ones and keep no place; the subscription says how many.
    """

    def __init__(
        self,
        subscription: Subscription,
        ready: deque[StreamMessage],
        running: Container[StreamMessage],
        wake: Callable[[int], None],
    ) -> None:
        self._subscription = subscription
        self._loop = asyncio.get_running_loop()
        self._running = running
        self._wake = wake
        self.held: dict[Hashable, deque[StreamMessage]] = {}
        self._delayed: dict[Hashable, int] = {}
        self._timers: dict[asyncio.TimerHandle, list[StreamMessage]] = {}
        self.due: deque[StreamMessage] = deque()
        self.ready = ready
        self.recall: Callable[[Hashable], Iterable[StreamMessage]] = lambda lane: ()
        self._refused = 0  # how many waited when their source took none back
        self.most_held = sys.maxsize

    def waiting(self) -> int:
        """Return how many messages wait that keep a place: those of no lane, and what is more than `most_held`."""
        waiting = sum(message.lane is None for messages in self._timers.values() for message in messages)
        return len(self.due) + waiting + max(0, self._behind() - self.most_held)

    def messages(self) -> Iterator[StreamMessage]:
        """Yield every message that waits here."""
        return chain(self.due, *self.held.values(), *self._timers.values())

    def _behind(self) -> int:
        return sum(map(len, self.held.values())) if self.held else 0

    def holds(self, message: StreamMessage) -> bool:
        """Put a message behind its lane's failed one; False when its lane is free."""
        if message.attempt > 1 or message.lane not in self.held:
            return False
        self.held[message.lane].append(message)
        waiting = self._behind()
        if waiting > self.most_held + self._refused:
            self._refused = 0 if self.give_back() else waiting
        return True

    def give_back(self) -> bool:
        """Have the source fetch again later what waits in the lane where most bytes do: there is no room for it here.

        Returns:
            Whether the source took something back.
        """
        lane = max(self.held, key=lambda one: _size(self.held[one]), default=None)
        if lane is None or not self.held[lane]:
            return False
        queue = self.held[lane]
        queue.extend(take(self.ready, lambda message: message.lane == lane and message.attempt == 1))
        source = queue[0]._source
        if source is None or any(message._source is not source for message in queue):
            return False
        if not self._tell(source.give_back, lane, list(queue)):
            return False
        queue.clear()
        return True

    def later(self, source: Source, messages: list[StreamMessage], delay: float) -> None:
        """Have messages of one source handled again after `delay` seconds; by the broker when the source is gone."""
        if source.gone:
            return
        for lane in _lanes(messages):
            if lane not in self.held:
                self.held[lane] = deque(self.recall(lane))
                self._tell(source.hold, lane)
            self._delayed[lane] = self._delayed.get(lane, 0) + 1
        for message in messages:
            self._tell(source.keep, message, delay)
        self._after(delay * source.pace, source, messages)

    def _tell(self, what: Callable[..., Any], *values: Any) -> Any:
        """Tell the source; one whose client refuses it loses no message that is kept here."""
        try:
            return what(*values)
        except Exception as error:
            text = "%s: the consumer could not %s: %s"
            report, name = self._subscription.broker.report, what.__name__
            report.line(logging.WARNING, text, self._subscription.label, name, error)
            return None

    def _after(self, seconds: float, source: Source, messages: list[StreamMessage]) -> None:
        handle: list[asyncio.TimerHandle] = []
        handle.append(self._loop.call_later(seconds, lambda: self._come(source, handle[0])))
        self._timers[handle[0]] = messages

    def _come(self, source: Source, timer: asyncio.TimerHandle) -> None:
        messages = self._timers.pop(timer)
        if any(message in self._running for message in messages):
            # A handler may go on for a while after its `message.nack()`.
            self._after(AGAIN_SECONDS, source, messages)
            return
        for message in messages:
            message.renew()
        self.due.extend(messages)
        for lane in _lanes(messages):
            self._delayed[lane] -= 1
            if not self._delayed[lane]:
                del self._delayed[lane]
                self.ready.extendleft(reversed(self.held.pop(lane)))
                self._tell(source.resume, lane)
        self._wake(len(messages) + len(self.ready))

    def drop(self, chosen: Callable[[StreamMessage], bool]) -> list[StreamMessage]:
        """Forget messages that wait, and return them; a lane of which nothing is left goes on."""
        dropped: list[StreamMessage] = []
        for queue in (self.due, *self.held.values()):
            dropped += take(queue, chosen)
        for timer, messages in list(self._timers.items()):
            gone = [message for message in messages if chosen(message)]
            if not gone:
                continue
            dropped += gone
            messages[:] = [message for message in messages if not chosen(message)]
            for lane in _lanes(gone) - _lanes(messages):
                self._delayed[lane] -= 1
                if not self._delayed[lane]:
                    del self._delayed[lane]
                    self.ready.extendleft(reversed(self.held.pop(lane)))
                    source = gone[0]._source
                    if source is not None and not source.gone:
                        self._tell(source.resume, lane)
            if not messages:
                timer.cancel()
                del self._timers[timer]
        return dropped


def _size(messages: Iterable[StreamMessage]) -> int:
    return sum(message.size + 1 for message in messages)  # one that says of no bytes is a message all the same


def _lanes(messages: Iterable[StreamMessage]) -> set[Hashable]:
    return {message.lane for message in messages if message.lane is not None}


def take(queue: deque[StreamMessage], chosen: Callable[[StreamMessage], bool]) -> list[StreamMessage]:
    """Remove the chosen messages from a queue, and return them."""
    taken = [message for message in queue if chosen(message)]
    if taken:
        kept = [message for message in queue if not chosen(message)]
        queue.clear()
        queue.extend(kept)
    return taken
