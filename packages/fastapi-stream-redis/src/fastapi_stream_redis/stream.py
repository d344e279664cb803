"""Reads a stream without a group."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi_stream_core.message import StreamMessage

from .history import NOTHING, Break, History, digests, facts_of, newest_up_to, next_look, report_break
from .in_flight import InFlight, report_lost
from .message import RedisStreamMessage
from .reading import AT_ONCE, Entry, ReadSize, drained, entries_of, order
from .source import BLOCK_SECONDS, LinkSource

if TYPE_CHECKING:
    from .commands import Commands
    from .connection import Link, Settings
    from .schema import StreamSub
    from .subscription import RedisSubscription

__all__ = ("Place", "StreamSource")

LOOK_ENTRIES = 20_000
"""Entries after which it is looked all the same: until then each is remembered."""


class Place:
    """How far a subscription has read, whatever becomes of its connection.

    Attributes:
        last: the last entry that was read; None before the first start.
        in_flight: the entries that were read and are not settled.
        history: what was read of the stream.
    """

    def __init__(self) -> None:
        self.last: bytes | None = None
        self.in_flight = InFlight()
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
        self.in_flight.only(self._taken.__contains__)
        self.last = found.after
        self.history.begin(found.after)

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

    Nothing is acknowledged at Redis. After a lost connection what is not settled and not in hand is read once more, and
    reading goes on where it was.
    """

    def __init__(
        self,
        subscription: RedisSubscription,
        target: StreamSub,
        settings: Settings,
        commands: Commands,
        place: Place,
        size: ReadSize,
    ) -> None:
        super().__init__(subscription, settings, commands)
        self._key = target.stream
        self._first = target.first_id
        self._place = place
        self._after = b""
        self._next_look = 0.0
        self._size = size

    async def position(self, link: Link) -> None:
        await self.note_client(link)
        await self._size.learn(link, self._key)
        place = self._place
        if place.last is None:
            await self._begin(link)
        else:
            await self._look(link)
        self._after = place.last or NOTHING

    async def _begin(self, link: Link) -> None:
        began = asyncio.get_running_loop().time()
        place, facts = self._place, await facts_of(link, self._key)
        if self._first == "$":
            place.last = NOTHING if facts is None else facts.last
        else:
            place.last = self._first.encode()
            if facts is not None and order(facts.last) < order(place.last):
                place.last = NOTHING
                report_break(self.subscription, self._key, Break(NOTHING, is_another=True))
        before = await newest_up_to(link, self._key, place.last)
        # From an earlier entry on, those after it are counted when they are read.
        added = facts.added if facts is not None and place.last == facts.last else 0
        place.history.begin(place.last, added, before)
        self._next_look = next_look(began)

    def _is_look_due(self) -> bool:
        return asyncio.get_running_loop().time() >= self._next_look or self._place.is_due()

    async def _look(self, link: Link) -> None:
        """See whether the stream is still the same one."""
        began = asyncio.get_running_loop().time()
        found = await self._place.history.compare(link, self._key)
        if found is not None:
            report_break(self.subscription, self._key, found)
            self._place.go_on(found)
            self._after = found.after
        else:
            self._place.sure()
        self._next_look = next_look(began)

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if self._stopped:
            return ()
        if not self._expecting and self._link is not None and self._is_look_due():
            await self._look(self._link)
        count = await self._size.count(min(limit, AT_ONCE), self.dispatcher)
        if not count or self._stopped:
            return ()
        place, key = self._place, self._key
        place.in_flight.look(self.dispatcher)
        if due := place.in_flight.due(count):
            return await self._read_due(due)
        milliseconds = math.ceil(place.in_flight.seconds(BLOCK_SECONDS) * 1000)
        reply = await self.ask("XREAD", "COUNT", count, "BLOCK", milliseconds, "STREAMS", key, self._after)
        entries = entries_of(reply)
        if not entries:
            return ()
        self._after = place.last = entries[-1][0]
        marks = place.read(entries)
        if place.is_reading_again():
            entries = [entry for entry in entries if not place.was_read(entry[0], marks[entry[0]])]
            place.reached(self._after)
        messages = [RedisStreamMessage(entry_id, fields or [], key) for entry_id, fields in drained(entries)]
        place.in_flight.add(messages)
        self._size.note(messages)
        return messages

    async def _read_due(self, ids: Sequence[bytes]) -> list[RedisStreamMessage]:
        """Read entries of an earlier connection whose time has come."""
        link, in_flight = self._link, self._place.in_flight
        if link is None:
            raise ConnectionError("the source is closed")
        replies = await link.ask_all([("XRANGE", self._key, one, one) for one in ids])
        messages, lost = [], []
        for entry_id, found in zip(ids, replies, strict=True):
            if isinstance(found, Exception):
                raise found
            if found:
                fields = found[0][1]
                attempt = in_flight.number((entry_id, fields), 1)
                messages.append(RedisStreamMessage(entry_id, fields, self._key, attempt=attempt, redelivered=True))
            else:
                in_flight.drop(entry_id)
                lost.append(entry_id)
        report_lost(self.subscription, self._key, lost)
        in_flight.add(messages)
        self._size.note(messages)
        return messages

    def ack(self, message: StreamMessage) -> None:
        in_flight = self._place.in_flight
        if in_flight.kept or in_flight.left or in_flight.had_replaced:
            in_flight.finish(message)
        else:
            in_flight.ids.pop(message.identity, None)

    def keep(self, message: StreamMessage, delay: float) -> None:
        if isinstance(message, RedisStreamMessage) and not message.is_replaced:
            self._place.in_flight.keep(self, message, delay)

    async def close(self) -> None:
        self._place.in_flight.leave(self)
        await super().close()
