"""The entries of a stream that this process has in hand, whatever becomes of the connections that brought them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.policy import Verdict

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

    Attributes:
        ids: what is in the hands of the core, each with the number of its delivery.
        kept: those of `ids` that the core handles again: the message, when, and the source that brought it.
        left: those of `ids` whose source is gone.
    """

    def __init__(self) -> None:
        self.ids: dict[Hashable, int] = {}
        self.kept: dict[Hashable, tuple[StreamMessage, float, Source]] = {}
        self.left: set[Hashable] = set()
        self._again: dict[Hashable, tuple[int, float]] = {}
        self._told: set[asyncio.Task[None]] = set()

    def settle(self, entry_id: Hashable) -> None:
        """Forget an entry that is settled."""
        self.ids.pop(entry_id, None)
        self.kept.pop(entry_id, None)
        self.left.discard(entry_id)

    def keep(self, source: Source, message: StreamMessage, delay: float) -> None:
        """Note that the core handles a message of `source` again after `delay` seconds."""
        entry_id = message.identity
        if entry_id in self.ids:
            self.ids[entry_id] = message.attempt + 1
            self.kept[entry_id] = message, asyncio.get_running_loop().time() + delay, source

    def leave(self, source: Source) -> None:
        """Note that `source` is gone, after the core forgot what waited of it."""
        self._look(source.dispatcher, self.ids, source)

    def look(self, dispatcher: Dispatcher) -> None:
        """See whether what ran when its source went has ended without a settlement: then it is read again."""
        if self.left:
            self._look(dispatcher, self.left, None)

    def _look(self, dispatcher: Dispatcher, ids: Iterable[Hashable], gone: Source | None) -> None:
        running = {message.identity for message in dispatcher.unfinished()}
        for entry_id in [*ids]:
            message, due, source = self.kept.get(entry_id, (None, AT_ONCE, None))
            is_kept = message is not None and message.committed is Verdict.NACK
            if entry_id in running or (is_kept and source is not gone):
                self.left.add(entry_id)
            else:
                self._again[entry_id] = self.ids[entry_id], due if is_kept else AT_ONCE
                self.settle(entry_id)

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
        kept = self.kept.get(entry_id)
        return self.ids[entry_id] - (kept is not None and kept[0].committed is Verdict.NACK)

    def waits(self, entry_id: Hashable) -> bool:
        """Tell whether an entry is to be read again."""
        return entry_id in self._again

    def knows(self, entry_id: Hashable) -> bool:
        """Tell whether an entry is in hand, or to be read again."""
        return entry_id in self.ids or entry_id in self._again

    def has(self, entry_id: Hashable) -> bool:
        """Tell whether an entry is not to be delivered now: it is in hand, or not due."""
        waiting = self._again.get(entry_id)
        return entry_id in self.ids or (waiting is not None and waiting[1] > asyncio.get_running_loop().time())

    def due(self, limit: int) -> list[bytes]:
        """Return entries that are to be read again now."""
        if not self._again:
            return []
        now = asyncio.get_running_loop().time()
        due = [one for one, (_, moment) in self._again.items() if moment <= now and isinstance(one, bytes)]
        return due[:limit]

    def seconds(self, most: float) -> float:
        """Return in how many seconds the next entry is due, `most` at most."""
        if not self._again:
            return most
        now = asyncio.get_running_loop().time()
        return min(most, max(0.001, min(moment for _, moment in self._again.values()) - now))

    def take(self, entry_id: Hashable, number: int) -> int:
        """Take an entry in hand; return the number of its delivery: what is known here, otherwise `number`."""
        known = self._again.pop(entry_id, None)
        attempt = self.ids[entry_id] = number if known is None else known[0]
        return attempt

    def drop(self, entry_id: Hashable) -> None:
        """Forget an entry that waits, which is not there any more, or somebody else's."""
        self._again.pop(entry_id, None)

    def only(self, chosen: Callable[[Hashable], bool]) -> None:
        """Forget all others: the stream was made again."""
        for one in [one for one in (*self.ids, *self._again) if not chosen(one)]:
            self.settle(one)
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
