"""How messages come from a JetStream stream, pushed or asked for, and how they are settled."""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import BrokerUnavailable, StreamError
from fastapi_stream_core.message import StreamMessage
from nats.errors import Error as NatsError
from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError

from .jetstream import API_SECONDS, HEARTBEAT_SECONDS, bind_consumer, delete_consumer
from .message import NatsMessage
from .source import CONFIRM_SECONDS, NatsSource

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .client import Connection
    from .parser import Wire
    from .subscription import NatsSubscription
    from .transport import NatsTransport

__all__ = ("ConsumerLost", "PullSource", "PushSource")

MISSED_SECONDS = 2.5 * HEARTBEAT_SECONDS
QUEUE_CHECK_SECONDS = 30.0
"""The members of a queue group get no heartbeats of their own; they ask for the consumer so often when it is quiet."""
DEFAULT_ACK_WAIT = 30.0
"""The server's default."""
TICK_SECONDS = 1.0
ACK_SECONDS = 0.005
"""Acknowledgements are written at once, and together with those of so many seconds under load."""
WINDOW = 500


class ConsumerLost(StreamError):
    """The server has ended a consumer.

    Attributes:
        consumer: its name.
        reason: what the server said.
    """

    def __init__(self, consumer: str, reason: str) -> None:
        super().__init__(f"the server ended the consumer {consumer!r}: {reason}; it is made again.")
        self.consumer = consumer
        self.reason = reason


