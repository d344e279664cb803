"""Keeps what a consumer of a group has in hand pending for it, until it is finished or handed back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import BrokerUnavailable
from redis.exceptions import RedisError

from .ledger import ACK_SECONDS
from .reading import AT_ONCE

if TYPE_CHECKING:
    from .commands import Commands
    from .ledger import Ledger
    from .subscription import RedisSubscription

__all__ = ("Lease", "interval_of")

EVER = 2**53
"""Milliseconds for which nothing has been idle. What is pending for nobody is claimed all the same, with FORCE."""
LOOK_SECONDS = 2.0
"""How long an answer may take without which only somebody else's mistake costs something."""
LEAST_SECONDS = 0.1
"""Between two turns of what has to be done several times while an entry becomes idle, however soon that is."""


def interval_of(idle: int, times: int) -> float:
    """Return the seconds between two of `times` turns in the `idle` milliseconds after which an entry is taken over."""
    return max(idle / 1000 / times, LEAST_SECONDS)


class Lease:
    """The claim of one consumer to its entries.

    Redis forgets it when the consumer is deleted: such an entry is pending for nobody, the group is past it, and when
    this process ended before it is finished nobody would handle it. That is noticed by what Redis no longer knows.

    Attributes:
        names: of the group and the consumer.
    """

    def __init__(
        self, subscription: RedisSubscription, key: str, names: tuple[str, str], commands: Commands, ledger: Ledger
    ) -> None:
        self.names = names
        self._subscription = subscription
        self._key = key
        self._commands = commands
        self._ledger = ledger
        self._flight = ledger.in_flight
        self._task: asyncio.Task[None] | None = None
        self._was_deleted = False
        self._back: Mapping[int, Sequence[Hashable]] = {}
        self._idle = 0

    def begin(self, idle: int) -> None:
        """Keep other consumers from taking over what waits here or runs, which they do after `idle` milliseconds."""
        self._task = asyncio.get_running_loop().create_task(self._extend(interval_of(idle, 3)), name="redis lease")

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _extend(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            ids = [*self._flight.ids, *self._flight.waiting, *self._ledger.unsent]
            try:
                known = [await self._claim(some) for some in _parts(ids)]
            except (BrokerUnavailable, RedisError):
                continue
            if not all(known):
                await self.restore(self._flight.deliveries())

    async def set_count(self, ids: Sequence[Hashable], deliveries: int, idle: int = 0) -> None:
        """Have Redis know how often entries were delivered, and for how many milliseconds they have been idle."""
        try:
            known = await self._claim(ids, "IDLE", idle, "RETRYCOUNT", deliveries)
        except (BrokerUnavailable, RedisError):
            # The count is then too low by one, and the entry is taken over later.
            return
        if not known:
            await self.restore({deliveries: ids}, idle)

    async def hand_back(self, begun: Mapping[int, Sequence[Hashable]], idle: int | None) -> None:
        """Let other consumers take over entries.

        Args:
            begun: the entries, by how many of their deliveries have begun.
            idle: the milliseconds after which they do; None when they do not.
        """
        if idle is None:
            await self.restore(begun)
        else:
            for deliveries, ids in begun.items():
                for some in _parts(ids):
                    await self.set_count(some, deliveries, idle)
        self._back, self._idle, self._was_deleted = begun, idle or 0, False

    async def finish(self, begun: Mapping[int, Sequence[Hashable]]) -> None:
        """Have pending at the end what is not finished.

        What was handed back before, when this consumer was deleted since, too. Others may have finished some of it
        meanwhile, which nobody can tell from that: it is handled once more.

        Args:
            begun: what is in hand, by how many of its deliveries have begun.
        """
        self._was_deleted |= any(self._back.values()) and await self._is_missing()
        await self.restore(begun)
        if self._was_deleted:
            await self.restore(self._back, self._idle)

    async def _is_missing(self) -> bool:
        """Tell whether the group has no such consumer."""
        group, consumer = self.names
        try:
            found = await self._commands.execute("XINFO", "CONSUMERS", self._key, group, timeout=LOOK_SECONDS)
        except (BrokerUnavailable, RedisError):
            return False
        return consumer.encode() not in [one[1] for one in found]

    async def _claim(self, ids: Sequence[Hashable], *more: str | int) -> bool:
        """Claim what is pending; tell whether all of it was."""
        known = await self._commands.execute(
            "XCLAIM", self._key, *self.names, 0, *ids, *more, "JUSTID", timeout=ACK_SECONDS
        )
        return len(known) == len(ids)

    async def restore(self, begun: Mapping[int, Sequence[Hashable]], idle: int = 0) -> None:
        """Have those pending again that are pending for nobody and not finished.

        Args:
            begun: entries by how many of their deliveries have begun.
            idle: for how many milliseconds they are to have been idle.
        """
        ledger, again = self._ledger, []
        try:
            for deliveries, ids in begun.items():
                for some in _parts([one for one in ids if not self._is_finished(one)]):
                    again += await self._commands.execute(
                        "XCLAIM", self._key, *self.names, EVER, *some, "IDLE", idle, "RETRYCOUNT", deliveries, "FORCE",
                        "JUSTID", timeout=ACK_SECONDS,
                    )  # fmt: skip
        except (BrokerUnavailable, RedisError):
            # What is in hand is looked at again later, or at the stop.
            pass
        for one in again:
            if ledger.finished(one):
                ledger.ack_again(one)
        if again:
            self._was_deleted = True
            self._subscription.broker.report.line(
                logging.WARNING,
                "%s: %d entries of %s in hand were pending for nobody (XGROUP DELCONSUMER of %r, or XACK by somebody"
                " else), and are pending again: %s ...",
                self._subscription.label, len(again), self._key, self.names[1], again[0].decode(),
            )  # fmt: skip

    def _is_finished(self, entry_id: Hashable) -> bool:
        return isinstance(entry_id, bytes) and self._ledger.finished(entry_id)


def _parts(ids: Sequence[Hashable]) -> Iterable[Sequence[Hashable]]:
    return (ids[begin : begin + AT_ONCE] for begin in range(0, len(ids), AT_ONCE))
