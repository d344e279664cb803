"""How messages come from a JetStream stream, and how they are settled."""

from __future__ import annotations

import asyncio
import logging
import sys
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import BrokerUnavailable, StreamError
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.recurrence import Recurrence
from fastapi_stream_core.shown_address import clean_cause
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, ConsumerInfo
from nats.js.errors import NotFoundError

from .checked_source import TICK_SECONDS, VERIFY_SECONDS, CheckedSource
from .jetstream import API_SECONDS, bind_consumer
from .message import Foreign, NatsMessage, Origin, wire_size
from .source import END_SECONDS
from .subject import readable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nats.js.manager import JetStreamManager

    from .client import Connection
    from .parser import Wire
    from .subscription import NatsSubscription
    from .transport import NatsTransport

__all__ = ("StreamSource",)

DEFAULT_ACK_WAIT = 30.0
"""The server's default."""
BIND_ATTEMPTS = 3
ACKNOWLEDGEMENTS = b"$JS.ACK."
ACK_SECONDS = 0.005
"""Acknowledgements are written at once, and together with those of so many seconds under load."""
WINDOW = 500


class SettlementRefused(StreamError):
    """The server takes no acknowledgements of a consumer."""


class StreamSource(CheckedSource):
    """What pushed and pulled messages have in common: the consumer, acknowledgements, leases."""

    redelivers = True
    window = WINDOW

    def __init__(self, subscription: NatsSubscription, transport: NatsTransport) -> None:
        super().__init__(subscription, transport)
        self.settles = subscription.settles
        self._held: dict[int, NatsMessage] = {}
        self._disputed: set[int] = set()
        self._awaited = False
        self._newest = 0
        self._delivery = 0
        self._acks: list[bytes] = []
        self._next_write = 0.0
        self._ack_wait = DEFAULT_ACK_WAIT
        self._extended = 0.0
        self._pace = TICK_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._refusals = Recurrence()

    async def _bind(self) -> ConsumerInfo:
        connection = self.connection = await self.transport.connected()
        self._losses = self.transport.losses
        try:
            stream = self.subscription.stream
            work, name = self._consumer_info(connection), "" if stream is None else stream.name
            info = await self.transport.permissions.ask(work, self.subscription.label, name)
        except NatsError as error:
            address = self.transport.broker.address
            raise BrokerUnavailable(address, "getting a consumer", API_SECONDS, error) from clean_cause(error)
        self._stream, self._consumer, self._created = info.stream_name, info.name, info.created
        self._origin = Origin(connection, 0, info.stream_name, info.name, self._progress.life)
        self._adopt(info.config)
        self._note_pause(info)
        self._seen = self._extended = self._looked = self._came = monotonic()
        self._timer = asyncio.get_running_loop().call_later(self._pace, self._tick)
        return info

    def _adopt(self, config: ConsumerConfig) -> None:
        super()._adopt(config)
        self._ack_wait = config.ack_wait or DEFAULT_ACK_WAIT
        self._pace = min(TICK_SECONDS, self._ack_wait / 4)
        most = config.max_deliver
        self.most_deliveries = most if most is not None and most > 0 else sys.maxsize

    async def _subscribe(self, connection: Connection, subject: str, queue: str) -> None:
        await super()._subscribe(connection, subject, queue)
        self._buffer.extendleft(reversed(self._progress.left(self._created)))

    async def _consumer_info(self, connection: Connection) -> ConsumerInfo:
        manager = connection.jsm(timeout=API_SECONDS)
        for left in reversed(range(BIND_ATTEMPTS)):
            try:
                return await self._bind_consumer(manager, connection)
            except NotFoundError:
                if not left:
                    raise
                # The server lost the stream, as it does with one in memory.
                await self.transport.declare(connection)
        raise NotFoundError

    async def _bind_consumer(self, manager: JetStreamManager, connection: Connection) -> ConsumerInfo:
        """Return the consumer, after a look whether the stream is still the one that was read before.

        Raises:
            NotFoundError: the stream does not exist, or another one took its place meanwhile.
        """
        stream, progress = self.subscription.stream, self._progress
        name = "" if stream is None else stream.name
        before = progress.life
        life = self.transport.lives.get(name)
        if before is not None:
            found = await manager.stream_info(name)
            life = found.created
            if progress.compare(found):
                self._report(logging.WARNING, "%s: %s was deleted and made again; reading it from its beginning", name)
                await self.transport.declare(connection)
        info = await bind_consumer(manager, connection, self.subscription, progress)
        if before is not None and (await manager.stream_info(name)).created != life:
            raise NotFoundError
        progress.bound(life, info)
        return info

    # What comes in.

    def _take(self, limit: int) -> list[NatsMessage]:
        messages = super()._take(limit)
        if not messages:
            return messages
        self._watch(messages[0], messages[-1])
        held, disputed, settles = self._held, self._disputed, self.settles
        progress = self._progress if self._progress.own else None
        fresh = []
        delivery = self._delivery
        for message in messages:
            if message.delivery <= delivery:  # a consumer counts on as long as it lives
                self._suspect()
            delivery = message.delivery
            sequence = message.sequence
            known = held.get(sequence)
            if known is not None:
                if message.redelivered and message.is_copy_of(known):
                    continue  # what waits or runs here: the first one's acknowledgement is for both
                disputed.add(sequence)
                self._suspect()
            elif disputed:
                disputed.discard(sequence)
            fresh.append(message)
            if settles:
                held[sequence] = message
            if progress is not None:
                if progress.received(sequence):
                    message.redelivered = True  # by the consumer before this one, and perhaps it still runs
                if not settles:
                    progress.finished(sequence)
        self._delivery = delivery
        return fresh

    def _watch(self, first: NatsMessage, last: NatsMessage) -> None:
        """Notice when numbers go back, which they do not within one life of a stream."""
        if (first.attempt == 1 and first.sequence <= self._newest) or (
            last.attempt == 1 and last.sequence < first.sequence and first.attempt == 1
        ):
            self._suspect()
        if last.attempt == 1:
            self._newest = last.sequence

    def receive(self, run: list[Wire]) -> None:
        self._seen = monotonic()
        begin, prefix = 0, self._origin.prefix
        for number, (subject, reply, data, headers) in enumerate(run):
            if reply.startswith(prefix):
                continue
            if self._origin.owns(reply):
                prefix = self._origin.prefix
                continue
            self.keep_messages(run[begin:number])
            begin = number + 1
            # Whoever publishes to the stream may begin the headers as the server begins what it says itself.
            if not data and headers is not None and headers[8:9] == b" " and not reply.startswith(ACKNOWLEDGEMENTS):
                self.tell(reply, headers)
            else:  # at once: nothing bounds how many somebody publishes to where the messages go
                self._foreign(readable(subject), Foreign(reply))
        self.keep_messages(run[begin:] if begin else run)

    def keep_messages(self, run: list[Wire]) -> None:
        """Take messages into the buffer."""
        if not run:
            return
        self._buffer.extend(run)
        self._came = self._seen
        if self._paused is not None and self._seen - self._looked > VERIFY_SECONDS:
            self._look()
        if self._waiting is not None:
            self.wake()

    def held_bytes(self) -> int:
        """Return how many bytes the messages hold that came and are not finished."""
        return sum(map(wire_size, self._buffer)) + self.dispatcher.held_bytes()

    @abstractmethod
    def tell(self, reply: bytes, headers: bytes) -> None:
        """Take what the server, or whoever claims to be it, says instead of a message."""

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        while self._gone or self._changed or not self._buffer:
            if self._has_new_status():
                self._awaited = self.awaits
                return ()
            if self._failure is not None:
                raise self._failure
            if self._stopping:
                return ()
            await (self._wait() if self._gone else self._more(limit))
        self._awaited = self.awaits
        return self._take(limit)

    def _has_new_status(self) -> bool:
        """Tell whether the subscription, which follows what `fetch` returns, still has the status of before."""
        return self.awaits is not self._awaited

    async def _more(self, limit: int) -> None:
        """Wait for messages, or for another reason to look again."""
        await self._wait()

    # Whether it still comes.

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pace, self._tick)
        now = monotonic()
        if not self._doubt:
            self._settle(len(self._answers))
        if now - self._heard() > self._quiet_seconds():
            self._seen = now
            self._suspect()
        elif not self._doubt and self._is_look_due(now):
            self._look()
        if (self._held or self._buffer) and now - self._extended > self._ack_wait / 3:
            self._extended = now
            self._extend()

    def _extend(self) -> None:
        """Tell the server that messages still wait or run; one that nobody will settle any more is left to expire."""
        alive = self.dispatcher.unfinished()
        for sequence, message in list(self._held.items()):
            if message not in alive:
                del self._held[sequence]
        waiting = [wire[1] for wire in self._buffer if self._origin.owns(wire[1])] if self.settles else []
        running = [message.wire_reply for message in self._held.values()]
        if not self._doubt:
            self._write(waiting + running, b"+WPI")

    # Settling.

    def _write(self, addresses: Sequence[bytes], answer: bytes) -> None:
        if not addresses:
            return
        self._answers.append(answers_to(addresses, answer))
        if self._closed or not self._doubt:
            self._settle(len(self._answers))

    def _settled(self, message: NatsMessage, answer: bytes, finished: bool = True) -> bool:
        """Forget a message; tell whether the server is told. When two messages bear one number, it is not.

        It then delivers the one that it knows again.
        """
        sequence = message.sequence
        holder = self._held.get(sequence)
        if holder is not None and holder is not message:
            return self._contest(message, answer)
        self._held.pop(sequence, None)
        if self._closed:
            self.dispatcher.late()
        if sequence in self._disputed:
            return self._contest(message, answer)
        progress = self._progress
        if finished and progress.own and progress.life == self._origin.life:
            progress.finished(sequence)
        return True

    def _contest(self, message: NatsMessage, answer: bytes) -> bool:
        """Keep an answer for the case that another consumer is in the place: then it is known whose message it was."""
        if not self._gone:
            self._contested.append(answers_to((message.wire_reply,), answer))
        return self._gone

    def ack(self, message: StreamMessage) -> Awaitable[None] | None:
        if self.settles and isinstance(message, NatsMessage):
            if self._disputed or self._closed or self._progress.own:
                if not self._settled(message, b"+ACK"):
                    return None
            else:
                self._held.pop(message.sequence, None)
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
        if self.settles and isinstance(message, NatsMessage) and self._settled(message, b"+TERM"):
            self._write((message.wire_reply,), b"+TERM")
        return None

    def nack(self, message: StreamMessage, delay: float) -> Awaitable[None] | None:
        if isinstance(message, NatsMessage):
            body = b'-NAK {"delay": %d}' % round(delay * 1e9) if delay > 0 else b"-NAK"
            if self._settled(message, body, finished=False):
                self._write((message.wire_reply,), body)
        return None

    def refused(self, text: str) -> bool:
        prefix = self._origin.prefix
        if not prefix.startswith(ACKNOWLEDGEMENTS) or f'publish to "{prefix.decode()}'.lower() not in text.lower():
            return super().refused(text)
        if self._refusals.is_due(SettlementRefused()):
            said = "%s: the server takes no acknowledgements of the consumer %r, and delivers its messages again: %s"
            self._report(logging.WARNING, said, self._consumer, text)
        return True

    # The end.

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        """Give back at once what was not started, so that another consumer gets it now."""
        await self._unsubscribe()
        unstarted = [*messages, *self._take(len(self._buffer))]
        if not self.settles:
            self.tell_lost(len(unstarted), "a consumer that acknowledges nothing")
            return
        for message in unstarted:
            self.nack(message, 0.0)

    async def flush(self) -> None:
        self._write_acks()
        if self.connection is None or self.connection.is_silent:  # nothing is to be gained by waiting once more
            return
        if self._doubt and self._checking is not None:
            await asyncio.wait({self._checking}, timeout=END_SECONDS)
        if self.connection.is_connected:
            await self.connection.confirm(END_SECONDS)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait({self._checking})
        if self._gone and self.settles:
            await self._find_successor()
            self._answers += self._contested
        elif self._doubt:
            self._answers.clear()
        await super().close()
        if self.settles:
            self._take(len(self._buffer))
        # After an error the core has forgotten what waited; what runs is still settled by its handler.
        alive = self.dispatcher.unfinished()
        waiting = [message for message in self._held.values() if message not in alive]
        self._write_acks()
        if self._successor is None or self._stopping:
            self._write([message.wire_reply for message in waiting], b"-NAK")
        else:  # the acknowledgement of another message may have settled one of them: only here it is still known
            self._progress.leave(
                self._successor.created,
                [message._wire for message in waiting if self._successor.delivered(message.wire_reply)],
            )
        self._settle(len(self._answers))
        connection = self.connection
        if connection is None or not connection.is_connected or connection.is_silent:
            return  # the server deletes it by itself
        if self._successor is not None and self._losses == self.transport.losses:
            connection.write(self._progress.owed(self._successor.created))
        if self._progress.own and self._consumer:
            await self._delete(connection)


def answers_to(addresses: Sequence[bytes], answer: bytes) -> bytes:
    """Return the commands that answer to addresses for acknowledgements."""
    end = b"  %d\r\n%b\r\n" % (len(answer), answer)
    return b"PUB " + (end + b"PUB ").join(addresses) + end