class StreamSource(NatsSource):
    """What pushed and pulled messages have in common: the consumer, acknowledgements, leases."""

    stored = True
    redelivers = True
    window = WINDOW

    def __init__(self, subscription: NatsSubscription, transport: NatsTransport) -> None:
        super().__init__(subscription, transport)
        self.settles = subscription.settles
        self._progress = transport.progress_of(subscription)
        self._held: dict[int, NatsMessage] = {}
        self._acks: list[bytes] = []
        self._next_write = 0.0
        self._stream = ""
        self._consumer = ""
        self._ack_wait = DEFAULT_ACK_WAIT
        self._seen = 0.0
        self._extended = 0.0
        self._doubt = False
        self._pace = TICK_SECONDS
        self._timer: asyncio.TimerHandle | None = None

    async def _bind(self) -> ConsumerInfo:
        connection = self.connection = await self.transport.connected()
        try:
            info = await self._consumer_info(connection)
        except NatsError as error:
            address = self.transport.broker.address
            raise BrokerUnavailable(address, "getting a consumer", API_SECONDS, error) from error
        self._stream, self._consumer = info.stream_name, info.name
        self._ack_wait = info.config.ack_wait or DEFAULT_ACK_WAIT
        self._seen = self._extended = monotonic()
        self._pace = min(TICK_SECONDS, self._ack_wait / 4)
        self._timer = asyncio.get_running_loop().call_later(self._pace, self._tick)
        return info

    async def _consumer_info(self, connection: Connection) -> ConsumerInfo:
        manager = connection.jsm(timeout=API_SECONDS)
        try:
            return await bind_consumer(manager, connection, self.subscription, self._progress)
        except NotFoundError:
            # The server lost the stream, as it does with one in memory.
            await self.transport.declare(connection)
            return await bind_consumer(manager, connection, self.subscription, self._progress)

    # What comes in.

    def _take(self, limit: int) -> list[NatsMessage]:
        messages = super()._take(limit)
        held, progress, settles = self._held, self._progress, self.settles
        fresh = []
        for message in messages:
            sequence = message.sequence
            if sequence in held:
                continue  # a copy of a message that waits or runs here: the first one's acknowledgement is for both
            fresh.append(message)
            if settles:
                held[sequence] = message
            if progress is not None:
                progress.received(sequence)
                if not settles:
                    progress.finished(sequence)
        return fresh

    def receive(self, run: list[Wire], size: int) -> None:
        self._seen = monotonic()
        begin = 0
        for number, (_, reply, data, headers) in enumerate(run):
            if not data and headers is not None and headers[8:9] == b" ":
                self.keep_messages(run[begin:number])
                self.tell(reply, headers)
                begin = number + 1
        self.keep_messages(run[begin:] if begin else run)

    def keep_messages(self, run: list[Wire]) -> None:
        """Take messages into the buffer."""
        self._buffer.extend(run)
        if self._waiting is not None and run:
            self.wake()

    @abstractmethod
    def tell(self, reply: bytes, headers: bytes) -> None:
        """Take what the server says instead of a message."""

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        while not self._buffer:
            if self._failure is not None:
                raise self._failure
            if self._stopping:
                return ()
            if self._doubt:
                await self._verify()
            await self._more(limit)
        return self._take(limit)

    async def _more(self, limit: int) -> None:
        """Wait for messages, or for another reason to look again."""
        if not self._buffer and not self._doubt:
            await self._wait()

    # Whether it still comes.

    def reconnected(self) -> None:
        self._suspect()

    def _suspect(self) -> None:
        """Have the next `fetch` make sure that the consumer exists."""
        self._doubt = True
        self.wake()

    async def _verify(self) -> None:
        """Ask for the consumer; while the server does not answer everything stays as it is.

        Raises:
            ConsumerLost: it does not exist.
        """
        self._doubt = False
        connection = self.connection
        if connection is None or not connection.is_connected:
            return
        try:
            await connection.jsm(timeout=API_SECONDS).consumer_info(self._stream, self._consumer)
        except NotFoundError as error:
            raise ConsumerLost(self._consumer, error.description or "it does not exist") from error
        except NatsError:  # it does not answer, or JetStream is not ready: what waits here is still ours
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._suspect)
            return
        self._seen = monotonic()

    def _quiet_seconds(self) -> float:
        """How long it may be quiet before something is wrong."""
        return MISSED_SECONDS

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pace, self._tick)
        now = monotonic()
        if self._waiting is not None and now - self._seen > self._quiet_seconds():
            self._seen = now
            self._suspect()
        if (self._held or self._buffer) and now - self._extended > self._ack_wait / 3:
            self._extended = now
            self._extend()

    def _extend(self) -> None:
        """Tell the server that messages still wait or run; one that nobody will settle any more is left to expire."""
        alive = self.dispatcher.unfinished()
        for sequence, message in list(self._held.items()):
            if message not in alive:
                del self._held[sequence]
        waiting = [wire[1] for wire in self._buffer] if self.settles else []
        running = [message.wire_reply for message in self._held.values()]
        self._write(waiting + running, b"+WPI")

    # Settling.

    def _write(self, addresses: Sequence[bytes], answer: bytes) -> None:
        if addresses:
            end = b"  %d\r\n%b\r\n" % (len(answer), answer)
            self.transport.send(b"PUB " + (end + b"PUB ").join(addresses) + end)

    def _settled(self, message: NatsMessage, finished: bool = True) -> None:
        self._held.pop(message.sequence, None)
        if finished and self._progress is not None:
            self._progress.finished(message.sequence)
        if self._closed:
            self.dispatcher.late()

    def ack(self, message: StreamMessage) -> Awaitable[None] | None:
        if self.settles and isinstance(message, NatsMessage):
            self._held.pop(message.sequence, None)
            if self._progress is not None or self._closed:
                self._settled(message)
            if not self._acks:
                loop = asyncio.get_running_loop()
                loop.call_at(max(self._next_write, loop.time()), self._write_acks)
            self._acks.append(message.wire_reply)
        return None

    def _write_acks(self) -> None:
        if not self._acks:
            return
        self._next_write = asyncio.get_running_loop().time() + ACK_SECONDS
        acks, self._acks = self._acks, []
        self._write(acks, b"+ACK")

    def reject(self, message: StreamMessage) -> Awaitable[None] | None:
        if self.settles and isinstance(message, NatsMessage):
            self._settled(message)
            self._write((message.wire_reply,), b"+TERM")
        return None

    def nack(self, message: StreamMessage, delay: float) -> Awaitable[None] | None:
        if isinstance(message, NatsMessage):
            self._settled(message, finished=False)
            body = b'-NAK {"delay": %d}' % round(delay * 1e9) if delay > 0 else b"-NAK"
            self._write((message.wire_reply,), body)
        return None

    # The end.

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        """Give back at once what was not started, so that another consumer gets it now."""
        await self._unsubscribe()
        unstarted = [*messages, *self._take(len(self._buffer))]
        for message in unstarted:
            self.nack(message, 0.0)

    async def flush(self) -> None:
        self._write_acks()
        if self.connection is not None and self.connection.is_connected:
            await self.connection.confirm(CONFIRM_SECONDS)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await super().close()
        # After an error the core has forgotten what waited; what runs is still settled by its handler.
        alive = self.dispatcher.unfinished()
        self._write([message.wire_reply for message in self._held.values() if message not in alive], b"-NAK")
        connection = self.connection
        if self._progress is not None and self._consumer and connection is not None and connection.is_connected:
            await delete_consumer(connection.jsm(timeout=API_SECONDS), self._stream, self._consumer)


