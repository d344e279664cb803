"""nats-py's client with a short way in and out; everything that is private to nats-py is used here and nowhere else."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

from fastapi_stream_core.errors import PublishError
from fastapi_stream_core.headers import HeaderValue
from fastapi_stream_core.response import Outgoing
from nats.aio.client import Client
from nats.aio.subscription import Subscription as ClientSubscription

from .parser import Parser, Sink

__all__ = ("Connection", "core_headers", "header_block", "publication")

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

    def write(self, commands: bytes) -> None:
        """Send commands soon, together with what else is written in this turn of the event loop.

        While the connection is being made again they wait, and are sent then.
        """
        self._pending.append(commands)
        self._pending_data_size += len(commands)
        queue = self._flush_queue
        if queue is not None and queue.empty() and self.is_connected:
            queue.put_nowait(asyncio.get_running_loop().create_future())

    async def make_room(self) -> None:
        """Wait until what was written is on its way, when that is a lot."""
        if self._pending_data_size > WRITE_AHEAD and self.is_connected:
            await self._flush_pending(force_flush=True)


def core_headers(message: Outgoing) -> list[tuple[str, HeaderValue]]:
    """Return the headers of a message of NATS core, which has a place of its own for `reply_to`."""
    return (message if message.reply_to is None else replace(message, reply_to=None)).wire_headers()


def publication(
    subject: str, reply: str, body: bytes, headers: list[tuple[str, HeaderValue]], extra: bytes = b""
) -> bytes:
    """Return the command that publishes a message.

    Args:
        subject: where to.
        reply: where an answer or a confirmation goes; empty for nowhere.
        body: the body.
        headers: repeated names and bytes are sent as they are; a line break in a value becomes a space.
        extra: further header lines, finished.

    Raises:
        PublishError: the subject or a header name can't be sent.
    """
    if not subject or _SPACE.search(subject) or _SPACE.search(reply):
        raise PublishError(subject, "a subject is not empty and has no spaces and no line breaks")
    if not headers and not extra:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(body), body)
    block = header_block(subject, headers, extra)
    size = len(block)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
        subject.encode(),
        reply.encode(),
        size,
        size + len(body),
        block,
        body,
    )


@lru_cache(maxsize=512)
def _header_start(name: str) -> bytes | None:
    """Return a header line up to its value; None when the protocol can't take the name."""
    return f"{name}: ".encode() if _HEADER_NAME.fullmatch(name) else None


def header_block(subject: str, headers: list[tuple[str, HeaderValue]], extra: bytes = b"") -> bytes:
    """Return headers as the protocol has them.

    Raises:
        PublishError: a header name can't be sent.
    """
    lines = [b"NATS/1.0\r\n", extra]
    for name, value in headers:
        start = _header_start(name)
        if start is None:
            raise PublishError(subject, f"{name!r} is no header name: letters, digits and !#$%&'*+-.^_`|~ only")
        text = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        lines += (start, text.strip().translate(_NEWLINES), b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
