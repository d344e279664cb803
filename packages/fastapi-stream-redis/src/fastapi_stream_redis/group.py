"""Reads a stream as one consumer of a group: at least once."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import BrokerUnavailable
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.policy import Verdict
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from .consumer import Moments, deliveries_after, find_group, forget_leftovers, holder_of, make_group, set_group_back
from .history import NOTHING, Break, History, facts_of, newest_up_to, next_look, report_break
from .in_flight import report_lost
from .lease import Lease, interval_of
from .ledger import ACK_SECONDS
from .message import RedisStreamMessage
from .reading import AT_ONCE, Entry, ReadSize, drained, entries_of, order
from .source import BLOCK_SECONDS, LinkSource

if TYPE_CHECKING:
    from .commands import Commands
    from .connection import Link, Settings
    from .ledger import Ledger
    from .schema import StreamSub
    from .subscription import RedisSubscription

__all__ = ("GroupSource",)

SWEEP_SECONDS = 5.0
"""How often idle entries of other consumers are looked for, at most."""


class GroupSource(LinkSource):
    """One life of a consumer of a group.

    At its start it takes what was delivered to this consumer and not acknowledged, then what is new, and now and then
    what another consumer left behind. A message that fails stays pending at Redis and with the core, which handles it
    again; the count of its deliveries is kept at Redis.
    """

    adaptive = True
    at_once = AT_ONCE

    def __init__(
        self,
        subscription: RedisSubscription,
        target: StreamSub,
        settings: Settings,
        commands: Commands,
        ledger: Ledger,
        size: ReadSize,
    ) -> None:
        super().__init__(subscription, settings, commands)
        self._target = target
        self._key = target.stream
        self._names = (target.group or "", target.consumer or ledger.own_name)
        self._ledger = ledger
        self._note = ledger.ack
        self._flight = ledger.in_flight
        self._pending: bytes | None = b"0"
        self._cursor = b"0-0"
        self._idle = target.claim_min_idle_time
        self._sweep_seconds = SWEEP_SECONDS if self._idle is None else min(interval_of(self._idle, 2), SWEEP_SECONDS)
        self._next_sweep = 0.0
        self._next_look = 0.0
        self._again_at: float | None = None
        self._size = size
        self._lease = Lease(subscription, self._key, self._names, commands, ledger)

    async def position(self, link: Link) -> None:
        self._ledger.late = self.dispatcher.late
        await self.note_client(link)
        await self._choose_name(link)
        await self._create(link)
        await self._look(link)
        await forget_leftovers(link, self._key, self._names[0])
        await self._size.learn(link, self._key)
        self._again_at = asyncio.get_running_loop().time() + self._sweep_seconds
        if self._idle is not None:
            self._lease.begin(self._idle)

    async def _choose_name(self, link: Link) -> None:
        """Take the name that the user gave, unless another process has it: both would run what is pending."""
        group, consumer = self._names
        if consumer == self._ledger.own_name:
            return
        place = (str(self._settings.arguments.get("db", 0)), self._key, group, consumer)
        holder = await holder_of(link, place, self._ledger.token)
        if holder is None:
            return
        self._names = self._lease.names = (group, self._ledger.own_name)
        self.subscription.broker.report.line(
            logging.WARNING,
            "%s: the consumer %r of the group %r runs already (%s), so this one is %r;"
            " leave consumer= out, or give every process a name of its own",
            self.subscription.label, consumer, group, holder, self._names[1],
        )  # fmt: skip

    async def _create(self, link: Link, was_lost: bool = False) -> None:
        """Make sure that the group is there; one that vanished begins where this consumer has been, or anew.

        Args:
            link: the connection.
            was_lost: whether it vanished under this consumer; another one may have made it again already.
        """
        history, group = self._ledger.history, self._names[0]
        known = await find_group(link, self._key, group)
        found = None if history is None or known is not None else await history.compare(link, self._key)
        is_new = False
        if known is None:
            first: str | bytes = self._target.first_id if history is None else history.newest
            is_new = await make_group(link, self._key, group, found.after if found else first)
        if history is None:
            known = known or await find_group(link, self._key, group)
            delivered = known[b"last-delivered-id"] if known else NOTHING
            self._ledger.history = History()
            self._ledger.history.begin(delivered, before=await newest_up_to(link, self._key, delivered))
            return
        if found is not None:
            report_break(self.subscription, self._key, found)
            history.begin(found.after)
            self._forget_after(found)
        elif is_new:
            self.subscription.broker.report.line(
                logging.WARNING,
                "%s: the group %r of %s was deleted and made again; reading goes on after %s",
                self.subscription.label, group, self._key, history.newest.decode(),
            )  # fmt: skip
        if is_new or was_lost:  # it knows of nothing pending
            await self._note_deliveries(link, self._flight.deliveries(), "FORCE")

    async def _look(self, link: Link) -> None:
        """Set the group back when the ids of the stream have gone back (XSETID): it would wait for them for ever."""
        history, group = self._ledger.history, self._names[0]
        began = asyncio.get_running_loop().time()
        # The group is asked for first: what is added and delivered to somebody else before the second answer would
        # have it be ahead of a stream that is as it was.
        known = await find_group(link, self._key, group)
        try:
            facts = await facts_of(link, self._key)
        except NoPermissionError:
            self._next_look = math.inf
            return
        self._next_look = next_look(began)
        if history is None or facts is None or known is None:
            return
        delivered = known[b"last-delivered-id"]
        if order(delivered) <= order(facts.last):
            history.was_reached = True
        elif history.was_reached:
            found = await history.compare(link, self._key) or Break(NOTHING, is_another=True, last=facts.last)
            if await set_group_back(link, self._key, group, delivered, found.after):
                report_break(self.subscription, self._key, found)
                history.begin(found.after)
                self._forget_after(found)

    def _forget_after(self, found: Break) -> None:
        """Forget what is in hand, or finished, and is not of the stream that is there now."""
        last = order(NOTHING if found.is_another else found.after)

        def is_there(entry_id: Hashable) -> bool:
            return isinstance(entry_id, bytes) and order(entry_id) <= last

        self._flight.only(is_there)
        self._ledger.only(is_there)

    async def _note_deliveries(self, link: Link, begun: dict[int, list[Hashable]], *more: str) -> None:
        """Have Redis know how often entries of this consumer were delivered: reading them again counts, too."""
        commands = [
            ("XCLAIM", self._key, *self._names, 0, *ids[begin : begin + AT_ONCE], "RETRYCOUNT", count, *more, "JUSTID")
            for count, ids in begun.items()
            for begin in range(0, len(ids), AT_ONCE)
        ]
        if commands:
            await link.ask_all(commands)

    # Reading.

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        try:
            return await self._fetch(limit)
        except ResponseError as error:
            # The stream, or its group, was deleted.
            if self._link is None or not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            await self._create(self._link, was_lost=True)
            return ()

    async def _fetch(self, limit: int) -> Sequence[StreamMessage]:
        count = await self._size.count(min(limit, AT_ONCE), self.dispatcher)
        if not count or self._stopped:
            return ()
        if self._expecting:
            return await self._read_new(count)
        now = asyncio.get_running_loop().time()
        if self._again_at is not None and now >= self._again_at:
            # What a server that hung gave to the connection before this one belongs to this consumer, too.
            self._again_at, self._pending = None, b"0"
        while self._pending is not None and not self._stopped:
            messages = await self._read_pending(self._pending, count)
            if messages:
                return messages
        self._flight.look(self.dispatcher)
        if due := self._flight.due(count):
            return await self._read_due(due)
        if now >= self._next_sweep:
            messages = await self._claim(count)
            if messages:
                return messages
        return () if self._stopped else await self._read_new(count)

    async def _read_new(self, count: int) -> list[RedisStreamMessage]:
        group, consumer = self._names
        milliseconds = math.ceil(self._flight.seconds(BLOCK_SECONDS) * 1000)
        reply = await self.ask(
            "XREADGROUP", "GROUP", group, consumer, "COUNT", count, "BLOCK", milliseconds, "STREAMS", self._key, ">"
        )
        entries = entries_of(reply)
        if not entries:
            if self._link is not None and asyncio.get_running_loop().time() >= self._next_look:
                await self._look(self._link)
            return []
        key = self._key
        entries = self._ledger.delivered(entries)
        messages = [
            RedisStreamMessage(entry_id, fields or [], key, group, consumer) for entry_id, fields in drained(entries)
        ]
        self._flight.add(messages)
        self._size.note(messages)
        return messages

    async def _read_pending(self, after: bytes, count: int) -> list[RedisStreamMessage]:
        """Read entries that Redis says this consumer has: those of an earlier life, or of a reply that got lost."""
        link = self._link
        if link is None:
            raise ConnectionError("the source is closed")
        group, consumer = self._names
        moments = await deliveries_after(link, (self._key, group, consumer), after, count)
        now = asyncio.get_running_loop().time()
        reply = await link.call("XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", self._key, after)
        entries = entries_of(reply)
        self._pending = entries[-1][0] if entries else None
        return await self._taken_over(link, entries, now, moments)

    async def _read_due(self, ids: Sequence[bytes]) -> list[RedisStreamMessage]:
        """Read entries of an earlier connection whose time has come, unless somebody else has taken them over."""
        link = self._link
        if link is None:
            raise ConnectionError("the source is closed")
        group, consumer = self._names
        now = asyncio.get_running_loop().time()
        asked = [("XPENDING", self._key, group, one, one, 1) for one in ids]
        replies = await link.ask_all([*asked, *(("XRANGE", self._key, one, one) for one in ids)])
        entries: list[Entry] = []
        for entry_id, holders, found in zip(ids, replies[: len(ids)], replies[len(ids) :], strict=True):
            for reply in (holders, found):
                if isinstance(reply, Exception):
                    raise reply
            if holders and holders[0][1] != consumer.encode():
                self._flight.drop(entry_id)
            else:
                entries += found or [(entry_id, None)]
        return await self._taken_over(link, entries, now)

    async def _claim(self, count: int) -> list[RedisStreamMessage]:
        """Take over entries that have been idle for too long."""
        group, consumer = self._names
        while self._idle is not None and self._link is not None and not self._stopped:
            # Nobody knows what its consumer did with an entry, only that this one was not done with it then.
            link, now = self._link, asyncio.get_running_loop().time()
            reply = await link.call("XAUTOCLAIM", self._key, group, consumer, self._idle, self._cursor, "COUNT", count)
            self._cursor = reply[0]
            # Before Redis 7 an entry that was deleted from the stream comes as null.
            gone = reply[2] if len(reply) > 2 else ()
            entries = [entry for entry in reply[1] if entry is not None]
            messages = await self._taken_over(link, entries, now, gone=gone)
            if messages:
                return messages
            if self._cursor == b"0-0":
                break
        self._next_sweep = asyncio.get_running_loop().time() + self._sweep_seconds
        return []

    async def _taken_over(
        self, link: Link, entries: list[Entry], now: float, moments: Moments | None = None, gone: Sequence[bytes] = ()
    ) -> list[RedisStreamMessage]:
        """Make messages of entries that were delivered before, except those that this process has in hand.

        Args:
            link: the connection.
            entries: what Redis gave; of one that was deleted from the stream there is only the id.
            now: when Redis was asked for them, on the loop's clock.
            moments: when they were delivered, of those of which that is known.
            gone: more that were deleted, which Redis has forgotten already.
        """
        group, consumer = self._names
        flight, ledger, known = self._flight, self._ledger, moments or {}
        fresh: list[tuple[bytes, list[bytes]]] = []
        lost = [entry_id for entry_id in gone if not ledger.finished(entry_id, known.get(entry_id, now))]
        begun: dict[int, list[Hashable]] = {}
        for entry_id, fields in drained(entries):
            if flight.has((entry_id, fields)):
                begun.setdefault(flight.begun(entry_id), []).append(entry_id)
            elif ledger.finished(entry_id, known.get(entry_id, now)):
                ledger.ack_again(entry_id)
            elif fields is None:
                # Deleted from the stream, and still pending.
                flight.drop(entry_id)
                lost.append(entry_id)
                ledger.ack(entry_id)
            else:
                fresh.append((entry_id, fields))
        report_lost(self.subscription, self._key, lost)
        ledger.delivered_again([entry_id for entry_id, _ in fresh])
        asked = [entry[0] for entry in fresh if not flight.waits(entry)]
        counts = await link.ask_all([("XPENDING", self._key, group, one, one, 1) for one in asked])
        numbers = {
            entry_id: max(int(count[0][3]), 1) if isinstance(count, list) and count else 1
            for entry_id, count in zip(asked, counts, strict=True)
        }
        messages = []
        for entry_id, fields in drained(fresh):
            attempt = flight.number((entry_id, fields), numbers.get(entry_id, 1))
            if entry_id not in numbers:
                begun.setdefault(attempt, []).append(entry_id)
            messages.append(RedisStreamMessage(entry_id, fields, self._key, group, consumer, attempt, redelivered=True))
        flight.add(messages)
        self._size.note(messages)
        await self._note_deliveries(link, begun)
        return messages

    # Settling.

    def ack(self, message: StreamMessage) -> None:
        entry_id, flight = message.identity, self._flight
        if flight.kept or flight.left or flight.had_replaced:
            if not flight.finish(message):
                return self._ledger.late()
        else:
            flight.ids.pop(entry_id, None)
        self._note(entry_id)

    def keep(self, message: StreamMessage, delay: float) -> None:
        if isinstance(message, RedisStreamMessage) and not message.is_replaced:
            self._flight.keep(self, message, delay)
            self._flight.tell(self._lease.set_count([message.identity], message.attempt))

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        """Let other consumers take over what was not started, without waiting."""
        back: dict[int, list[Hashable]] = {}
        self._flight.halt(self.dispatcher)
        for entry_id in [*self._flight.waiting]:
            back.setdefault(self._flight.begun(entry_id), []).append(entry_id)
            self._flight.drop(entry_id)
        for message in messages:
            if not isinstance(message, RedisStreamMessage) or message.is_replaced:
                continue
            self._flight.settle(message.identity)
            done = message.attempt if message.committed is Verdict.NACK else message.attempt - 1
            back.setdefault(done, []).append(message.identity)
        unread = self._flight.yield_to(entries_of(await self.last_reply()))
        self._ledger.delivered_again(unread)
        back.setdefault(0, []).extend(unread)
        await self._lease.hand_back(back, self._idle)

    async def flush(self) -> None:
        await self._ledger.flush()
        await self._lease.end()
        await self._flight.end()
        await self._lease.finish(self._flight.deliveries())
        if self._names[1] == self._ledger.own_name:
            await self._forget_own()

    async def _forget_own(self) -> None:
        """Delete this consumer, whose name nobody uses again, when it leaves nothing behind."""
        group, consumer = self._names
        try:
            pending = await self._commands.execute(
                "XPENDING", self._key, group, "-", "+", 1, consumer, timeout=ACK_SECONDS
            )
            if not pending:
                await self._commands.execute("XGROUP", "DELCONSUMER", self._key, group, consumer, timeout=ACK_SECONDS)
        except (BrokerUnavailable, RedisError):
            # The next consumer that starts looks for leftovers.
            return

    async def close(self) -> None:
        self._flight.leave(self)
        await self._lease.end()
        await super().close()
