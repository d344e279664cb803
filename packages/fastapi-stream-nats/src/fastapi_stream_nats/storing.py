"""Publishing to streams: a message counts when its stream has confirmed it."""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.errors import BrokerUnavailable, PublishError, SetupError
from fastapi_stream_core.report import describe
from fastapi_stream_core.response import Outgoing
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.api import PubAck, StorageType

from .absence import Absence
from .checked_source import NO_ANSWER
from .client import Connection, is_ended
from .jetstream import API_SECONDS, declare_streams, streams_of
from .subject import unquoted
from .wire import confirmation, payload_of, publication

if TYPE_CHECKING:
    from collections.abc import Callable

    from .parser import Wire
    from .schema import JStream
    from .transport import NatsTransport

__all__ = ("Storing",)

NO_STREAM_ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.25
MAX_PAUSE_SECONDS = 1.0
FILE_OVERHEAD = 34
MEMORY_OVERHEAD = 16
"""Bytes that a stream counts of each message besides its subject, headers and body."""
PATIENCE_SECONDS = 2.0
"""After so long without a confirmation JetStream is asked whether there will be one, while it is waited for."""
STORE_FAILED = 10077
MAYBE = "it may have been stored"
REFUSED = re.compile(r'violation for publish to "((?:[^"\\]|\\.)*)"', re.IGNORECASE)
"""A publication that the server refused."""
NOBODY: tuple[str, None] = ("", None)
FULL = (10002, 10008, 10009, 10023, 10028, 10047, 10167, STORE_FAILED)
"""The server's codes for a stream, an account or a server that takes no message now, whatever is in it."""


