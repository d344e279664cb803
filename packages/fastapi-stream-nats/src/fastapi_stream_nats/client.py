"""nats-py's client with a short way in and out; everything that is private to nats-py is used here and nowhere else."""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from typing import Any

from fastapi_stream_core.errors import PublishError
from fastapi_stream_core.headers import HeaderValue
from fastapi_stream_core.response import Outgoing
from nats.aio.client import Client
from nats.aio.subscription import Subscription as ClientSubscription

from .parser import Parser, Sink

__all__ = ("Connection", "message_headers", "publication")

_SPACE = re.compile(r"[ \t\r\n]")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NEWLINES = bytes.maketrans(b"\r\n", b"  ")
WRITE_AHEAD = 64 * 1024
"""Bytes that may wait to be sent before a publisher lets the event loop send them."""


class Connection(Client):
    """A client that hands the messages of our subscriptions over without a queue, a task or parsed headers.

    The client gives each subscription a queue and a task, keeps one value of a repeated header, and replaces what is
    not UTF-8. Subscriptions that are made with `attach` skip all that; the others work as ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = self._parser = Parser(self)
        self._making_room = False
        self._crowd: list[asyncio.Future[None]] = []

    async def attach(self, subject: str, queue: str, sink: Sink) -> ClientSubscription:
        """Subscribe; messages go to `sink`. After a reconnect the client subscribes again by itself."""
        number = b"%d" % (self._sid + 1)
        self._parser.sinks[number] = sink
        try:
            return await self.subscribe(subject, queue)
        except BaseException:
            self._parser.sinks.pop(number, None)
            raise

    async def detach(self, subscription: ClientSubscription, timeout: float) -> None:
        """Unsubscribe; what the server had sent before still goes to the sink.

        Raises:
            nats.errors.Error: the server did not confirm within `timeout` seconds.
        """
        number = subscription._id
        try:
            if self.is_connected and not self.is_reconnecting:
                await self._send_unsubscribe(number)
                await self.confirm(timeout)
        finally:
            self._subs.pop(number, None)
            self._parser.sinks.pop(b"%d" % number, None)
            subscription._closed = True

    async def confirm(self, timeout: float) -> None:
        """Wait until the server has read everything that was written before: one round trip.

        Raises:
            nats.errors.Error: it did not answer within `timeout` seconds.
        """
        await self.flush(timeout)  # type: ignore[arg-type]

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except BaseException:
            opened: Any = self._transport
            if opened:  # the client forgets the socket of a handshake that failed
                opened.close()
            raise

    async def close(self) -> None:
        if self._flush_queue is None:  # connect() did not get far enough to have anything to close
            return
        opened: Any = self._transport
        if not opened:  # made and never connected
            self._transport = None
        await super().close()

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        # The client sends a ping past the commands that still wait, so its answer says nothing of them.
        if self._pending and self._transport is not None:
            self._transport.writelines(self._pending[:])
            self._pending = []
            self._pending_data_size = 0
        await super()._send_ping(future)

    async def _process_pong(self) -> None:
        # A flush that was given up leaves a cancelled future behind, at which the client's read loop would break.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    def write(self, commands: bytes) -> bool:
        """Send commands soon, together with what else is written in this turn of the event loop.

        While the connection is being made again they wait, and are sent then.

        Returns:
            Whether so much waits that a publisher should `make_room`.
        """
        self._pending.append(commands)
        self._pending_data_size += len(commands)
        queue = self._flush_queue
        if queue is not None and queue.empty() and self.is_connected:
            queue.put_nowait(asyncio.get_running_loop().create_future())
        return self._pending_data_size > WRITE_AHEAD

    async def make_room(self) -> None:
        """Wait until what was written is on its way."""
        if not self.is_connected:
            return
        if self._making_room:  # one flush is enough for all
            waiting = asyncio.get_running_loop().create_future()
            self._crowd.append(waiting)
            await waiting
            return
        self._making_room = True
        try:
            await self._flush_pending(force_flush=True)
        finally:
            self._making_room = False
            crowd, self._crowd = self._crowd, []
            for waiting in crowd:
                if not waiting.done():
                    waiting.set_result(None)


def publication(message: Outgoing, reply: bytes = b"", expected: str | None = None) -> bytes:
    """Return the command that publishes a message.

    Args:
        message: what is published.
        reply: where a confirmation goes; by default where the message says, which then is no header.
        expected: the stream that has to store it.

    Raises:
        PublishError: the subject or a header name can't be sent.
    """
    subject = _subject(message.address)
    if not reply and message.reply_to:
        reply = _subject(message.reply_to) or b" "
    if subject is None or reply == b" ":
        raise PublishError(message.address, "a subject is not empty and has no spaces and no line breaks")
    body = message.body
    block = message_headers(message, expected is None, b"" if expected is None else _expected(expected))
    if not block:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(body), body)
    size = len(block)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, size, size + len(body), block, body)


def message_headers(message: Outgoing, core: bool, extra: bytes = b"") -> bytes:
    """Return the header block of a message; empty when it has none.

    Args:
        message: its headers and ids.
        core: whether the protocol has a place of its own for `reply_to`.
        extra: further header lines, finished.

    Raises:
        PublishError: a header name can't be sent.
    """
    if message.headers or (message.reply_to and not core):
        pairs = message.wire_headers()
        if core and message.reply_to:
            pairs = [pair for pair in pairs if pair[0] != "reply_to" or pair in message.headers]
        return _block(message.address, pairs, extra)
    if message.content_type:
        extra += _line("content-type", message.content_type)
    if message.correlation_id:
        return b"NATS/1.0\r\n%bcorrelation_id: %b\r\n\r\n" % (extra, _text(message.correlation_id))
    return b"NATS/1.0\r\n%b\r\n" % extra if extra else b""


@lru_cache(maxsize=512)
def _subject(subject: str) -> bytes | None:
    """Return a subject as it is sent; None when it can't be."""
    return None if not subject or _SPACE.search(subject) else subject.encode()


@lru_cache(maxsize=512)
def _start(name: str) -> bytes | None:
    """Return a header line up to its value; None when the protocol can't take the name."""
    return f"{name}: ".encode() if _HEADER_NAME.fullmatch(name) else None


def _text(value: HeaderValue) -> bytes:
    if isinstance(value, str):
        if value.isascii() and value.isprintable():
            return value.strip().encode()
        value = value.encode("utf-8", "surrogateescape")
    return value.strip().translate(_NEWLINES)


@lru_cache(maxsize=512)
def _line(name: str, value: str) -> bytes:
    return b"%b: %b\r\n" % (name.encode(), _text(value))


@lru_cache(maxsize=512)
def _expected(stream: str) -> bytes:
    return b"Nats-Expected-Stream: %b\r\n" % stream.encode()


def _block(subject: str, headers: list[tuple[str, HeaderValue]], extra: bytes) -> bytes:
    lines = [b"NATS/1.0\r\n", extra]
    for name, value in headers:
        start = _start(name)
        if start is None:
            raise PublishError(subject, f"{name!r} is no header name: letters, digits and !#$%&'*+-.^_`|~ only")
        lines += (start, _text(value), b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
