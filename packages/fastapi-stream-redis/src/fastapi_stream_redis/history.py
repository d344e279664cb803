"""What was read of a stream: tells whether the stream under its name is still the same one."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from .reading import Entry, digest, order

if TYPE_CHECKING:
    from fastapi_stream_core.subscription import Subscription

    from .connection import Link

__all__ = ("NOTHING", "Break", "Facts", "History", "digests", "facts_of", "newest_up_to", "next_look", "report_break")

NOTHING = b"0-0"
"""The id before every entry."""
LOOK_SECONDS = 2.0
"""How often it is looked whether a stream is still the same one, and its ids have not gone back, at most."""
LOOK_SHARE = 50
"""What share of the time is spent on that, as its divisor: Redis answers with the entries at both ends."""
REMEMBERED = 50
"""Reads whose last entry is remembered."""
OF_EACH_LEVEL = 8
"""The same of every second read before those, of every fourth, and so on."""


@dataclass(frozen=True)
class Facts:
    """What Redis says of a stream; what an older server does not say is None.

    Attributes:
        last: the newest id that it ever had.
        first: the id of its oldest entry.
        length: how many entries it has.
        added: how many it ever had.
        deleted: the newest id that was deleted.
    """

    last: bytes
    first: bytes | None
    length: int
    added: int | None
    deleted: bytes | None


async def facts_of(link: Link, key: str) -> Facts | None:
    """Return what Redis says of a stream; None when there is none."""
    try:
        answer = await link.call("XINFO", "STREAM", key)
    except ResponseError as error:
        if "no such key" in str(error):
            return None
        raise
    known: dict[bytes, Any] = dict(zip(answer[::2], answer[1::2], strict=True))
    first = known[b"first-entry"]
    return Facts(
        known[b"last-generated-id"],
        first[0] if first else None,
        known[b"length"],
        known.get(b"entries-added"),
        known.get(b"max-deleted-entry-id"),
    )


async def newest_up_to(link: Link, key: str, last: bytes) -> Entry | None:
    """Return the newest entry of a stream with an id up to `last`; None when there is none, or nobody may ask."""
    if last == NOTHING:
        return None
    (reply,) = await link.ask_all([("XREVRANGE", key, last, "-", "COUNT", 1)])
    return reply[0] if reply and not isinstance(reply, Exception) else None


def next_look(began: float) -> float:
    """Return when a stream is to be looked at again, on the loop's clock, after a look that began then."""
    now = asyncio.get_running_loop().time()
    return now + max(LOOK_SECONDS, (now - began) * LOOK_SHARE)


@dataclass(frozen=True)
class Break:
    """The stream is not what it was.

    Attributes:
        after: the entry after which reading goes on.
        is_another: whether it was deleted and made again; otherwise it lost its newest entries, in a failover.
        last: the newest id that it has had by now.
    """

    after: bytes
    is_another: bool
    last: bytes = NOTHING


_Mark = tuple[bytes, int]
"""An entry that was read: its id, and a digest of what it holds."""


class _Marks:
    """Entries that were read: the newest ones, ever fewer of those before them, and the very first."""

    def __init__(self) -> None:
        self._first: _Mark | None = None
        self._older: list[deque[_Mark]] = []
        self._newest: deque[_Mark] = deque()
        self._count = 0

    def add(self, mark: _Mark) -> None:
        self._first = self._first or mark
        self._newest.append(mark)
        if len(self._newest) <= REMEMBERED:
            return
        self._count += 1
        level = (self._count & -self._count).bit_length() - 1
        while len(self._older) <= level:
            self._older.append(deque(maxlen=OF_EACH_LEVEL))
        self._older[level].append(self._newest.popleft())

    def backwards(self) -> list[_Mark]:
        """Return all of them, the newest one first."""
        first = () if self._first is None else (self._first,)
        found = {*first, *chain.from_iterable(self._older), *self._newest}
        return sorted(found, key=lambda mark: order(mark[0]), reverse=True)


