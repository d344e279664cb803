"""The acknowledgements of a group, and what else outlives the connection that reads it."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import BrokerUnavailable
from fastapi_stream_core.report import describe
from redis.exceptions import RedisError

from .consumer import own_name
from .in_flight import InFlight
from .reading import Entry, order

if TYPE_CHECKING:
    from fastapi_stream_core.report import Report

    from .commands import Commands
    from .history import History

__all__ = ("ACK_SECONDS", "Ledger")

COALESCE_SECONDS = 0.003
"""How long an acknowledgement waits for others."""
TOGETHER = 1000
"""Most ids of one XACK."""
REMEMBERED = 10_000
"""Entries that are known to be finished, so that a copy read just before its acknowledgement is not run again."""
NOT_YET = math.inf
"""When the acknowledgement was sent that Redis took, as long as it took none."""
EVER = -math.inf
MOST_UNSENT = 10_000
"""Acknowledgements that wait for a server that refuses them; the oldest beyond that are given up."""
ACK_SECONDS = 10.0
GONE = "WRONGTYPE"
"""What Redis says when the stream was deleted, and its name is something else's now."""
FIRST_DELAY = 0.2
MAX_DELAY = 5.0
"""Seconds between two attempts to acknowledge what Redis refuses."""


class Ledger:
    """The acknowledgements of one group, whatever becomes of the connection that reads it.

    One that Redis does not take, because of a permission for example, is sent again until it does. When too many wait,
    the oldest are given up: their entries stay pending at Redis.

    Attributes:
        history: what was delivered to this consumer, and what the group had delivered before; None before the first
            start.
        in_flight: what was delivered to this consumer and is not settled.
        own_name: the name of the consumer when the user gave none, or somebody else has that.
        token: what tells its connections from those of others.
    """

    def __init__(self, commands: Commands, key: str, group: str, report: Report) -> None:
        self._commands = commands
        self._key = key
        self._group = group
        self._report = report
        self._noted: list[Hashable] = []
        self._sending: list[Hashable] = []
        self._given_up = False
        self._repeated: dict[Hashable, None] = {}
        self._finished: dict[Hashable, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.late: Callable[[], None] = lambda: None
        self.history: History | None = None
        self.in_flight = InFlight()
        self.own_name = own_name()
        self.token = secrets.token_hex(8)
        self._newest = (0, 0)

    def finished(self, entry_id: bytes, delivered: float = EVER) -> bool:
        """Tell whether this process is done with an entry.

        Args:
            entry_id: the entry.
            delivered: when Redis gave it to a consumer, or later, on the loop's clock. When Redis took our
                acknowledgement before that, this is another delivery: the group was set back, or the stream made again.
        """
        return self._finished.get(entry_id, EVER) > delivered

    def ack(self, entry_id: Hashable) -> None:
        """Note an acknowledgement; it is sent within milliseconds, together with others."""
        finished = self._finished
        if entry_id in finished and finished[entry_id] is NOT_YET:
            return
        finished[entry_id] = NOT_YET
        if self._closed:
            self.late()
            return
        self._noted.append(entry_id)
        if len(self._noted) > MOST_UNSENT:
            self._give_up_oldest()
        self._begin()

    def ack_again(self, entry_id: Hashable) -> None:
        """Acknowledge once more what is finished and pending at Redis, which a failover may have cost the first one."""
        if not self._closed:
            self._finished[entry_id] = NOT_YET
            self._repeated[entry_id] = None
            self._begin()

    def forget(self, ids: Iterable[Hashable]) -> None:
        """Forget that entries are finished, and acknowledge them no more: they are delivered anew, or not there."""
        known = {one: self._finished.pop(one) for one in ids if one in self._finished}
        if NOT_YET not in known.values() and not self._repeated:
            return
        before = len(self.unsent)
        self._noted = [one for one in self._noted if one not in known]
        self._sending = [one for one in self._sending if one not in known]
        for one in known:
            self._repeated.pop(one, None)
        for _ in range(before - len(self.unsent)):
            self.late()

    def only(self, chosen: Callable[[Hashable], bool]) -> None:
        """Forget all others: the stream was made again."""
        self.forget([one for one in self._finished if not chosen(one)])

    @property
    def unsent(self) -> Sequence[Hashable]:
        """What is finished and not acknowledged at Redis yet."""
        return [*self._sending, *self._noted]

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send(), name="redis acknowledge")

    def delivered(self, entries: list[Entry]) -> list[Entry]:
        """Note what the group delivered for the first time; once more when it was set back, by whoever wants that.

        Returns:
            Those that are to be handled: what is in hand stays there.
        """
        fresh = entries
        if order(entries[0][0]) <= self._newest:
            self.forget(entry_id for entry_id, _ in entries)
            fresh = [entry for entry in entries if not self.in_flight.knows(entry)]
            for entry_id, _ in fresh:
                self.in_flight.drop(entry_id)
        self._newest = max(self._newest, order(entries[-1][0]))
        if self.history is not None:
            self.history.note(entries)
        return fresh

    def delivered_again(self, ids: Sequence[bytes]) -> None:
        """Note entries that were delivered before, to whomever, and are to be handled."""
        self.forget(ids)
        self._newest = max([self._newest, *map(order, ids)])

    async def _send(self) -> None:
        delay, is_told, now = 0.0, False, asyncio.get_running_loop().time
        try:
            while self._noted or self._repeated:
                if delay or len(self._noted) < TOGETHER:
                    await asyncio.sleep(delay or COALESCE_SECONDS)
                sending = self._sending = self._noted[:TOGETHER]
                del self._noted[: len(sending)]
                ids, sent = sending or [*self._repeated][:TOGETHER], now()
                if not ids:
                    break
                try:
                    known = await self._commands.execute("XACK", self._key, self._group, *ids, timeout=ACK_SECONDS)
                except BrokerUnavailable:
                    self._take_back()
                    delay = min(2 * delay or FIRST_DELAY, MAX_DELAY)
                    continue
                except RedisError as error:
                    if str(error).startswith(GONE):
                        known = 0
                    else:
                        self._take_back()
                        if not is_told:
                            self._tell(error)
                            is_told = True
                        delay = min(2 * delay or FIRST_DELAY, MAX_DELAY)
                        continue
                taken = self._sending if sending else [one for one in ids if one in self._repeated]
                self._finished.update(dict.fromkeys(taken, sent))
                delay, is_told, self._given_up, self._sending = 0.0, False, False, []
                if sending:
                    for _ in range(len(ids) - known):
                        self.late()
                    self._shrink()
                else:
                    for one in ids:
                        self._repeated.pop(one, None)
        finally:
            self._task = None

    def _take_back(self) -> None:
        self._noted[:0] = self._sending
        self._sending = []

    def _give_up_oldest(self) -> None:
        del self._noted[:TOGETHER]
        for _ in range(TOGETHER):
            self.late()
        self._shrink()
        if not self._given_up:
            self._given_up = True
            self._report.line(
                logging.WARNING,
                "%s: more than %d acknowledgements wait for the group %r: the oldest are given up, and their entries"
                " stay pending",
                self._key, MOST_UNSENT, self._group,
            )  # fmt: skip

    def _tell(self, error: RedisError) -> None:
        self._report.line(
            logging.WARNING,
            "%s: the group %r gets no acknowledgements, which are sent again until it does: %s",
            self._key, self._group, describe(error),
        )  # fmt: skip

    def _shrink(self) -> None:
        if len(self._finished) > 2 * max(REMEMBERED, len(self._noted)):
            kept = max(REMEMBERED, len(self._noted))
            self._finished = dict(islice(self._finished.items(), len(self._finished) - kept, None))

    async def flush(self) -> None:
        """Wait until everything noted is sent."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Give up what could not be sent, and take nothing more."""
        self._closed = True
        await self.in_flight.end()
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._take_back()
        for _ in self._noted:
            self.late()
        self._noted.clear()
