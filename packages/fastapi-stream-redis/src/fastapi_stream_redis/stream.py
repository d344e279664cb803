"""Reads a stream without a group."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from fastapi_stream_core.message import StreamMessage

from .history import NOTHING, Break, History, facts_of, report_break
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

    def go_on(self, found: Break) -> None:
        """Go on where a stream does that is not what it was."""
        self.last = found.after
        self.open.clear()
        self.history.begin(found.after)


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
        self._after = place.last or NOTHING
        first = next(iter(place.open), None)
        if isinstance(first, bytes):
            self._after = before(first)
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

    async def _look(self, link: Link) -> None:
        """See whether the stream is still the same one."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await self._place.history.compare(link, self._key)
        if found is not None:
            report_break(self.subscription, self._key, found)
            self._place.go_on(found)
            self._after, self._known = found.after, None
        ended = loop.time()
        self._next_look = ended + max(LOOK_SECONDS, (ended - began) * LOOK_SHARE)

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if self._stopped:
            return ()
        if not self._expecting and self._link is not None and asyncio.get_running_loop().time() >= self._next_look:
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
        if self._known is not None:
            return self._again(entries, self._known)
        place.last = self._after
        place.history.note(entries)
        place.open.update(dict.fromkeys([entry_id for entry_id, _ in entries]))
        messages = [RedisStreamMessage(entry_id, fields or [], key) for entry_id, fields in drained(entries)]
        self._size.note(messages)
        return messages

    def _again(self, entries: list[Entry], known: bytes) -> list[RedisStreamMessage]:
        """Take entries of which some were read on an earlier connection."""
        place, bound = self._place, order(known)
        place.history.note(entries)
        messages = []
        for entry_id, fields in entries:
            before = order(entry_id) <= bound
            if before and entry_id not in place.open:
                continue
            messages.append(RedisStreamMessage(entry_id, fields or [], self._key, redelivered=before))
            place.open[entry_id] = None
        if order(self._after) >= bound:
            self._known = None
            place.last = self._after
        return messages

    def ack(self, message: StreamMessage) -> None:
        self._place.open.pop(message.identity, None)
