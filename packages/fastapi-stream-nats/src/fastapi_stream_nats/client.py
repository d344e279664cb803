"""nats-py's client with a short way in and out; everything that is private to nats-py is used here and nowhere else."""

from __future__ import annotations

import asyncio
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as ClientSubscription
from nats.errors import Error, FlushTimeoutError
from nats.protocol.parser import PERMISSIONS_ERR, STALE_CONNECTION

from .parser import Parser, Sink
from .subject import readable
from .wire import DEFAULT_LIMITS, Limits, payload_of

__all__ = ("Connection", "ConnectionEnded", "NoEncryption", "is_ended")

WRITE_AHEAD = 64 * 1024
"""Bytes that may wait to be sent before a publisher lets the event loop send them."""


class NoEncryption(Error):
    """TLS was asked for, and the server has none."""

    def __str__(self) -> str:
        return "TLS was asked for and the server has none, so nothing was sent to it"


class ConnectionEnded(Error):
    """The server has ended the connection, and said why."""


class MessagesLeftOut(Error):
    """Messages that waited for a connection were not sent."""


class Connection(Client):
    """A client that hands the messages of our subscriptions over without a queue, a task or parsed headers.

    The client gives each subscription a queue and a task, keeps one value of a repeated header, and replaces what is
    not UTF-8. Subscriptions that are made with `attach` skip all that; the others work as ever.

    Args:
        max_line: most bytes of a line of the protocol that the server takes; it does not say so itself.
        encrypted: whether nothing is sent, credentials above all, without TLS.

    Attributes:
        is_silent: whether the server did not confirm in time, and has said nothing since.
        said: the last error of the server, with its subject as it is written.
    """

    def __init__(self, max_line: int = DEFAULT_LIMITS.line, encrypted: bool = False) -> None:
        super().__init__()
        self._max_line = max_line
        self._encrypted = encrypted
        self._ps = self._parser = Parser(self)
        self._room: asyncio.Future[None] | None = None
        self.is_silent = False
        self.said = ""

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
                if not self.is_silent:
                    await self.confirm(timeout)
        finally:
            self.forget(subscription)

    def forget(self, subscription: ClientSubscription) -> None:
        """Know nothing more of a subscription that the server has ended."""
        self._subs.pop(subscription._id, None)
        self._parser.sinks.pop(b"%d" % subscription._id, None)
        subscription._closed = True

    def denied(self, text: str) -> None:
        """Take what the server says it denies: the inbox of requests is made again with the next one."""
        prefix = self._resp_sub_prefix
        if not prefix or not is_ended(f"{prefix.decode()}*", text):
            return
        self._resp_sub_prefix = None
        for subscription in list(self._subs.values()):
            if subscription.subject == f"{prefix.decode()}*":
                self.forget(subscription)
                subscription._stop_processing()

    async def confirm(self, timeout: float) -> None:
        """Wait until the server has read everything that was written before: one round trip.

        Raises:
            nats.errors.Error: it did not answer within `timeout` seconds.
        """
        try:
            await self.flush(timeout)  # type: ignore[arg-type]  # annotated as int, and any number of seconds
        except FlushTimeoutError:
            self.is_silent = True
            raise

    @property
    def limits(self) -> Limits:
        """What the server takes at most, as it said when it was connected to."""
        return Limits(self._max_payload, self._max_line)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if isinstance(most := info.get("max_payload"), int):
            self._max_payload = most
        if initial_connection and self._encrypted:
            self._demand_tls(info)
        await super()._process_info(info, initial_connection)

    def _demand_tls(self, info: dict[str, Any]) -> None:
        """Begin with TLS, also where the server leaves it to the client.

        Raises:
            NoEncryption: the server has none, or says so, or somebody says so in its place.
        """
        server = self._current_server
        scheme = "" if server is None else server.uri.scheme
        if scheme == "wss" or info.get("tls_required"):
            return
        if scheme == "ws" or not info.get("tls_available"):
            raise NoEncryption
        info["tls_required"] = True  # the client encrypts when it reads this

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)  # type: ignore[arg-type]
        except (ValueError, LookupError) as error:  # headers that are none: nobody else's matter
            await self._error_cb(error)

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        reply_to = reply.decode("utf-8", "surrogateescape")
        return self.msg_class(
            subject=readable(subject), reply=reply_to, data=data, headers=headers, _client=self, _sid=sid
        )

    async def _leave_out_what_is_too_large(self) -> None:
        """Drop what waits for a connection and is more than this server takes: it would end the connection."""
        kept = [one for one in self._pending if payload_of(one) <= self._max_payload]
        if len(kept) < len(self._pending):
            lost = len(self._pending) - len(kept)
            self._pending = kept
            self._pending_data_size = sum(map(len, kept))
            most = self._max_payload
            await self._error_cb(
                MessagesLeftOut(
                    f"{lost} messages that waited are larger than this server takes, {most} bytes: left out"
                )
            )

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
            await self._leave_out_what_is_too_large()
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
        # The client sends a ping past the commands that still wait, so its answer says nothing of them; and it
        # forgets that it was cancelled while it waits for the flush.
        self._pongs.append(asyncio.get_running_loop().create_future() if future is None else future)
        self.write(b"PING\r\n")

    async def _process_err(self, err_msg: str) -> None:
        self.said, err_msg = err_msg, err_msg.lower()  # the client knows errors in small letters
        await super()._process_err(err_msg)
        if PERMISSIONS_ERR not in err_msg and STALE_CONNECTION not in err_msg:
            # The client closes the connection now, and says why to nobody.
            said = err_msg.strip("'")
            await self._error_cb(ConnectionEnded(f"the server ended it: {said}"))

    async def _process_pong(self) -> None:
        self.is_silent = False
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

    def withdraw(self, start: bytes) -> list[bytes]:
        """Take back what begins so and still waits to be sent."""
        taken = [one for one in self._pending if one.startswith(start)]
        if taken:
            self._pending = [one for one in self._pending if not one.startswith(start)]
            self._pending_data_size -= sum(map(len, taken))
        return taken

    async def make_room(self) -> None:
        """Wait until what was written is on its way, or the connection is lost."""
        queue = self._flush_queue
        if queue is None or not self.is_connected:
            return
        if self._room is None or self._room.done():  # one flush is enough for all
            if queue.full():
                return
            self._room = asyncio.get_running_loop().create_future()
            queue.put_nowait(self._room)
        # The client's own way swallows a cancellation of who waits.
        await asyncio.wait([self._room], timeout=self._flush_timeout)

    def _let_go(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def _attempt_reconnect(self) -> None:
        self._let_go()
        await super()._attempt_reconnect()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._let_go()
        await super()._close(status, do_cbs)


def is_ended(subject: str, text: str) -> bool:
    """Tell whether an error of the server says that a subscription is none."""
    return f'subscription to "{subject}"'.lower() in text.lower()