class History:
    """The newest entry that is known of a stream, and some that were read before it.

    Attributes:
        newest: its id; the entry itself need not exist when it was not read here.
        was_reached: whether the stream was seen to be as far as what is read of it: a group may begin with ids to come.
    """

    def __init__(self) -> None:
        self.newest = NOTHING
        self.was_reached = False
        self._added = 0
        self._read = _Marks()
        self._anchor: _Mark | None = None
        self._last: _Mark | None = None

    def begin(self, after: bytes, added: int | None = 0, before: Entry | None = None) -> None:
        """Begin after an entry; what was read up to there is still known.

        Args:
            after: its id.
            added: how many entries the stream had by then.
            before: the newest entry of the stream up to there, where it is known.
        """
        known = self._read.backwards()
        self.newest = after
        self._added = added or 0
        self._read, self._anchor, self._last = _Marks(), None, None
        if before is not None:
            self._add((before[0], digest(before[1])))
        for mark in reversed(known):
            if order(mark[0]) <= order(after):
                self._add(mark)

    def _add(self, mark: _Mark) -> None:
        self._read.add(mark)
        self._anchor, self._last = self._anchor or mark, mark

    def note(self, entries: list[Entry]) -> None:
        """Note entries that were read."""
        entry_id, fields = entries[-1]
        if order(entry_id) > order(self.newest):
            self._added += len(entries)
            self.newest = entry_id
            self._add((entry_id, digest(fields)))

    async def compare(self, link: Link, key: str) -> Break | None:
        """Return how the stream differs from what was read of it; None when it is the same one.

        A stream that was made again has not what was read, although nothing that new was ever deleted from it; or its
        ids, or its count of entries, have gone back.
        """
        if self.newest == NOTHING:
            return None
        # The entries are asked for first: one that is deleted before the second answer would seem never to have been.
        states = [(mark[0], await _state(link, key, mark)) for mark in {self._anchor, self._last} if mark is not None]
        facts = await facts_of(link, key)
        if facts is None:
            return Break(NOTHING, is_another=True)
        if not self._is_doubtful(states, facts):
            self._anchor = self._last
            return None
        marks = self._read.backwards()
        is_gone = not marks
        for mark in marks:
            if await _state(link, key, mark) is not True:
                is_gone = True
            elif is_gone:
                return Break(mark[0], is_another=False, last=facts.last)
        if is_gone:
            return Break(NOTHING, is_another=True, last=facts.last)
        self._added = facts.added or 0
        return None

    def _is_doubtful(self, states: list[tuple[bytes, bool | None]], facts: Facts) -> bool:
        """Tell whether what was read may be of another stream: at the last look, or since then.

        Args:
            states: of the entries that were read last at those times.
            facts: what Redis said of the stream after that.
        """
        if order(facts.last) < order(self.newest) or (facts.added is not None and facts.added < self._added):
            return True
        return any(
            state is False or (state is None and _was_never_there(facts, entry_id)) for entry_id, state in states
        )


def _was_never_there(facts: Facts, entry_id: bytes) -> bool:
    """Tell whether an entry that is not in a stream was not deleted from it either."""
    if facts.added is None:
        return False
    if facts.added == facts.length:
        return True
    is_within = facts.first is not None and order(facts.first) <= order(entry_id)
    return is_within and order(facts.deleted or NOTHING) < order(entry_id)


def digests(entries: list[Entry]) -> dict[bytes, int]:
    """Return for each id what tells its entry from another one of the same id."""
    return {entry_id: digest(fields) for entry_id, fields in entries}


async def _state(link: Link, key: str, mark: _Mark) -> bool | None:
    """Tell whether an entry is the one that was read; None when there is none."""
    found: list[Entry] = await link.call("XRANGE", key, mark[0], mark[0])
    return digest(found[0][1]) == mark[1] if found else None


def report_break(subscription: Subscription, key: str, found: Break) -> None:
    """Say in one line that a stream is not what it was."""
    report = subscription.broker.report
    if found.is_another:
        text = "%s: %s was deleted and made again; reading it from its beginning"
        report.line(logging.WARNING, text, subscription.label, key)
    else:
        text = "%s: %s lost its newest entries; reading goes on after %s"
        report.line(logging.WARNING, text, subscription.label, key, found.after.decode())
