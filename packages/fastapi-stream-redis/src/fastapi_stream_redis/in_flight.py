"""The entries of a stream that this process has in hand, whatever becomes of the connections that brought them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.policy import Verdict

from .message import RedisStreamMessage
from .reading import Entry, digest

if TYPE_CHECKING:
    from fastapi_stream_core.dispatch import Dispatcher
    from fastapi_stream_core.message import StreamMessage
    from fastapi_stream_core.subscription import Subscription
    from fastapi_stream_core.transport import Source

__all__ = ("InFlight", "report_lost")

AT_ONCE = 0.0
"""When something is due that nobody asked to wait for."""


class InFlight:
    """The entries of one subscription that were read and are not settled.

    A lost connection changes nothing for a handler that runs, nor for a failure of it: they keep their message. What
    waited for a worker, or for another delivery, was forgotten by the core with the source that brought it: it is read
    again, when it is due, and its deliveries are counted on.

    An id alone does not tell what an entry is: a stream that was made again, or whose server was restored, may give it
    to another one. That one takes the place of what is in hand, whose settlement is then nothing that Redis is told.

    Attributes:
        ids: what is in the hands of the core.
        kept: those of `ids` that the core handles again: the number of that delivery, when, and the source that
            brought it.
        left: those of `ids` whose source is gone.
        had_replaced: whether another entry ever came with the id of one in hand.
    """

    def __init__(self) -> None:
        self.ids: dict[Hashable, RedisStreamMessage] = {}
        self.kept: dict[Hashable, tuple[int, float, Source]] = {}
        self.left: set[Hashable] = set()
        self.had_replaced = False
        self._again: dict[Hashable, tuple[int, float, int]] = {}
        self._told: set[asyncio.Task[None]] = set()

    def add(self, messages: Sequence[RedisStreamMessage]) -> None:
        """Take messages in hand; each takes the place of what has its id."""
        found: dict[Hashable, RedisStreamMessage] = {message.identity: message for message in messages}
        if not self.ids.keys().isdisjoint(found):
            for entry_id in self.ids.keys() & found:
                self._replace(entry_id)
        self.ids.update(found)

    def yield_to(self, entries: Sequence[Entry]) -> list[bytes]:
        """Have entries that are for another consumer take the place of what has their ids, which are returned."""
        for entry in entries:
            if entry[0] in self.ids and not self._holds(entry):
                self._replace(entry[0])
        return [entry_id for entry_id, _ in entries]

    def _replace(self, entry_id: Hashable) -> None:
        self.ids[entry_id].is_replaced = self.had_replaced = True
        self.settle(entry_id)

    def finish(self, message: StreamMessage) -> bool:
        """Forget a message that is settled; tell whether its entry is the one that has its id."""
        if isinstance(message, RedisStreamMessage) and message.is_replaced:
            return False
        self.settle(message.identity)
        return True

    def settle(self, entry_id: Hashable) -> None:
        """Forget an entry that is settled."""
        self.ids.pop(entry_id, None)
        self.kept.pop(entry_id, None)
        self.left.discard(entry_id)

    def keep(self, source: Source, message: RedisStreamMessage, delay: float) -> None:
        """Note that the core handles a message of `source` again after `delay` seconds."""
        entry_id = message.identity
        if entry_id in self.ids:
            self.kept[entry_id] = message.attempt + 1, asyncio.get_running_loop().time() + delay, source

    def leave(self, source: Source) -> None:
        """Note that `source` is gone, after the core forgot what waited of it."""
        self._look(source.dispatcher, self.ids, lambda one: one is source)

    def look(self, dispatcher: Dispatcher) -> None:
        """See whether what ran when its source went has ended without a settlement: then it is read again."""
        if self.left:
            self._look(dispatcher, self.left, lambda source: False)

    def halt(self, dispatcher: Dispatcher) -> None:
        """Note that the core stops: what it kept of sources that are gone waits to be read again, by whomever."""
        self._look(dispatcher, self.left, lambda source: True)

    def _look(self, dispatcher: Dispatcher, ids: Iterable[Hashable], forgot: Callable[[Source | None], bool]) -> None:
        """Have read again what neither runs nor waits for its next run.

        Args:
            dispatcher: who runs them.
            ids: of what is looked at.
            forgot: tells whether the core forgot what it kept of a source.
        """
        running = {
            message.identity
            for message in dispatcher.unfinished()
            if not (isinstance(message, RedisStreamMessage) and message.is_replaced)
        }
        for entry_id in [*ids]:
            _, due, source = self.kept.get(entry_id, (0, AT_ONCE, None))
            is_kept = self._waits_here(entry_id)
            if entry_id in running or (is_kept and not forgot(source)):
                self.left.add(entry_id)
            else:
                due = due if is_kept else AT_ONCE
                self._again[entry_id] = self._number(entry_id), due, self.ids[entry_id].digest
                self.settle(entry_id)

    def _number(self, entry_id: Hashable) -> int:
        """Return the number of the delivery of what is in hand: the next one, when that one failed."""
        return self.kept[entry_id][0] if entry_id in self.kept else self.ids[entry_id].attempt

    def _waits_here(self, entry_id: Hashable) -> bool:
        return entry_id in self.kept and self.ids[entry_id].committed is Verdict.NACK

    def deliveries(self) -> dict[int, list[Hashable]]:
        """Return all entries, in hand or not, by how many of their deliveries have begun."""
        begun: dict[int, list[Hashable]] = {}
        for entry_id in (*self.ids, *self._again):
            begun.setdefault(self.begun(entry_id), []).append(entry_id)
        return begun

    def begun(self, entry_id: Hashable) -> int:
        """Return how many deliveries of an entry have begun."""
        if entry_id in self._again:
            return self._again[entry_id][0] - 1
        return self._number(entry_id) - self._waits_here(entry_id)

    def waits(self, entry: Entry) -> bool:
        """Tell whether an entry is one that is to be read again."""
        waiting = self._again.get(entry[0])
        return waiting is not None and _is_same(entry, waiting[2])

    def _holds(self, entry: Entry) -> bool:
        held = self.ids.get(entry[0])
        return held is not None and _is_same(entry, held.digest)

    def knows(self, entry: Entry) -> bool:
        """Tell whether an entry is one that is in hand, or to be read again."""
        return self._holds(entry) or self.waits(entry)

    def has(self, entry: Entry) -> bool:
        """Tell whether an entry is not to be delivered now: it is in hand, or not due."""
        is_due = self._again.get(entry[0], (0, AT_ONCE))[1] <= asyncio.get_running_loop().time()
        return self._holds(entry) or (not is_due and self.waits(entry))

    def due(self, limit: int) -> list[bytes]:
        """Return entries that are to be read again now."""
        if not self._again:
            return []
        now = asyncio.get_running_loop().time()
        due = [one for one, (_, moment, _) in self._again.items() if moment <= now and isinstance(one, bytes)]
        return due[:limit]

    def seconds(self, most: float) -> float:
        """Return in how many seconds the next entry is due, `most` at most."""
        if not self._again:
            return most
        now = asyncio.get_running_loop().time()
        return min(most, max(0.001, min(moment for _, moment, _ in self._again.values()) - now))

    def number(self, entry: Entry, number: int) -> int:
        """Return the number of the delivery of an entry that is to be added: what is known here, otherwise `number`."""
        known = self._again[entry[0]][0] if self.waits(entry) else number
        self.drop(entry[0])
        return known

    def drop(self, entry_id: Hashable) -> None:
        """Forget an entry that waits, which is not there any more, or somebody else's."""
        self._again.pop(entry_id, None)

    def only(self, chosen: Callable[[Hashable], bool]) -> None:
        """Forget all others: the stream was made again."""
        for one in [one for one in self.ids if not chosen(one)]:
            self._replace(one)
        for one in [one for one in self._again if not chosen(one)]:
            self.drop(one)

    @property
    def waiting(self) -> Iterable[Hashable]:
        """What is to be read again, now or later."""
        return self._again

    def tell(self, work: Coroutine[Any, Any, None]) -> None:
        """Have Redis told something, beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def end(self) -> None:
        """Tell Redis nothing more."""
        tasks = [*self._told]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _is_same(entry: Entry, known: int) -> bool:
    """Tell whether an entry holds what is known of its id; of one that was deleted Redis has only that."""
    return entry[1] is None or digest(entry[1]) == known


def report_lost(subscription: Subscription, key: str, lost: Sequence[bytes]) -> None:
    """Say in one line that entries were deleted before they were handled."""
    if not lost:
        return
    for _ in lost:
        subscription.broker.report.count("deleted")
    subscription.broker.report.line(
        logging.WARNING,
        "%s: %d entries of %s were deleted, or trimmed away, before they were handled: %s ...",
        subscription.label, len(lost), key, lost[0].decode(),
    )  # fmt: skip