class Storing:
    """Publishes to streams, on the connection that there is.

    Args:
        transport: has the connection.
    """

    def __init__(self, transport: NatsTransport) -> None:
        self._transport = transport
        self._connection: Connection | None = None
        self._inbox = b""
        self._subscription: Subscription | None = None
        self._confirmations: dict[bytes, tuple[str, asyncio.Future[Any]]] = {}
        self._count = 0
        self._listening = asyncio.Lock()
        self._refusal: str | None = None
        self._declaring = asyncio.Lock()
        self._declared: dict[str, float] = {}
        self._absence = Absence(transport)

    async def store(
        self, connection: Connection, message: Outgoing, stream: str, timeout: float, deadline: float
    ) -> PubAck:
        """Publish to a stream, and wait until it has stored the message.

        Args:
            connection: the connection.
            message: what is published.
            stream: the stream that has to store it; one that is declared here is made again when it is gone.
            timeout: seconds, for the error.
            deadline: when they are over, in the time of the event loop.

        Raises:
            BrokerUnavailable: no confirmation in time, no room, or the stream is away.
            PublishError: no stream takes the subject, the user may not publish there, or the server refuses it.
        """
        clock = asyncio.get_running_loop().time
        attempts, pause = NO_STREAM_ATTEMPTS, FIRST_PAUSE_SECONDS
        reason: str | None = None
        while True:
            asked = clock()
            if self._connection is not connection:
                await self._listen(connection, timeout, deadline)
            self._count += 1
            number = b"%d" % self._count
            command = publication(message, connection.limits, self._inbox + number, stream)
            late = partial(self._unconfirmed, timeout, reason)
            answer = await self._confirmed(connection, command, number, message.address, stream, late, deadline)
            if answer is None:
                reason = await self._declare_again(connection, message, stream, asked, deadline)
                attempts -= reason is None  # a cluster that elects a leader says this too
                if reason is None and (attempts <= 0 or clock() + pause >= deadline):
                    left = max(deadline - clock(), 0.001)
                    reason = await self._absence.reason(connection, message.address, stream, asked, left)
                    if reason is None:
                        raise _not_taken(message.address, stream)
            elif "error" in answer:
                reason = _said(answer["error"])
                if not await self._is_full(connection, message, stream, command, answer["error"]):
                    raise PublishError(message.address, reason)
            else:
                self._absence.over(stream)
                return PubAck.from_response(answer)
            if clock() + pause >= deadline:
                raise BrokerUnavailable(self._transport.broker.address, "publish", timeout, reason)
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
            connection = await self._transport.for_publishing(timeout, deadline)

    async def _listen(self, connection: Connection, timeout: float, deadline: float) -> None:
        """Subscribe to where the confirmations go; nothing is published before the server has agreed.

        Raises:
            BrokerUnavailable: it does not.
        """
        async with self._listening:
            if self._connection is connection:
                return
            self._inbox = f"{connection.new_inbox()}.".encode()
            self._refusal = None
            subscription = self._subscription = await connection.attach(f"{self._inbox.decode()}*", "", self._confirm)
            try:
                await connection.confirm(max(deadline - asyncio.get_running_loop().time(), 0.001))
            except NatsError as error:
                self._refusal = describe(error)
            if self._refusal is None:
                self._connection = connection
                return
            connection.forget(subscription)
            raise BrokerUnavailable(self._transport.broker.address, "publish", 0.0, self._refusal)

    def denied(self, text: str, said: str) -> None:
        """Take what the server says it denies.

        Where the confirmations go is made again with the next message. What is published to a subject that is denied
        is never confirmed.

        Args:
            text: what it says, in small letters.
            said: the same with its subject as it is written: those of answers are others', and may nearly be ours.
        """
        if (refused := REFUSED.search(said)) is not None:
            denied = unquoted(refused[1])
            for subject, future in self._confirmations.values():
                if subject == denied and not future.done():
                    future.set_exception(PublishError(subject, text))
            return
        if not self._inbox or not is_ended(f"{self._inbox.decode()}*", text):
            return
        self._refusal = text
        if self._connection is not None and self._subscription is not None:
            self._connection.forget(self._subscription)
            self._connection = None
            self.give_up(text)

    async def _confirmed(
        self,
        connection: Connection,
        command: bytes,
        number: bytes,
        subject: str,
        stream: str,
        late: Callable[[], BrokerUnavailable],
        deadline: float,
    ) -> dict[str, Any] | None:
        """Publish, and return what the stream says; None when there is no stream."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        future: asyncio.Future[Any] = loop.create_future()
        self._confirmations[number] = subject, future
        if began + PATIENCE_SECONDS < deadline:
            timer = loop.call_at(began + PATIENCE_SECONDS, self._postpone, number)
        else:
            timer = loop.call_at(deadline, _expire, future, late)
        try:
            if connection.write(command):
                await connection.make_room()
            answer: asyncio.Future[Any] | dict[str, Any] | None = await future
            if isinstance(answer, asyncio.Future):
                return await self._late(connection, answer, subject, stream, began, late, deadline)
            return answer
        finally:
            timer.cancel()
            del self._confirmations[number]

    def _postpone(self, number: bytes) -> None:
        """Have who waits for a confirmation wait for it in another way from now on."""
        subject, future = self._confirmations[number]
        if not future.done():
            later: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            later.add_done_callback(_look)
            self._confirmations[number] = subject, later
            future.set_result(later)

    async def _late(
        self,
        connection: Connection,
        confirmation: asyncio.Future[dict[str, Any] | None],
        subject: str,
        stream: str,
        since: float,
        late: Callable[[], BrokerUnavailable],
        deadline: float,
    ) -> dict[str, Any] | None:
        """Wait on, and ask JetStream whether there will be a confirmation: somebody else may have the message.

        Returns:
            What the stream says; None when the stream is declared here, and is gone or does not take the subject.

        Raises:
            PublishError: it does not take the subject, does not exist, or confirms nothing.
            BrokerUnavailable: there was no confirmation in time.
        """
        clock = asyncio.get_running_loop().time
        asking = asyncio.ensure_future(self._absence.find(connection, subject, stream, since))
        is_excluded = False
        try:
            ends: set[asyncio.Future[Any]] = {confirmation, asking}
            await asyncio.wait(ends, timeout=max(deadline - clock(), 0.0), return_when=asyncio.FIRST_COMPLETED)
            if not confirmation.done() and asking.done():
                finding = asking.result()
                is_excluded = finding.excludes(subject)
                if is_excluded and self._declared_here(stream):
                    return None
                if not finding.confirms:
                    reason = f"the stream {stream!r} confirms nothing (no_ack), so nobody knows whether it is stored"
                    raise PublishError(subject, reason)
                if not is_excluded or finding.reason is not None:  # the account may map the subject to another one
                    await asyncio.wait({confirmation}, timeout=max(deadline - clock(), 0.0))
        finally:
            asking.cancel()
            await asyncio.wait({asking})
        if confirmation.done():
            return confirmation.result()
        raise _not_taken(subject, stream) if is_excluded else late()

    def _confirm(self, run: list[Wire]) -> None:
        for subject, _, data, headers in run:
            _, future = self._confirmations.get(subject[len(self._inbox) :], NOBODY)
            if future is None or future.done():
                continue
            if headers is not None and not data and headers.startswith(b"NATS/1.0 503"):
                future.set_result(None)
            elif (answer := confirmation(data)) is not None:
                future.set_result(answer)

    def _unconfirmed(self, timeout: float, known: str | None) -> BrokerUnavailable:
        """Return the error of a message that is not confirmed in time, with why an earlier attempt failed."""
        reason = f"{known or 'no confirmation'}; {MAYBE}"
        return BrokerUnavailable(self._transport.broker.address, "publish", timeout, reason)

    def give_up(self, reason: str) -> None:
        """End what waits for a confirmation."""
        for _, future in self._confirmations.values():
            if not future.done():
                because = f"{reason}; {MAYBE}"
                future.set_exception(BrokerUnavailable(self._transport.broker.address, "publish", 0.0, because))

    async def _declare_again(
        self, connection: Connection, message: Outgoing, stream: str, asked: float, deadline: float
    ) -> str | None:
        """Make a stream again that is declared here and that nobody answers for.

        Returns:
            Why that is not possible now; None when it was done, or is not ours to do.

        Raises:
            PublishError: the server refuses the stream.
        """
        streams = self._declared_here(stream)
        if not streams:
            return None
        left = max(deadline - asyncio.get_running_loop().time(), 0.001)
        try:
            await asyncio.wait_for(self._declare(connection, streams, asked), left)
        except SetupError as error:
            raise PublishError(message.address, str(error)) from error
        except (NatsError, asyncio.TimeoutError) as error:
            return f"the stream {stream!r} is not there, and can't be declared: {describe(error)}"
        return None

    def _declared_here(self, stream: str) -> list[tuple[JStream, list[str]]]:
        return [one for one in streams_of(self._transport.broker) if one[0].name == stream and one[0].declare]

    async def _declare(self, connection: Connection, streams: list[tuple[JStream, list[str]]], asked: float) -> None:
        (stream, _), *_ = streams
        async with self._declaring:
            if self._declared.get(stream.name, asked) > asked:
                return  # for another message, meanwhile
            known, permissions = self._transport.lives, self._transport.permissions
            work = declare_streams(connection.jsm(timeout=API_SECONDS), streams)
            created = (await permissions.ask(work, "declaring streams", stream.name))[stream.name].created
            self._declared[stream.name] = asyncio.get_running_loop().time()
            if known.get(stream.name) != created:
                report = self._transport.broker.report
                report.line(logging.WARNING, "the stream %r was gone, and is declared again", stream.name)
            known[stream.name] = created

    async def _is_full(
        self, connection: Connection, message: Outgoing, stream: str, command: bytes, error: dict[str, Any]
    ) -> bool:
        """Tell whether the stream will take the message when there is room."""
        code, text = error.get("err_code"), str(error.get("description")).lower()
        if code not in FULL or (code == STORE_FAILED and ("large" in text or "per subject" in text)):
            return False  # it is this message that the stream does not take, and others it may
        if "bytes" not in text:
            return True
        try:
            config = (await connection.jsm(timeout=API_SECONDS).stream_info(stream)).config
        except NO_ANSWER:
            return True  # nothing says that it never fits
        size = _stored_size(command, message.address, in_memory=config.storage == StorageType.MEMORY)
        return not config.max_bytes or config.max_bytes < 0 or size <= config.max_bytes


def _expire(future: asyncio.Future[Any], late: Callable[[], BrokerUnavailable]) -> None:
    if not future.done():
        future.set_exception(late())


def _look(confirmation: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody may wait for any more."""
    if not confirmation.cancelled():
        confirmation.exception()


def _not_taken(subject: str, stream: str) -> PublishError:
    return PublishError(subject, f"no stream takes this subject, and {stream!r} should")


def _said(error: dict[str, Any]) -> str:
    return f"{error.get('description')} (code {error.get('err_code')})"


def _stored_size(command: bytes, subject: str, in_memory: bool) -> int:
    """Return how many bytes the message of a command takes in a stream."""
    return payload_of(command) + len(subject.encode()) + (MEMORY_OVERHEAD if in_memory else FILE_OVERHEAD)
