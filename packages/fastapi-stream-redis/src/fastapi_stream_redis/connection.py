"""One connection to Redis, driven without a pool: the client library connects, packs and parses."""

from __future__ import annotations

import asyncio
import inspect
import math
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import hiredis
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.keywords import unknown_option
from fastapi_stream_core.security import SASLPlaintext
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    DefaultParser,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from .broker import RedisBroker

__all__ = ("CLIENT_ERRORS", "Command", "Link", "Settings", "packed")

Command = tuple[Any, ...]
CLIENT_ERRORS = (RedisError, OSError, asyncio.TimeoutError)
"""What the client library raises when the server or the network fails."""

LOOK_SECONDS = 0.05
MAX_LOOK_SECONDS = 1.0
"""For the last look at the socket before a connection is given up: as long as the process stood still, within these."""


class _Parser(DefaultParser):  # type: ignore[valid-type, misc]
    """The client's parser, which also gives every reply that is there already."""

    _nothing: Any

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)
        # A reader that was given nothing says what it says when there is nothing.
        self._nothing = self._reader.gets()

    def take(self, limit: int) -> list[Any]:
        """Return replies that are complete, at most `limit`."""
        gets, nothing = self._reader.gets, self._nothing
        replies: list[Any] = []
        while len(replies) < limit:
            reply = gets()
            if reply is nothing:
                break
            replies.append(reply)
        return replies


