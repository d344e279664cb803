"""Reads a stream without a group."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from fastapi_stream_core.message import StreamMessage

from .history import NOTHING, Break, History, digests, facts_of, report_break
from .message import RedisStreamMessage
from .reading import AT_ONCE, Entry, ReadSize, before, drained, entries_of, order
from .source import BLOCK_SECONDS, LinkSource

if TYPE_CHECKING:
    from .commands import Commands
    from .connection import Link, Settings
    from .schema import StreamSub
    from .subscription import RedisSubscription

__all__ = ("BLOCK_MILLISECONDS", "Place", "StreamSource")

BLOCK_MILLISECONDS = int(BLOCK_SECONDS * 1000)
LOOK_SECONDS = 2.0
"""How often it is looked whether the stream is still the same one, at most."""
LOOK_SHARE = 50
"""What share of the time is spent on that, as its divisor: Redis answers with the entries at both ends."""
LOOK_ENTRIES = 20_000
"""Entries after which it is looked all the same: until then each is remembered."""


class Place:
    """How far a subscription has read, whatever becomes of its connection.

    Attributes:
        last: the last entry that was read; None before the first start.
        open: the entries that were read and are not settled, in the order of the stream.
        history: what was read of the stream.
    """

    def __init__(self) -> None:
        self.last: bytes | None = None
        self.open: dict[Hashable, None] = {}
        self.history = History()
        self._unsure: dict[bytes, int] = {}
        self._taken: dict[bytes, int] = {}
        self._taken_last = NOTHING

    def read(self, entries: list[Entry]) -> dict[bytes, int]:
        """Note entries that were read; return what tells each of them from another one of the same id."""
        self.history.note(entries)
        found = digests(entries)
        self._unsure.update(found)
        return found

    def is_due(self) -> bool:
        """Tell whether so much was read since the last look that another one is due."""
        return len(self._unsure) >= LOOK_ENTRIES

    def sure(self) -> None:
        """Note that everything that was read is of the stream that is there."""
        self._unsure.clear()

    def go_on(self, found: Break) -> None:
        """Go on where a stream does that is not what it was; what was read since the last look may be of it already."""
        bound = order(found.last)
        both = {**self._taken, **self._unsure}
        self._taken = {entry_id: digest for entry_id, digest in both.items() if order(entry_id) <= bound}
        self._taken_last = found.last
        self._unsure.clear()
        self.open = {entry_id: None for entry_id in self.open if entry_id in self._taken}
        self.last = found.after
        self.history.begin(found.after)

    def go_back(self) -> bytes:
        """Return after which entry a new connection begins: what is not settled is read again."""
        for entry_id in self.open:
            self._taken.pop(entry_id, None)  # type: ignore[call-overload]
        last = self.last or NOTHING
        return min([last, *[before(entry_id) for entry_id in self.open if isinstance(entry_id, bytes)]], key=order)

    def is_reading_again(self) -> bool:
        """Tell whether what comes may have been read already, before the stream was found to be another one."""
        return bool(self._taken)

    def was_read(self, entry_id: bytes, digest: int) -> bool:
        """Tell whether this entry of the new stream was read before the stream was found to be another one."""
        return self._taken.get(entry_id) == digest

    def reached(self, entry_id: bytes) -> None:
        """Forget what was read before the stream was found to be another one, when reading is past that."""
        if self._taken and order(entry_id) >= order(self._taken_last):
            self._taken = {}


class StreamSource(LinkSource):
    """Reads a stream from the start of the subscription on.

    Nothing is acknowledged at Redis. After a lost connection reading goes on at the first entry that is not settled,
    and entries that were settled already are passed over.
    """

    def __init__(
        self,
        subscription: RedisSubscription,
        target: StreamSub,
        settings: Settings,
        commands: Commands,
        place: Place,
    ) -> None:
        super().__init__(subscription, settings, commands)
        self._key = target.stream
        self._first = target.first_id
        self._place = place
        self._after = b""
        self._known: bytes | None = None
        self._next_look = 0.0
        self._size = ReadSize(subscription.options["prefetch_bytes"])

    async def position(self, link: Link) -> None:
        await self.note_client(link)
        await self._size.learn(link, self._key)
        place = self._place
        if place.last is None:
            await self._begin(link)
        else:
            await self._look(link)
        self._after = place.go_back()
        if self._after != place.last:
            self._known = place.last

    async def _begin(self, link: Link) -> None:
        place, facts = self._place, await facts_of(link, self._key)
        if self._first == "$":
            place.last = NOTHING if facts is None else facts.last
        else:
            place.last = self._first.encode()
            if facts is not None and order(facts.last) < order(place.last):
                place.last = NOTHING
                report_break(self.subscription, self._key, Break(NOTHING, is_another=True))
        place.history.begin(place.last, None if facts is None else facts.added)
        self._next_look = asyncio.get_running_loop().time() + LOOK_SECONDS

    def _is_look_due(self) -> bool:
        return asyncio.get_running_loop().time() >= self._next_look or self._place.is_due()

    async def _look(self, link: Link) -> None:
        """See whether the stream is still the same one."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await self._place.history.compare(link, self._key)
        if found is not None:
            report_break(self.subscription, self._key, found)
            self._place.go_on(found)
            self._after, self._known = found.after, None
        else:
            self._place.sure()
        ended = loop.time()
        self._next_look = ended + max(LOOK_SECONDS, (ended - began) * LOOK_SHARE)

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if self._stopped:
            return ()
        if not self._expecting and self._link is not None and self._is_look_due():
            await self._look(self._link)
        count = await self._size.count(min(limit, AT_ONCE), self.dispatcher)
        if not count or self._stopped:
            return ()
        reply = await self.ask("XREAD", "COUNT", count, "BLOCK", BLOCK_MILLISECONDS, "STREAMS", self._key, self._after)
        entries = entries_of(reply)
        if not entries:
            return ()
        place, key = self._place, self._key
        self._after = entries[-1][0]
        if self._known is not None or place.is_reading_again():
            return self._again(entries, self._known or NOTHING)
        place.last = self._after
        place.read(entries)
        place.open.update(dict.fromkeys([entry_id for entry_id, _ in entries]))
        messages = [RedisStreamMessage(entry_id, fields or [], key) for entry_id, fields in drained(entries)]
        self._size.note(messages)
        return messages

    def _again(self, entries: list[Entry], known: bytes) -> list[RedisStreamMessage]:
        """Take entries of which some were read already, on an earlier connection or before it was clear of what."""
        place, bound = self._place, order(known)
        marks = place.read(entries)
        messages = []
        for entry_id, fields in entries:
            before, is_open = order(entry_id) <= bound, entry_id in place.open
            if (before and not is_open) or place.was_read(entry_id, marks[entry_id]):
                continue
            messages.append(RedisStreamMessage(entry_id, fields or [], self._key, redelivered=before or is_open))
            place.open[entry_id] = None
        if order(self._after) >= bound:
            self._known = None
            place.last = self._after
        place.reached(self._after)
        self._size.note(messages)
        return messages

    def ack(self, message: StreamMessage) -> None:
        self._place.open.pop(message.identity, None)
