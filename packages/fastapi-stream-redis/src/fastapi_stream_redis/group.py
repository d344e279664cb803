"""Reads a stream as one consumer of a group: at least once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.errors import BrokerUnavailable
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.policy import Verdict
from redis.exceptions import RedisError, ResponseError

from .consumer import forget_leftovers, holder_of
from .history import NOTHING, Break, History, report_break
from .ledger import ACK_SECONDS
from .message import RedisStreamMessage
from .reading import AT_ONCE, Entry, ReadSize, drained, entries_of
from .source import LinkSource
from .stream import BLOCK_MILLISECONDS

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
    ) -> None:
        super().__init__(subscription, settings, commands)
        self._target = target
        self._key = target.stream
        self._names = (target.group or "", target.consumer or ledger.own_name)
        self._ledger = ledger
        self._note = ledger.ack
        self._open: set[Hashable] = set()
        self._pending: bytes | None = b"0"
        self._cursor = b"0-0"
        self._idle = target.claim_min_idle_time
        self._sweep_seconds = SWEEP_SECONDS if self._idle is None else max(min(self._idle / 2000, SWEEP_SECONDS), 0.1)
        self._next_sweep = 0.0
        self._again_at: float | None = None
        self._size = ReadSize(subscription.options["prefetch_bytes"])
        self._lease: asyncio.Task[None] | None = None
        self._told: set[asyncio.Task[None]] = set()

    async def position(self, link: Link) -> None:
        self._ledger.late = self.dispatcher.late
        await self.note_client(link)
        await self._choose_name(link)
        await self._create(link)
        await forget_leftovers(link, self._key, self._names[0])
        await self._size.learn(link, self._key)
        loop = asyncio.get_running_loop()
        self._again_at = loop.time() + self._sweep_seconds
        if self._idle is not None:
            self._lease = loop.create_task(self._extend(self._idle), name="redis lease")

    async def _choose_name(self, link: Link) -> None:
        """Take the name that the user gave, unless another process has it: both would run what is pending."""
        group, consumer = self._names
        if consumer == self._ledger.own_name:
            return
        place = (str(self._settings.arguments.get("db", 0)), self._key, group, consumer)
        holder = await holder_of(link, place, self._ledger.token)
        if holder is None:
            return
        self._names = (group, self._ledger.own_name)
        self.subscription.broker.report.line(
            logging.WARNING,
            "%s: the consumer %r of the group %r runs already (%s), so this one is %r;"
            " leave consumer= out, or give every process a name of its own",
            self.subscription.label, consumer, group, holder, self._names[1],
        )  # fmt: skip

    async def _create(self, link: Link) -> None:
        """Make sure that the group is there; one that vanished begins where this consumer has been, or anew."""
        history, group = self._ledger.history, self._names[0]
        found = None if history is None else await self._compare(link, history)
        first: str | bytes = self._target.first_id if history is None else history.newest
        try:
            await link.call("XGROUP", "CREATE", self._key, group, found.after if found else first, "MKSTREAM")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
            is_new = False
        else:
            is_new = True
        if history is None:
            self._ledger.history = History()
            self._ledger.history.begin(await self._delivered(link))
        elif found is not None:
            report_break(self.subscription, self._key, found)
            history.begin(found.after)
        elif is_new:
            self.subscription.broker.report.line(
                logging.WARNING,
                "%s: the group %r of %s was deleted and made again; reading goes on after %s",
                self.subscription.label, group, self._key, history.newest.decode(),
            )  # fmt: skip

    async def _compare(self, link: Link, history: History) -> Break | None:
        """Look at the stream when its group is gone; as long as it is there, it knows itself where it is."""
        try:
            groups = await link.call("XINFO", "GROUPS", self._key)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            groups = []
        if any(dict(zip(one[::2], one[1::2], strict=True))[b"name"] == self._names[0].encode() for one in groups):
            return None
        return await history.compare(link, self._key)

    async def _delivered(self, link: Link) -> bytes:
        for facts in await link.call("XINFO", "GROUPS", self._key):
            known = dict(zip(facts[::2], facts[1::2], strict=True))
            if known[b"name"] == self._names[0].encode():
                delivered: bytes = known[b"last-delivered-id"]
                return delivered
        return NOTHING

    # Reading.

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        try:
            return await self._fetch(limit)
        except ResponseError as error:
            # The stream, or its group, was deleted.
            if self._link is None or not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            await self._create(self._link)
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
        if now >= self._next_sweep:
            messages = await self._claim(count)
            if messages:
                return messages
        return () if self._stopped else await self._read_new(count)

    async def _read_new(self, count: int) -> list[RedisStreamMessage]:
        group, consumer = self._names
        reply = await self.ask(
            "XREADGROUP", "GROUP", group, consumer, "COUNT", count, "BLOCK", BLOCK_MILLISECONDS,
            "STREAMS", self._key, ">",
        )  # fmt: skip
        entries = entries_of(reply)
        if not entries:
            return []
        key = self._key
        ids = [entry_id for entry_id, _ in entries]
        self._open.update(ids)
        self._ledger.delivered(entries)
        messages = [
            RedisStreamMessage(entry_id, fields or [], key, group, consumer) for entry_id, fields in drained(entries)
        ]
        self._size.note(messages)
        return messages

    async def _read_pending(self, after: bytes, count: int) -> list[RedisStreamMessage]:
        """Read entries that Redis says this consumer has: those of an earlier life, or of a reply that got lost."""
        link = self._link
        if link is None:
            raise ConnectionError("the source is closed")
        group, consumer = self._names
        reply = await link.call("XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", self._key, after)
        entries = entries_of(reply)
        self._pending = entries[-1][0] if entries else None
        return await self._taken_over(link, entries)

    async def _claim(self, count: int) -> list[RedisStreamMessage]:
        """Take over entries that have been idle for too long."""
        group, consumer = self._names
        while self._idle is not None and self._link is not None and not self._stopped:
            link = self._link
            reply = await link.call("XAUTOCLAIM", self._key, group, consumer, self._idle, self._cursor, "COUNT", count)
            self._cursor = reply[0]
            # Before Redis 7 an entry that was deleted from the stream comes as null.
            gone = reply[2] if len(reply) > 2 else ()
            messages = await self._taken_over(link, [entry for entry in reply[1] if entry is not None], gone)
            if messages:
                return messages
            if self._cursor == b"0-0":
                break
        self._next_sweep = asyncio.get_running_loop().time() + self._sweep_seconds
        return []

    async def _taken_over(
        self, link: Link, entries: list[Entry], gone: Sequence[bytes] = ()
    ) -> list[RedisStreamMessage]:
        """Make messages of entries that were delivered before, except those that this process has in hand.

        Args:
            link: the connection.
            entries: what Redis gave; of one that was deleted from the stream there is only the id.
            gone: more that were deleted, which Redis has forgotten already.
        """
        group, consumer = self._names
        fresh: list[tuple[bytes, list[bytes]]] = []
        lost = [entry_id for entry_id in gone if not self._ledger.finished(entry_id)]
        for entry_id, fields in drained(entries):
            if entry_id in self._open:
                continue
            if fields is None:
                # Deleted from the stream, and still pending.
                if self._ledger.finished(entry_id):
                    self._ledger.ack_again(entry_id)
                else:
                    lost.append(entry_id)
                    self._ledger.ack(entry_id)
            elif self._ledger.finished(entry_id):
                self._ledger.ack_again(entry_id)
            else:
                fresh.append((entry_id, fields))
        if lost:
            for _ in lost:
                self.subscription.broker.report.count("deleted")
            self.subscription.broker.report.line(
                logging.WARNING,
                "%s: %d entries of %s were deleted, or trimmed away, before they were handled: %s ...",
                self.subscription.label, len(lost), self._key, lost[0].decode(),
            )  # fmt: skip
        if not fresh:
            return []
        await link.send([("XPENDING", self._key, group, one, one, 1) for one, _ in fresh])
        counts = await link.replies(len(fresh), self._settings.answer_seconds)
        messages = []
        for (entry_id, fields), count in zip(drained(fresh), counts, strict=True):
            attempt = max(int(count[0][3]), 1) if isinstance(count, list) and count else 1
            self._open.add(entry_id)
            messages.append(RedisStreamMessage(entry_id, fields, self._key, group, consumer, attempt, redelivered=True))
        self._size.note(messages)
        return messages

    # Settling.

    def ack(self, message: StreamMessage) -> None:
        entry_id = message.identity
        self._open.discard(entry_id)
        self._note(entry_id)

    def keep(self, message: StreamMessage, delay: float) -> None:
        if isinstance(message, RedisStreamMessage):
            self._tell(self._set_count([message.identity], message.attempt))

    def _tell(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def _set_count(self, ids: Sequence[bytes], deliveries: int, idle: int = 0) -> None:
        """Have Redis know how often entries were delivered and for how long they have been idle."""
        try:
            await self._commands.execute(
                "XCLAIM", self._key, *self._names, 0, *ids, "IDLE", idle, "RETRYCOUNT", deliveries, "JUSTID",
                timeout=ACK_SECONDS,
            )  # fmt: skip
        except (BrokerUnavailable, RedisError):
            # The count is then too low by one, and the entry is taken over later.
            return

    async def _extend(self, idle: int) -> None:
        """Keep other consumers from taking over what waits here or runs."""
        while True:
            await asyncio.sleep(idle / 3000)
            ids = [*self._open, *self._ledger.unsent]
            for begin in range(0, len(ids), AT_ONCE):
                some = ids[begin : begin + AT_ONCE]
                try:
                    await self._commands.execute(
                        "XCLAIM", self._key, *self._names, 0, *some, "JUSTID", timeout=ACK_SECONDS
                    )
                except (BrokerUnavailable, RedisError):
                    break

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        """Let other consumers take over what was not started, without waiting."""
        back: dict[int, list[bytes]] = {}
        for message in messages:
            if not isinstance(message, RedisStreamMessage):
                continue
            self._open.discard(message.identity)
            done = message.attempt if message.committed is Verdict.NACK else message.attempt - 1
            back.setdefault(done, []).append(message.identity)
        unread = entries_of(await self.last_reply())
        back.setdefault(0, []).extend(entry_id for entry_id, _ in unread)
        if self._idle is None:
            return
        for done, ids in back.items():
            for begin in range(0, len(ids), AT_ONCE):
                await self._set_count(ids[begin : begin + AT_ONCE], done, self._idle)

    async def flush(self) -> None:
        await self._ledger.flush()
        await self._end_tasks()
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

    async def _end_tasks(self) -> None:
        tasks = [*self._told] if self._lease is None else [self._lease, *self._told]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        await self._end_tasks()
        await super().close()