class PushSource(StreamSource):
    """The server pushes, at most `max_ack_pending` messages that are not acknowledged."""

    _group = ""

    async def start(self) -> None:
        info = await self._bind()
        config = info.config
        self._group = config.deliver_group or ""
        if self.connection is not None:
            await self._subscribe(self.connection, config.deliver_subject or "", self._group)

    def _quiet_seconds(self) -> float:
        return QUEUE_CHECK_SECONDS if self._group else MISSED_SECONDS

    def tell(self, reply: bytes, headers: bytes) -> None:
        if reply and self.connection is not None:  # flow control: the answer lets the server go on
            self.connection.write(b"PUB %b  0\r\n\r\n" % reply)


class PullSource(StreamSource):
    """Requests for messages stand at the server; a new one follows when half of what is allowed was delivered."""

    def __init__(self, subscription: NatsSubscription, transport: NatsTransport) -> None:
        super().__init__(subscription, transport)
        pull = subscription.pull
        size = pull.batch_size if pull is not None else None
        if subscription.batch:
            self.window = max(WINDOW, 2 * subscription.batch_size)
        else:
            self.window = size or WINDOW
            self.adaptive = size is None
        expires = max(pull.timeout, 1.0) if pull is not None and not pull.batch else 30.0
        self._limits = {
            "expires": round(expires * 1e9),
            "idle_heartbeat": round(min(HEARTBEAT_SECONDS, expires / 2.5) * 1e9),
        }
        self._inbox = b""
        self._asked = 0
        self._most = self.window

    async def start(self) -> None:
        await self._bind()
        if self.connection is not None:
            inbox = self.connection.new_inbox()
            self._inbox = inbox.encode()
            await self._subscribe(self.connection, inbox, "")

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        if self._buffer:
            self._ask(limit - len(self._buffer), limit + self.dispatcher.backlog())
        return await super().fetch(limit)

    async def _more(self, limit: int) -> None:
        allowed = limit + self.dispatcher.backlog()
        while not (self._buffer or self._doubt or self._stopping or self._failure):
            self._ask(allowed - self.dispatcher.backlog(), allowed)
            if self._asked or not self.dispatcher.backlog():
                await self._wait()
            else:
                await self.dispatcher.wait_finished(TICK_SECONDS)

    def _ask(self, room: int, allowed: int) -> None:
        """Ask for as many messages as there is room for, when that is half of what is allowed."""
        wanted = min(room - self._asked, self._most)
        half = max((allowed - self.subscription.max_workers) // 2, 1)
        if wanted < min(half, self._most) or self.connection is None or not self.connection.is_connected:
            return
        self._write_acks()  # in one packet
        self._asked += wanted
        body = json.dumps({"batch": wanted, **self._limits}).encode()
        target = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}".encode()
        self._seen = monotonic()
        self.connection.write(b"PUB %b %b %d\r\n%b\r\n" % (target, self._inbox, len(body), body))

    def keep_messages(self, run: list[Wire]) -> None:
        self._asked = max(self._asked - len(run), 0)
        super().keep_messages(run)

    def tell(self, reply: bytes, headers: bytes) -> None:
        line, _, rest = headers[9:].partition(b"\r\n")
        code, _, text = line.partition(b" ")
        if code == b"100":
            return
        left = [
            one.partition(b":")[2] for one in rest.split(b"\r\n") if one.lower().startswith(b"nats-pending-messages:")
        ]
        self._asked = max(self._asked - int(left[0]), 0) if left else 0
        reason = text.decode("utf-8", "replace")
        if code in (b"404", b"408"):  # no messages until the request expired
            self.wake()
        elif code == b"409" and "max" in reason.lower() and "batch" in reason.lower():
            self._most = max(int("".join(filter(str.isdigit, reason)) or 1), 1)
            self.wake()
        elif code == b"409" and ("deleted" in reason.lower() or "push based" in reason.lower()):
            self.lost(ConsumerLost(self._consumer, reason))
        elif code == b"409" or code == b"503":
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._suspect)
        else:
            self.lost(ConsumerLost(self._consumer, f"{code.decode()} {reason}"))

    async def _verify(self) -> None:
        self._asked = 0
        await super()._verify()
