"""Reads a stream without a group."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from fastapi_stream_core.message import StreamMessage
from redis.exceptions import ResponseError

from .message import RedisStreamMessage
from .reading import AT_ONCE, Entry, ReadSize, before, drained, entries_of, order
from .source import BLOCK_SECONDS, LinkSource

if TYPE_CHECKING:
    from .commands import Commands
    from .connection import Link, Settings
    from .schema import StreamSub
    from .subscription import RedisSubscription

__all__ = ("BLOCK_MILLISECONDS", "Place", "StreamSource", "last_id")

BLOCK_MILLISECONDS = int(BLOCK_SECONDS * 1000)


class Place:
    """How far a subscription has read, whatever becomes of its connection.

    Attributes:
        last: the last entry that was read; None before the first start.
        open: the entries that were read and are not settled, in the order of the stream.
    """

    def __init__(self) -> None:
        self.last: bytes | None = None
        self.open: dict[Hashable, None] = {}


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
        self._size = ReadSize(subscription.options["prefetch_bytes"])

    async def position(self, link: Link) -> None:
        await self.note_client(link)
        await self._size.learn(link, self._key)
        place = self._place
        if place.last is None:
            place.last = await last_id(link, self._key) if self._first == "$" else self._first.encode()
        self._after = place.last
        first = next(iter(place.open), None)
        if isinstance(first, bytes):
            self._after = before(first)
            self._known = place.last

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if self._stopped:
            return ()
        count = self._size.count(min(limit, AT_ONCE))
        reply = await self.ask("XREAD", "COUNT", count, "BLOCK", BLOCK_MILLISECONDS, "STREAMS", self._key, self._after)
        entries = entries_of(reply)
        if not entries:
            return ()
        place, key = self._place, self._key
        self._after = entries[-1][0]
        if self._known is not None:
            return self._again(entries, self._known)
        place.last = self._after
        place.open.update(dict.fromkeys([entry_id for entry_id, _ in entries]))
        messages = [RedisStreamMessage(entry_id, fields or [], key) for entry_id, fields in drained(entries)]
        self._size.note(messages)
        return messages

    def _again(self, entries: list[Entry], known: bytes) -> list[RedisStreamMessage]:
        """Take entries of which some were read on an earlier connection."""
        place, bound = self._place, order(known)
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


async def last_id(link: Link, key: str) -> bytes:
    """Return the id of the newest entry that a stream ever had; `0-0` when there is no stream."""
    try:
        facts = await link.call("XINFO", "STREAM", key)
    except ResponseError as error:
        if "no such key" in str(error):
            return b"0-0"
        raise
    found: bytes = dict(zip(facts[::2], facts[1::2], strict=True))[b"last-generated-id"]
    return found
