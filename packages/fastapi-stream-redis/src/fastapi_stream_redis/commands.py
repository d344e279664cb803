"""Commands of many callers over one connection: what is asked within one turn of the loop is sent together."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from fastapi_stream_core.errors import BrokerUnavailable
from fastapi_stream_core.shown_address import clean_cause
from redis.exceptions import AuthenticationError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError

from .connection import CLIENT_ERRORS, Command, Link, Settings

__all__ = ("Commands",)

TOGETHER = 500
"""Most commands that are sent before their answers are read."""
FIRST_DELAY = 0.05
MAX_DELAY = 0.5
"""Seconds between two attempts to connect."""
CLOSE_SECONDS = 2.0
AWAY = (RedisConnectionError, ReadOnlyError)
"""Answers of a server that is loading its data or has become a replica: it will take the command later."""


class _Expired(Exception):
    """The time of one call is over."""


class Commands:
    """Sends commands in the order of their calls, and sends them again on a new connection when one breaks.

    A command whose answer got lost with its connection may be executed twice.

    Args:
        settings: how to connect.
        patience: seconds without any answer after which the connection is given up.
    """

    def __init__(self, settings: Settings, patience: float) -> None:
        self._settings = settings
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._queue: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._reason: BaseException | None = None

    async def start(self, timeout: float) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: it did not succeed within `timeout` seconds, or the credentials are wrong.
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
                if left <= delay or isinstance(error, AuthenticationError):
                    raise BrokerUnavailable(self._settings.address, "connect", timeout, error) from clean_cause(error)
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
            BrokerUnavailable: no answer within `timeout` seconds; the command may have been executed.
            ResponseError: the server refused it.
        """
        if self._closed:
            raise BrokerUnavailable(self._settings.address, str(command[0]), 0.0, "the connection is closed")
        future = self._loop.create_future()
        timer = self._loop.call_later(timeout, _expire, future)
        self._queue.append((command, future))
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="redis commands")
        try:
            return await future
        except _Expired:
            raise BrokerUnavailable(self._settings.address, str(command[0]), timeout, self._reason) from self._reason
        finally:
            timer.cancel()

    async def _run(self) -> None:
        delay = FIRST_DELAY
        try:
            while self._queue:
                calls = self._take()
                try:
                    if self._link is None or not self._link.open:
                        await self._reconnect()
                    if calls:
                        await self._exchange(calls)
                    delay = FIRST_DELAY
                    self._reason = None
                except CLIENT_ERRORS as error:
                    self._reason = error
                    self._queue.extendleft(reversed(calls))
                    await self._drop()
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, MAX_DELAY)
        finally:
            self._task = None

    def _take(self) -> list[tuple[Command, asyncio.Future[Any]]]:
        queue = self._queue
        calls: list[tuple[Command, asyncio.Future[Any]]] = []
        while queue and len(calls) < TOGETHER:
            call = queue.popleft()
            if not call[1].done():
                calls.append(call)
        return calls

    async def _exchange(self, calls: list[tuple[Command, asyncio.Future[Any]]]) -> None:
        """Send commands and give each caller its answer; those that got one leave `calls`."""
        link = self._link
        if link is None:
            return
        await link.send([command for command, _ in calls], self._patience)
        again: list[tuple[Command, asyncio.Future[Any]]] = []
        away: BaseException | None = None
        missing = len(calls)
        while missing:
            replies = link.taken(missing) or await link.replies(1, self._patience)
            answered, calls[:] = calls[: len(replies)], calls[len(replies) :]
            missing -= len(replies)
            for (command, future), reply in zip(answered, replies, strict=True):
                if isinstance(reply, AWAY):
                    away = reply
                    again.append((command, future))
                elif not future.done():
                    if isinstance(reply, Exception):
                        future.set_exception(reply)
                    else:
                        future.set_result(reply)
        if away is not None:
            calls[:] = again
            raise away

    async def _reconnect(self) -> None:
        await self._drop()
        self._link = await self._connect()

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def ping(self, timeout: float) -> bool:
        """Tell whether the server answers within `timeout` seconds."""
        try:
            await self.execute("PING", timeout=timeout)
        except (BrokerUnavailable, *CLIENT_ERRORS):
            return False
        return True

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
            _expire(future)
        await self._drop()


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(_Expired())
