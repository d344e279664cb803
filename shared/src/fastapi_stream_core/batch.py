"""Batch handlers: several messages of one lane in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextvars import Context
from operator import attrgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .isolation import in_context
from .kinship import kinship

if TYPE_CHECKING:
    from .dispatch import Dispatcher
    from .message import StreamMessage

__all__ = ("Batches",)

PART_BYTES = 65_536
"""Bytes of messages that are read in one turn of the event loop; a larger one is alone."""
Kin = Callable[["StreamMessage"], object]
_BODY = attrgetter("body")
_SIZE = attrgetter("size")


class Batches:
    """Takes a worker's first message and those that go with it, and handles them as one: in one context.

    A bad message is settled alone, the good ones are handled. They have their places one by one in the dispatcher.

    Args:
        dispatcher: whose messages they are.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._waiting: list[list[StreamMessage]] = []
        self._kin: Kin | None = None
        self._kin_of: object = None
        dispatcher._redelivery.recall = self._recall

    async def handle(self, first: StreamMessage) -> bool:
        """Handle a message and those that come with it."""
        dispatcher = self._dispatcher
        messages = await self._gather(first)
        if not messages:
            return True
        if dispatcher._outage.active:
            self._put_back(messages)
            return True
        context = dispatcher._context.copy()
        try:
            try:
                good, items = await self._sift(context, messages)
            except asyncio.CancelledError as error:  # while the loop had its turn
                await in_context(context, dispatcher._settlement.failed(messages, error))
                return True
            if not good:
                return True
            batch = dispatcher._plan.batch_of(good, items)
            if dispatcher._ack_first:
                await dispatcher._settlement.acknowledge_all(good)
            if dispatcher._observer is not None:
                context.run(dispatcher._observer.called, batch)
            try:
                result = await in_context(context, context.run(dispatcher._call, batch))
                if dispatcher._answer.publishers or (dispatcher._answer.replies and batch.reply_to is not None):
                    await in_context(context, dispatcher._answer.send(batch, result))
            except BaseException as error:
                batch.background = None
                await in_context(context, dispatcher._settlement.failed(good, error))
            else:
                if not dispatcher._manual:
                    await dispatcher._settlement.acknowledge_all(good)
            if batch.background is not None:
                await in_context(context, dispatcher._run_background(batch))
        finally:
            self._tell(messages)
            dispatcher._over(messages)
        return True

    async def _sift(self, context: Context, messages: Sequence[StreamMessage]) -> tuple[list[StreamMessage], list[Any]]:
        """Read the messages; settle those that are bad, and return the others with their items."""
        dispatcher = self._dispatcher
        good: list[StreamMessage] = []
        items: list[Any] = []
        for part in _parts(messages):
            if part[0] is not messages[0] and perf_counter() >= dispatcher._crew.turn.ends:
                await dispatcher._crew.turn.next()
            sifted, read, invalid = context.run(dispatcher._plan.sift, part)
            good += sifted
            items += read
            for message, error in invalid:
                await in_context(context, dispatcher._settlement.failed([message], error))
        return good, items

    def _put_back(self, messages: Sequence[StreamMessage]) -> None:
        """Have messages with which nobody has begun handled later."""
        for message in messages:
            del self._dispatcher._running[message]
        self._dispatcher._ready.extendleft(reversed(messages))

    def _tell(self, messages: Sequence[StreamMessage]) -> None:
        """Log what became of each message."""
        dispatcher = self._dispatcher
        if dispatcher._logs(dispatcher._log_level):
            for message in messages:
                if message not in dispatcher._outage.kept:
                    dispatcher._report.message_handled(message, dispatcher._log_level)

    def _recall(self, lane: Hashable) -> list[StreamMessage]:
        """Return what waits in batches of a lane of which a message failed: that one goes first."""
        return self.drop(lambda message: message.lane == lane)

    def drop(self, chosen: Callable[[StreamMessage], bool]) -> list[StreamMessage]:
        """Forget messages that wait in batches for more, and return them."""
        dropped: list[StreamMessage] = []
        for messages in self._waiting:
            dropped += [message for message in messages if chosen(message)]
            messages[:] = [message for message in messages if not chosen(message)]
        for message in dropped:
            del self._dispatcher._running[message]
        return dropped

    async def _gather(self, first: StreamMessage) -> list[StreamMessage]:
        """Collect a batch: messages of one lane, until it is full or has waited long enough; none when recalled."""
        dispatcher, turn = self._dispatcher, self._dispatcher._crew.turn
        kin: Kin | None
        size, lane = dispatcher.subscription.batch_size, first.lane
        try:
            kin = self._kin_now()
            own = None if kin is None else kin(first)
        except Exception:  # it has no kin, and fails for itself
            kin, own = _no_kin, object()
        pace = first._source.pace if first._source is not None else 1.0
        deadline = dispatcher.loop.time() + dispatcher.subscription.batch_seconds * pace
        messages = [first]
        running = dispatcher._running
        running[first] = perf_counter()
        is_again = first.attempt > 1
        while True:
            queue, now = dispatcher._redelivery.due or dispatcher._ready, perf_counter()
            is_late = False
            while queue and len(messages) < size:
                message = queue[0]
                if message.lane != lane or (lane is not None and (message.attempt > 1) is not is_again):
                    break  # of another lane; what failed before goes first, and alone
                if kin is not None:
                    if perf_counter() >= turn.ends:  # what they have in common may have to be read
                        is_late = True
                        break
                    try:
                        if kin(message) != own:
                            break
                    except Exception:
                        break
                del queue[0]
                if message.redelivered and dispatcher._is_finished(message):
                    dispatcher._progress.tell()
                    continue
                messages.append(message)
                running[message] = now  # it has its place while the batch waits for more
            if is_late:
                await self._with_place(messages, turn.next())
                if messages:
                    continue
                return messages
            left = deadline - dispatcher.loop.time()
            if (
                len(messages) >= size
                or queue
                or dispatcher._stopping
                or dispatcher._outage.active
                or left <= 0
                or is_again
            ):
                if queue:  # what ends this batch may have woken this worker alone
                    dispatcher.wake()
                return messages
            await self._with_place(messages, dispatcher._crew.rest(left))
            if not messages:
                return messages

    def _kin_now(self) -> Kin | None:
        """Return what tells messages of one batch from others, by what is run now: overrides may read something else.

        Raises:
            SetupError: an override can't be filled from a message.
        """
        plan = self._dispatcher._plan
        root = plan.running
        if root is not self._kin_of:
            self._kin, self._kin_of = kinship(plan, root, self._dispatcher._answer.replies), root
        return self._kin

    async def _with_place(self, messages: list[StreamMessage], pause: Awaitable[None]) -> None:
        """Wait while a batch has its place, and may be recalled."""
        self._waiting.append(messages)
        try:
            await pause
        except BaseException:  # cancelled, by what another message left behind: nobody has begun with these
            self._put_back(messages)
            raise
        finally:
            self._waiting = [one for one in self._waiting if one is not messages]


def _no_kin(message: StreamMessage) -> object:
    return None


def _parts(messages: Sequence[StreamMessage]) -> Iterator[Sequence[StreamMessage]]:
    """Yield the messages in parts that are read in one turn."""
    sizes = list(map(_SIZE, messages) if messages[0].is_measured else map(len, map(_BODY, messages)))
    if sum(sizes) <= PART_BYTES:
        yield messages
        return
    begin = total = 0
    for number, size in enumerate(sizes):
        total += size
        if total > PART_BYTES and number > begin:
            yield messages[begin:number]
            begin, total = number, size
    yield messages[begin:]
