"""Consumes a channel or a list: at most once."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.errors import BrokerUnavailable, SetupError
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.report import describe
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.transport import Source
from redis.exceptions import NoPermissionError, ResponseError

from .commands import is_away
from .connection import CLIENT_ERRORS, Link, Settings
from .message import RedisChannelMessage, RedisListMessage
from .reading import ReadSize, drained

if TYPE_CHECKING:
    from .commands import Commands
    from .schema import ListSub, PubSub
    from .subscription import RedisSubscription

__all__ = ("ChannelSource", "LinkSource", "ListSource")

PING_SECONDS = 2.0
"""How often a connection that is silent is asked whether the server is still there."""
BLOCK_SECONDS = 2.0
"""How long one command waits at the server for something to come."""
UNBLOCK_SECONDS = 1.0
PUT_BACK_SECONDS = 8.0
"""How long items are offered to a list again at a stop, which a full server refuses. Less than a stop waits."""
PUT_BACK = """#!lua flags=allow-oom
for _, value in ipairs(ARGV) do redis.call('LPUSH', KEYS[1], value) end"""
"""Puts items back into a list, also of a server that has no memory left: they were there before."""
ALL = 2**31
"""More replies than anybody has memory for."""


class LinkSource(Source):
    """A subscription with a connection of its own, which nothing else uses.

    A reply that is on its way when `fetch` is cancelled is not lost: `release` still takes it.
    """

    def __init__(self, subscription: RedisSubscription, settings: Settings, commands: Commands) -> None:
        super().__init__(subscription)
        self._settings = settings
        self._commands = commands
        self._link: Link | None = None
        self._client: int | None = None
        self._expecting = False
        self._stopped = False
        self._unblocking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        link = self._link = Link(self._settings)
        try:
            await link.connect()
            await self.position(link)
        except NoPermissionError as error:
            user = self._settings.arguments.get("username") or "default"
            raise SetupError(
                self.subscription.label,
                f"user {user!r} may not, at {self._settings.address}: {describe(error)}",
                "change the permissions of the user (ACL SETUSER)",
            ) from error
        except CLIENT_ERRORS as error:
            if str(error).startswith("WRONGTYPE"):
                raise SetupError(
                    self.subscription.label,
                    "the key holds something else in Redis",
                    "use another name, or delete the key",
                ) from error
            if isinstance(error, ResponseError) and not is_away(error):
                raise
            raise BrokerUnavailable(self._settings.address, "subscribe", 0, describe(error)) from clean_cause(error)

    @abstractmethod
    async def position(self, link: Link) -> None:
        """Make sure that whatever is published from now on arrives."""

    async def ask(self, *command: Any) -> Any:
        """Send a command that waits at the server, and return its reply."""
        link = self._link
        if link is None:
            raise ConnectionError("the source is closed")
        if not self._expecting:
            await link.send((command,))
            self._expecting = True
        try:
            reply = await link.answer(BLOCK_SECONDS)
        except ResponseError:
            self._expecting = False
            raise
        self._expecting = False
        return reply

    async def note_client(self, link: Link) -> None:
        """Learn the number of the connection, by which it can be woken."""
        self._client = await link.call("CLIENT", "ID")

    def stop(self) -> None:
        self._stopped = True
        if self._expecting and self._client is not None:
            self._unblocking = asyncio.get_running_loop().create_task(self._unblock())

    async def _unblock(self) -> None:
        try:
            await self._commands.execute("CLIENT", "UNBLOCK", self._client, timeout=UNBLOCK_SECONDS)
        except (BrokerUnavailable, *CLIENT_ERRORS):
            # It then ends by itself, with its time.
            return

    async def last_reply(self) -> Any:
        """Return the reply to a command whose `fetch` was cancelled; None when there is none."""
        if not self._expecting or self._link is None:
            return None
        try:
            return await self._link.answer(BLOCK_SECONDS)
        except CLIENT_ERRORS:
            return None
        finally:
            self._expecting = False

    async def close(self) -> None:
        link, self._link = self._link, None
        if self._unblocking is not None:
            await asyncio.wait([self._unblocking])
        if link is not None:
            await link.close()


class ChannelSource(LinkSource):
    """Listens to a channel or a pattern. What is sent while the connection is away is lost, as Redis has it.

    When the handler is slower than the senders, messages wait at the server, which closes the connection when they
    are too many (`client-output-buffer-limit pubsub`).
    """

    settles = False

    def __init__(self, subscription: RedisSubscription, target: PubSub, settings: Settings, commands: Commands) -> None:
        super().__init__(subscription, settings, commands)
        self._target = target
        self._heart: asyncio.Task[None] | None = None
        self._heard = 0.0
        self._listening = False
        self._refusal: Exception | None = None
        self._size = ReadSize(subscription.options["prefetch_bytes"])

    async def position(self, link: Link) -> None:
        await link.call("PSUBSCRIBE" if self._target.pattern else "SUBSCRIBE", self._target.subject)
        self._heart = asyncio.get_running_loop().create_task(self._beat(link), name="redis ping")

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        link = self._link
        if link is None:
            raise ConnectionError("the source is closed")
        while not self._stopped:
            if self._refusal is not None:
                raise self._refusal
            count = await self._size.count(limit, self.dispatcher)
            if not count:
                return ()
            replies = link.taken(count)
            if replies:
                self._heard = asyncio.get_running_loop().time()
                messages = self._messages(replies)
                if messages:
                    self._size.note(messages)
                    return messages
            else:
                self._listening = True
                try:
                    await link.more()
                except CLIENT_ERRORS:
                    if not self._stopped:
                        raise
                finally:
                    self._listening = False
        return ()

    def stop(self) -> None:
        super().stop()
        if self._link is not None:
            self._link.abort("the subscription stops")

    def _messages(self, replies: list[Any]) -> list[RedisChannelMessage]:
        messages: list[RedisChannelMessage] = []
        received, takes, subject = RedisChannelMessage.received, self._target.takes, self._target.subject
        for reply in replies:
            if isinstance(reply, Exception):
                # What came before it is delivered first.
                self._refusal = reply
                break
            kind = reply[0]
            if kind == b"message":
                messages.append(received(reply[2], subject, None))
            elif kind == b"pmessage" and takes(reply[2]):
                messages.append(received(reply[3], reply[2].decode(errors="replace"), subject))
        return messages

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        """Say what is lost: nobody else gets what was received and not started."""
        link = self._link
        waiting = [] if link is None else self._messages(link.taken(ALL))
        lost = len(list(messages)) + len(waiting)
        if lost:
            self.subscription.broker.report.line(
                logging.WARNING,
                "%s: stopped with %d messages received and not handled; channels of Redis deliver at most once",
                self.subscription.label,
                lost,
            )

    async def _beat(self, link: Link) -> None:
        """Ask a silent server whether it is there, and give the connection up when it does not say so."""
        loop = asyncio.get_running_loop()
        while link.open:
            await asyncio.sleep(PING_SECONDS)
            # While messages wait for the handler nobody reads, and what the server says is not heard.
            if not self._listening or loop.time() - self._heard < PING_SECONDS:
                continue
            try:
                await link.send((("PING",),))
            except CLIENT_ERRORS:
                return
            asked = loop.time()
            await asyncio.sleep(self._settings.answer_seconds)
            if self._listening and self._heard < asked:
                link.abort("no answer to a ping")

    async def close(self) -> None:
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.cancel()
            await asyncio.wait([heart])
        await super().close()


class ListSource(LinkSource):
    """Takes messages off the left end of a list, no more than are handled at once: a crash loses no others."""

    settles = False

    def __init__(
        self,
        subscription: RedisSubscription,
        target: ListSub,
        settings: Settings,
        commands: Commands,
        size: ReadSize,
    ) -> None:
        super().__init__(subscription, settings, commands)
        self._key = target.list_name
        self.window = subscription.max_workers * (target.batch_size if target.batch else 1)
        self._size = size
        self._one_by_one = False

    async def position(self, link: Link) -> None:
        await self.note_client(link)
        await self._size.learn(link, self._key, "LLEN")

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if self._stopped:
            return ()
        count = await self._size.count(limit, self.dispatcher)
        if not count or self._stopped:
            return ()
        try:
            if self._one_by_one:
                reply = await self.ask("BLPOP", self._key, BLOCK_SECONDS)
            else:
                reply = await self.ask("BLMPOP", BLOCK_SECONDS, 1, self._key, "LEFT", "COUNT", count)
        except ResponseError as error:
            if self._one_by_one or "unknown command" not in str(error).lower():
                raise
            # A server before Redis 7.
            self._one_by_one = True
            return ()
        messages = [RedisListMessage.received(data, self._key) for data in drained(self._popped(reply))]
        self._size.note(messages)
        return messages

    def _popped(self, reply: Any) -> list[bytes]:
        if reply is None:
            return []
        return [reply[1]] if self._one_by_one else reply[1]

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        values = [message.data for message in messages if isinstance(message, RedisListMessage)]
        values += self._popped(await self.last_reply())
        if not values:
            return
        try:
            await self._put_back(values[::-1])
        except (BrokerUnavailable, ResponseError) as error:
            self.subscription.broker.report.line(
                logging.WARNING,
                "%s: %d items that were taken off %s and not handled could not be put back, and are gone: %s",
                self.subscription.label, len(values), self._key, error,
            )  # fmt: skip

    async def _put_back(self, values: Sequence[bytes]) -> None:
        """Put items back, each before the one that was put there last."""
        try:
            await self._commands.execute("EVAL", PUT_BACK, 1, self._key, *values, timeout=PUT_BACK_SECONDS)
        except ResponseError:
            # A server before Redis 7, or one that lets us run no script.
            await self._commands.execute("LPUSH", self._key, *values, timeout=PUT_BACK_SECONDS)