class _Context:
    """Gives the client the TLS context of the user instead of one that it makes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def get(self) -> ssl.SSLContext:
        return self._context


@dataclass(frozen=True)
class Settings:
    """How connections of one broker are made.

    Attributes:
        kind: the client's class.
        arguments: what it takes.
        context: the TLS context of the user.
        address: where the server is, as it may be shown.
        connect_seconds: for one attempt to connect.
        answer_seconds: for an answer, on top of what a command waits by itself.
    """

    kind: type[AbstractConnection]
    arguments: dict[str, Any] = field(repr=False)
    context: ssl.SSLContext | None
    address: str
    connect_seconds: float
    answer_seconds: float

    @classmethod
    def of(cls, broker: RedisBroker) -> Settings:
        """Return those of a broker.

        Raises:
            SetupError: the URL can't be read, or has a parameter that the client does not know.
        """
        options = broker.options
        arguments = _arguments(broker._url)
        if arguments is None:
            raise SetupError(
                "RedisBroker", f"the parameters of the URL of {broker.address!r} can't be read", "check their values"
            )
        kind: type[AbstractConnection] = arguments.pop("connection_class", Connection)
        known = {name: None for one in kind.__mro__ for name in inspect.signature(one).parameters}
        for name in arguments:
            if name not in known:
                raise unknown_option(name, known, "the query of RedisBroker's URL")
        connect_seconds = _taken(arguments, "socket_connect_timeout", options)
        answer_seconds = _taken(arguments, "socket_timeout", options)
        security = options["security"]
        if security is not None and security.use_ssl and kind is Connection:
            # TLS comes before everything else: a server that has none is sent no password.
            kind = SSLConnection
        if kind is not UnixDomainSocketConnection:
            names = ("host", "port", "socket_keepalive_options")
            arguments.update({name: options[name] for name in names if options[name] is not None})
            arguments.setdefault("socket_keepalive", options["socket_keepalive"])
        for name in ("db", "client_name"):
            if options[name] is not None:
                arguments[name] = options[name]
        if isinstance(security, SASLPlaintext):
            arguments["username"], arguments["password"] = security.username, security.password
        arguments["socket_read_size"] = _taken(arguments, "socket_read_size", options)
        context = security.ssl_context if security is not None else None
        return cls(kind, arguments, context, broker.address, float(connect_seconds), float(answer_seconds))


class Link:
    """One connection, used by one task at a time; it never connects again by itself.

    RESP2 is spoken: there a message of a channel is a reply like any other, and all servers know it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parser: Any = None
        self._loop = asyncio.get_running_loop()
        self._lost: BaseException | None = None
        self._closing: asyncio.Task[None] | None = None
        self._connection = settings.kind(
            parser_class=self._make_parser,  # type: ignore[arg-type]
            protocol=2,
            # No timer of the client for every reply: this class has one for each answer that is waited for.
            socket_timeout=None,
            socket_connect_timeout=settings.connect_seconds,
            **settings.arguments,
        )
        if settings.context is not None:
            self._connection.ssl_context = _Context(settings.context)  # type: ignore[attr-defined]

    def _make_parser(self, socket_read_size: int) -> _Parser:
        self._parser = _Parser(socket_read_size)
        return self._parser  # type: ignore[no-any-return]

    @property
    def answer_seconds(self) -> float:
        """Seconds that an answer may take, on top of what its command waits."""
        return self._settings.answer_seconds

    @property
    def open(self) -> bool:
        """Whether it is connected, as far as is known."""
        return self._lost is None and self._connection.is_connected

    @property
    def given_up(self) -> bool:
        """Whether this side ended it, because the server did not answer in time for example."""
        return self._lost is not None

    async def connect(self, timeout: float | None = None) -> None:
        """Connect, with the handshake of the client.

        Raises:
            RedisError, OSError: it failed; the connection is closed.
        """
        seconds = self._settings.connect_seconds if timeout is None else min(self._settings.connect_seconds, timeout)
        connecting: Coroutine[Any, Any, None] = self._connection.connect()  # type: ignore[no-untyped-call]
        try:
            await asyncio.wait_for(connecting, seconds)
        except asyncio.TimeoutError as error:
            await self.close()
            raise RedisConnectionError(f"no answer from {self._settings.address} within {seconds:g} s") from error
        except BaseException:
            await self.close()
            raise

    async def send(self, commands: Iterable[Command], timeout: float | None = None) -> None:
        """Write commands.

        Args:
            commands: their words.
            timeout: seconds that the server may take until it has room for them; by default those for an answer.

        Raises:
            RedisError, OSError: the connection is lost.
        """
        await self.write([packed(command) for command in commands], timeout)

    async def write(self, commands: Iterable[bytes], timeout: float | None = None) -> None:
        """Write commands that are packed already; otherwise as `send`."""
        if not self.open:
            raise self._lost or RedisConnectionError("the connection is closed")
        data = b"".join(commands)
        seconds = self._settings.answer_seconds if timeout is None else timeout
        watch = _Watch(self._loop, seconds, partial(self.abort, f"nothing taken for {seconds:g} s"))
        try:
            await self._connection.send_packed_command(data, check_health=False)
        finally:
            watch.cancel()

    def taken(self, limit: int) -> list[Any]:
        """Return replies that are here already, at most `limit`."""
        return self._parser.take(limit)  # type: ignore[no-any-return]

    async def more(self) -> None:
        """Wait until the socket has something.

        Raises:
            RedisError, OSError: the connection is lost.
        """
        try:
            await self._parser.read_from_socket()
        except (RedisError, OSError) as error:
            raise self._lost or error from None

    async def replies(self, count: int, timeout: float) -> list[Any]:
        """Return the next replies; errors of the server are among them. Waiting for a single one may be cancelled.

        Args:
            count: how many.
            timeout: seconds for all of them; then the connection is given up.

        Raises:
            RedisError, OSError: the connection is lost.
        """
        found = self.taken(count)
        if len(found) == count:
            return found
        watch = _Watch(self._loop, timeout, partial(self.abort, f"no answer within {timeout:g} s"))
        try:
            while len(found) < count:
                await self.more()
                found += self.taken(count - len(found))
        finally:
            watch.cancel()
        return found

    async def call(self, *command: Any, wait: float = 0.0) -> Any:
        """Send one command and return its reply.

        Args:
            command: the words.
            wait: seconds that the command itself waits at the server.

        Raises:
            RedisError, OSError: the connection is lost, or the server says so.
        """
        await self.send((command,))
        return await self.answer(wait)

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and return their replies; errors of the server are among them.

        Raises:
            RedisError, OSError: the connection is lost.
        """
        if not commands:
            return []
        await self.send(commands)
        return await self.replies(len(commands), self._settings.answer_seconds)

    async def answer(self, wait: float = 0.0) -> Any:
        """Return the next reply.

        Raises:
            RedisError, OSError: the connection is lost, or the server says so.
        """
        reply = (await self.replies(1, wait + self._settings.answer_seconds))[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def abort(self, reason: str) -> None:
        """Give the connection up: whoever waits for it gets an error."""
        if self._lost is None:
            self._lost = RedisConnectionError(f"{self._settings.address}: {reason}")
            self._closing = self._loop.create_task(self._disconnect(nowait=True))

    async def _disconnect(self, nowait: bool) -> None:
        try:
            await self._connection.disconnect(nowait=nowait)
        except CLIENT_ERRORS as error:
            self._lost = self._lost or error

    async def close(self) -> None:
        """Close the socket."""
        if self._lost is None:
            self._lost = RedisConnectionError("the connection is closed")
        if self._closing is not None:
            await asyncio.wait([self._closing])
        await self._disconnect(nowait=False)


class _Watch:
    """Gives something up after some seconds, and a moment in which the socket is looked at once more.

    A process that stood still may hear that its time is over before it reads what came meanwhile.

    Args:
        loop: the event loop.
        seconds: until then.
        give_up: called unless the watch is cancelled before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, give_up: Callable[[], None]) -> None:
        self._loop = loop
        self._give_up = give_up
        self._end = loop.time() + seconds
        self._timer = loop.call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        late = self._loop.time() - self._end
        self._timer = self._loop.call_later(min(max(late, LOOK_SECONDS), MAX_LOOK_SECONDS), self._give_up)

    def cancel(self) -> None:
        """End the watch."""
        self._timer.cancel()


packed: Callable[[Command], bytes] = hiredis.pack_command
"""Returns a command as it goes to the server. Raises ValueError or TypeError for what can't be written."""


def _taken(arguments: dict[str, Any], name: str, options: Mapping[str, Any]) -> Any:
    """Take a number out of what the URL says, or else out of the options, where it is checked already."""
    number = arguments.pop(name, None)
    if number is None:
        return options[name]
    if not 0 < number < math.inf:
        raise SetupError("RedisBroker", f"{name}={number} in the query of the URL", "give a number above 0")
    return number


def _arguments(url: str) -> dict[str, Any] | None:
    """Return what the client reads in a URL; None when it can't read it: its error quotes the values."""
    try:
        return dict(parse_url(url))
    except ValueError:
        return None
