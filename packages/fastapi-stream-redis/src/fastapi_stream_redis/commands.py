"""Commands of many callers over one connection: what is asked within one turn of the loop is sent together."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from fastapi_stream_core.errors import BrokerUnavailable
from fastapi_stream_core.shown_address import clean_cause
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from .connection import CLIENT_ERRORS, Link, Settings, packed

__all__ = ("Commands",)

TOGETHER = 500
"""Most commands that are sent before their answers are read."""
FIRST_DELAY = 0.05
MAX_DELAY = 0.5
"""Seconds between two attempts to connect."""
CLOSE_SECONDS = 2.0
CLOSED = "the connection was closed"
ENDED = "the server ends the connection for these {} bytes; it may have a lower limit (proto-max-bulk-len)"
AWAY = (RedisConnectionError, ReadOnlyError, ClusterDownError, TryAgainError, AskError, OutOfMemoryError)
AWAY_CODES = ("NOREPLICAS ", "OOM ", "MISCONF ", "BUSY ")
"""Answers of a server that is loading its data, has become a replica, lost its master, gives the key to another node,
has no memory or disk left, or is busy with a script: it will take the command later. MOVED is an AskError, too: of a
cluster, a master that has become a replica says it of every key."""
ENDINGS = 2
"""How often a command may end the connection, sent alone, before it is the command that is to blame."""
Call = tuple[bytes, "asyncio.Future[Any]"]


class _Expired(Exception):
    """The time of one call is over."""


@dataclass
class _Trouble:
    """What became of a command that was sent and waits to be sent again.

    Attributes:
        reason: what the server said last; None when it said nothing.
        endings: how often the server ended the connection that the command was sent on alone.
    """

    reason: BaseException | None = None
    endings: int = 0


class Commands:
    """Sends commands in the order of their calls, and sends them again on a new connection when one breaks.

    A command whose answer got lost with its connection may be executed twice. One that ends each connection, while the
    server takes others or answers a ping, is refused.

    Args:
        settings: how to connect.
        patience: seconds without any answer after which the connection is given up.
    """

    def __init__(self, settings: Settings, patience: float) -> None:
        self._settings = settings
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._queue: deque[Call] = deque()
        self._doubtful = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._reason: BaseException | None = None
        self._troubles: dict[asyncio.Future[Any], _Trouble] = {}
        self._full = False

    async def start(self, timeout: float) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: it did not succeed within `timeout` seconds; at once when the server refuses the
                credentials, or the database.
        """
        deadline = self._loop.time() + timeout
        delay = FIRST_DELAY
        while True:
            try:
                self._link = await self._connect(deadline - self._loop.time())
                return
            except CLIENT_ERRORS as error:
                left = deadline - self._loop.time()
                # Of an attempt in the last moment nothing would be learned but that its time is over.
                await asyncio.sleep(max(min(delay, left), 0.0))
                if is_final := _is_final(error):
                    left = 0.0
                if left <= delay:
                    seconds = 0.0 if is_final else timeout
                    raise BrokerUnavailable(self._settings.address, "connect", seconds, error) from clean_cause(error)
            delay = min(delay * 2, MAX_DELAY)

    async def _connect(self, timeout: float | None = None) -> Link:
        link = Link(self._settings)
        await link.connect(timeout)
        try:
            await link.call("PING")
        except BaseException:
            await link.close()
            raise
        return link

    async def execute(self, *command: Any, timeout: float) -> Any:
        """Send one command and return its answer.

        Raises:
            BrokerUnavailable: no answer within `timeout` seconds, in which case the command may have been executed, or
                none but that the server can't take it now.
            ResponseError: the server refused it, or ends its connections for it.
            ValueError, TypeError: it can't be written.
        """
        if self._closed:
            raise BrokerUnavailable(self._settings.address, str(command[0]), 0.0, CLOSED)
        data = packed(command)
        future = self._loop.create_future()
        timer = self._loop.call_later(timeout, _expire, future)
        self._queue.append((data, future))
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="redis commands")
        try:
            return await future
        except _Expired:
            trouble = self._troubles.get(future)
            reason = (trouble.reason if trouble is not None else None) or self._reason
            raise BrokerUnavailable(self._settings.address, str(command[0]), timeout, reason) from (
                None if reason is None else clean_cause(reason)
            )
        finally:
            timer.cancel()
            if self._troubles:
                self._troubles.pop(future, None)

    async def _run(self) -> None:
        delay = FIRST_DELAY
        try:
            while self._queue:
                calls = self._take()
                try:
                    if self._link is None or not self._link.open:
                        await self._reconnect()
                    if self._troubles:
                        # There is a connection, so the server is.
                        self._refuse_guilty(calls)
                    if calls and await self._exchange(calls):
                        self._defer(calls)
                        await self._drop()
                        await asyncio.sleep(delay)
                        delay = min(delay * 2, MAX_DELAY)
                        continue
                    delay = FIRST_DELAY
                    self._reason = None
                    self._doubtful = max(self._doubtful - 1, 0)
                except CLIENT_ERRORS as error:
                    self._reason = error
                    self._blame(calls)
                    self._put_back(calls)
                    await self._drop()
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, MAX_DELAY)
                except BaseException:
                    self._queue.extendleft(reversed(calls))
                    raise
        finally:
            self._task = None

    def _defer(self, calls: list[Call]) -> None:
        """Have calls sent again that the server can't take now; as many as are sent together let others go first."""
        if len(calls) >= TOGETHER:
            self._queue.extend(calls)
        else:
            self._queue.extendleft(reversed(calls))

    def _blame(self, calls: list[Call]) -> None:
        """Note it when the server ended a connection that waited for one answer only."""
        if len(calls) == 1 and self._link is not None and not self._link.given_up:
            future = calls[0][1]
            if not future.done():
                self._troubles.setdefault(future, _Trouble()).endings += 1

    def _refuse_guilty(self, calls: list[Call]) -> None:
        """Refuse calls that ended the connection again and again, though the server takes others or answers a ping."""
        for call in [*calls]:
            data, future = call
            trouble = self._troubles.get(future)
            if trouble is not None and trouble.endings >= ENDINGS:
                calls.remove(call)
                if not future.done():
                    future.set_exception(ResponseError(ENDED.format(len(data))))

    def _put_back(self, calls: list[Call]) -> None:
        """Have calls sent again, one by one: a server ends its connection for a command that is too large for it.

        One that broke its connection alone lets the others go first.
        """
        if len(calls) == 1 and self._doubtful:
            self._queue.extend(calls)
        else:
            self._queue.extendleft(reversed(calls))
            self._doubtful = max(self._doubtful, len(calls))

    def _take(self) -> list[Call]:
        queue = self._queue
        calls: list[Call] = []
        most = 1 if self._doubtful else TOGETHER
        while queue and len(calls) < most:
            call = queue.popleft()
            if not call[1].done():
                calls.append(call)
        return calls

    async def _exchange(self, calls: list[Call]) -> bool:
        """Send commands and give each caller its answer; those that got one leave `calls`.

        Returns:
            Whether the server can't take those that are left now.
        """
        link = self._link
        if link is None:
            return False
        await link.write([data for data, _ in calls], self._patience)
        again: list[Call] = []
        missing = len(calls)
        try:
            while missing:
                replies = link.taken(missing) or await link.replies(1, self._patience)
                answered, calls[:] = calls[: len(replies)], calls[len(replies) :]
                missing -= len(replies)
                for (data, future), reply in zip(answered, replies, strict=True):
                    if not isinstance(reply, Exception):
                        if not future.done():
                            future.set_result(reply)
                    elif is_away(reply):
                        self._reason = reply
                        self._full |= _is_full(reply)
                        if not future.done():
                            self._troubles.setdefault(future, _Trouble()).reason = reply
                            again.append((data, future))
                    elif not future.done():
                        future.set_exception(reply)
        finally:
            calls[:0] = again
        return bool(again)

    async def _reconnect(self) -> None:
        await self._drop()
        self._link = await self._connect()

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def ping(self, timeout: float) -> bool:
        """Tell whether the server answers within `timeout` seconds, and has memory again when it had none."""
        try:
            await self.execute("PING", timeout=timeout)
        except (BrokerUnavailable, *CLIENT_ERRORS):
            return False
        if self._full:
            try:
                self._full = not _has_room(await self.execute("INFO", "memory", timeout=timeout))
            except BrokerUnavailable:
                return False
            except RedisError:
                # It may not be asked: what is published next tells.
                self._full = False
        return not self._full

    async def close(self) -> None:
        """Wait a moment for what was asked, then close the socket."""
        self._closed = True
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=CLOSE_SECONDS)
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        while self._queue:
            _, future = self._queue.popleft()
            if not future.done():
                future.set_exception(BrokerUnavailable(self._settings.address, "publish", 0.0, CLOSED))
        await self._drop()


def is_away(error: Exception) -> bool:
    """Tell whether an answer says that the server is there and can't take anything now."""
    return isinstance(error, AWAY) or str(error).startswith(AWAY_CODES)


def _is_full(error: Exception) -> bool:
    return isinstance(error, OutOfMemoryError) or str(error).startswith("OOM ")


def _has_room(info: bytes) -> bool:
    """Tell whether the server has memory left, by what it says of its memory."""
    said = dict(line.partition(b":")[::2] for line in info.split(b"\r\n"))
    used, spared, most = (
        int(said.get(name, 0)) for name in (b"used_memory", b"mem_not_counted_for_evict", b"maxmemory")
    )
    return not most or used - spared <= most


def _is_final(error: BaseException) -> bool:
    """Tell whether another attempt to connect would come to the same."""
    return isinstance(error, AuthenticationError) or (isinstance(error, ResponseError) and not is_away(error))


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(_Expired())
