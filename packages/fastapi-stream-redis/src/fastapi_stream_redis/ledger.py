"""The acknowledgements of a group, and what else outlives the connection that reads it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import BrokerUnavailable
from redis.exceptions import RedisError

from .consumer import own_name
from .reading import Entry, order

if TYPE_CHECKING:
    from .commands import Commands
    from .history import History

__all__ = ("ACK_SECONDS", "Ledger")

COALESCE_SECONDS = 0.003
"""How long an acknowledgement waits for others."""
TOGETHER = 1000
"""Most ids of one XACK."""
REMEMBERED = 10_000
"""Entries that are known to be finished, so that a copy read just before its acknowledgement is not run again."""
ACK_SECONDS = 10.0


class Ledger:
    """The acknowledgements of one group, whatever becomes of the connection that reads it.

    Attributes:
        history: what was delivered to this consumer, and what the group had delivered before; None before the first
            start.
        own_name: the name of the consumer when the user gave none, or somebody else has that.
        token: what tells its connections from those of others.
    """

    def __init__(self, commands: Commands, key: str, group: str) -> None:
        self._commands = commands
        self._key = key
        self._group = group
        self._noted: list[Hashable] = []
        self._finished: dict[Hashable, None] = {}
        self._task: asyncio.Task[None] | None = None
        self.late: Callable[[], None] = lambda: None
        self.history: History | None = None
        self.own_name = own_name()
        self.token = secrets.token_hex(8)
        self._newest = (0, 0)

    def finished(self, entry_id: bytes) -> bool:
        """Tell whether this process is done with an entry."""
        return entry_id in self._finished

    def ack(self, entry_id: Hashable) -> None:
        """Note an acknowledgement; it is sent within milliseconds, together with others."""
        finished = self._finished
        if entry_id in finished:
            return
        finished[entry_id] = None
        self._noted.append(entry_id)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send(), name="redis acknowledge")

    def delivered(self, entries: list[Entry]) -> None:
        """Note what the group delivered for the first time; once more when it was set back, by whoever wants that."""
        if order(entries[0][0]) <= self._newest:
            for entry_id, _ in entries:
                self._finished.pop(entry_id, None)
        self._newest = max(self._newest, order(entries[-1][0]))
        if self.history is not None:
            self.history.note(entries)

    async def _send(self) -> None:
        try:
            while self._noted:
                if len(self._noted) < TOGETHER:
                    await asyncio.sleep(COALESCE_SECONDS)
                ids, self._noted = self._noted[:TOGETHER], self._noted[TOGETHER:]
                try:
                    known = await self._commands.execute("XACK", self._key, self._group, *ids, timeout=ACK_SECONDS)
                except BrokerUnavailable:
                    self._noted[:0] = ids
                    await asyncio.sleep(COALESCE_SECONDS)
                    continue
                except RedisError:
                    known = 0
                for _ in range(len(ids) - known):
                    self.late()
                self._shrink()
        finally:
            self._task = None

    def _shrink(self) -> None:
        if len(self._finished) > 2 * REMEMBERED:
            self._finished = dict.fromkeys([*self._finished][-REMEMBERED:])

    async def flush(self) -> None:
        """Wait until everything noted is sent."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Give up what could not be sent."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        for _ in self._noted:
            self.late()
        self._noted.clear()
