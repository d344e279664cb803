"""What a read of Redis brings: its entries, their order, and how many of them to ask for."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from fastapi_stream_core.dispatch import Dispatcher
    from fastapi_stream_core.message import StreamMessage

    from .connection import Link

__all__ = ("AT_ONCE", "Entry", "ReadSize", "digest", "drained", "entries_of", "order")

T = TypeVar("T")

AT_ONCE = 100
"""Entries of one read: more of them make the garbage collector stop the event loop for tens of milliseconds."""
ROOM_SECONDS = 1.0
"""How long one read waits until something is finished."""
FIRST = 10
"""Entries of the first read, when nothing is known of their size."""
SAFE_BYTES = 64 * 1024
"""A reply of so many bytes is no reason for a server to end the connection, and large enough to read fast."""
Entry = tuple[bytes, "list[bytes] | None"]


class ReadSize:
    """How many entries one read asks for. Redis counts entries; what they weigh is learned from those before.

    Each is taken to be as large as the largest that came, and less with every read that brings smaller ones. When
    entries become larger all at once, a single read brings more than there is room for; the next one does not.

    A server may end a connection whose reply is larger than it allows (`client-output-buffer-limit`,
    `maxmemory-clients`). So after a connection that was lost with a read, reading begins again with a single entry, and
    no read asks for more than half of what that one would have brought. It outlives the connections for that.

    Args:
        most_bytes: of what was read and is not finished.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._expected = max(most_bytes / FIRST, 1.0)
        self._asked = 0
        self._most_asked = sys.maxsize
        self._most_reply = math.inf

    async def learn(self, link: Link, key: str, count_by: str = "XLEN") -> None:
        """Ask Redis for the size of what a stream, or a list, has, on a new connection."""
        if self._asked:
            self._lost(self._asked)
        await link.send(((count_by, key), ("MEMORY", "USAGE", key)))
        length, size = await link.replies(2, link.answer_seconds)
        if isinstance(length, ResponseError):
            raise length
        # A server may forbid the second question; then the first entries tell.
        if isinstance(length, int) and isinstance(size, int) and length:
            self._expected = max(size / length, 1.0)

    def _lost(self, asked: int) -> None:
        """Ask for less: a read of so many entries has no answer, since its connection was lost."""
        self._asked, self._most_asked = 0, 1
        size = asked * self._expected
        if asked > 1 and size > SAFE_BYTES:
            self._most_reply = max(size / 2, SAFE_BYTES)

    async def count(self, limit: int, dispatcher: Dispatcher) -> int:
        """Return how many entries to ask for, at most `limit`: 0 when there was no room for a while."""
        room = self._most
        if dispatcher.backlog():
            room -= sum([message.size for message in dispatcher.unfinished()])
            if room <= 0:
                await dispatcher.wait_finished(ROOM_SECONDS)
                return 0
        self._asked = max(1, min(limit, self._most_asked, int(min(room, self._most_reply) / self._expected)))
        return self._asked

    def note(self, messages: Sequence[StreamMessage]) -> None:
        """Learn from what came: at once that entries are larger, slowly that they are smaller."""
        self._asked = 0
        if messages:
            self._most_asked = min(2 * self._most_asked, sys.maxsize)
            sizes = [message.size for message in messages]
            average = sum(sizes) / len(sizes)
            self._expected = max(*sizes, 1.0, (3 * self._expected + average) / 4)


def entries_of(reply: Any) -> list[Entry]:
    """Return the entries in the reply to a read of one stream."""
    return reply[0][1] if reply else []


def drained(items: list[T]) -> Iterator[T]:
    """Give each item away, so that the reply does not keep what a message was made of."""
    items.reverse()
    while items:
        yield items.pop()


def digest(fields: Sequence[bytes] | None) -> int:
    """Return what tells an entry from another one of the same id."""
    return hash(tuple(fields or ()))


def order(entry_id: bytes) -> tuple[int, int]:
    """Return what ids are ordered by."""
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number or 0)
