"""How messages are pushed from a JetStream stream."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.report import describe

from .ack_pending import PENDING, AckPending, chooses
from .checked_source import MISSED_SECONDS, NO_ANSWER, TICK_SECONDS
from .jetstream import FLOW_BYTES, change_ack_pending, pushed_bytes
from .message import wire_sizes
from .status import Status
from .stream_source import StreamSource

if TYPE_CHECKING:
    from nats.js.api import ConsumerInfo

    from .parser import Wire
    from .subscription import NatsSubscription
    from .transport import NatsTransport

__all__ = ("PushSource",)

QUEUE_CHECK_SECONDS = 5.0
"""The members of a queue group get no heartbeats of their own; they ask for the consumer so often when it is quiet."""
FLOW_CONTROL = b"$JS.FC."


class PushSource(StreamSource):
    """The server pushes, at most `max_ack_pending` messages that are not acknowledged.

    Unless they are shared by a group, it asks whether it may go on when half of what it may push is pushed, and stops
    when it gets no answer. The answer waits until there is room.
    """

    _group = ""

    def __init__(self, subscription: NatsSubscription, transport: NatsTransport) -> None:
        super().__init__(subscription, transport)
        self._most_bytes: int = subscription.options["prefetch_bytes"]
        self._question = b""
        self._asks = questions("", "")
        self._since = 0
        self._pending: AckPending | None = None
        self._changing: asyncio.Task[None] | None = None
        self._paused_with: int | None = None

    async def start(self) -> None:
        info = await self._bind()
        config = info.config
        self._group = config.deliver_group or ""
        self._asks = questions(self._stream, self._consumer)
        if self.connection is None:
            return
        if chooses(self.subscription, config):
            self._pending = AckPending(pushed_bytes(self.subscription), config.max_ack_pending or 1)
        await self._subscribe(self.connection, config.deliver_subject or "", self._group)

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        self._answer()
        return await super().fetch(limit)

    def _heard(self) -> float:
        # Another consumer of the same name delivers to the same group.
        return self._verified if self._group else self._seen

    def _quiet_seconds(self) -> float:
        if self._group:  # what is held will be acknowledged, and should not be to another consumer of the same name
            return TICK_SECONDS if self._held else QUEUE_CHECK_SECONDS
        return MISSED_SECONDS

    def denied(self, text: str) -> bool:
        answer = f'publish to "{FLOW_CONTROL.decode()}{self._stream}.{self._consumer}.'
        return super().denied(text) or answer.lower() in text.lower()

    # Flow control.

    def tell(self, reply: bytes, headers: bytes) -> None:
        # The server says in its heartbeats too that it waits, in case that the question or its answer was lost.
        question = reply or Status(headers).header(b"nats-consumer-stalled")
        if question != self._question and self._asks.fullmatch(question):  # anybody may have published this
            self._question, self._since = question, 0
            self._answer()

    def _answer(self) -> None:
        """Let the server go on, if what it then may push has room; or what it had pushed before is finished."""
        if not self._question or self.connection is None:
            return
        if self.held_bytes() <= self._since + max(self._most_bytes - FLOW_BYTES, 0):
            self.connection.write(b"PUB %b  0\r\n\r\n" % self._question)
            self._question = b""

    def keep_messages(self, run: list[Wire]) -> None:
        if self._question:
            self._since += sum(wire_sizes(run))
        super().keep_messages(run)
        if self._pending is not None and run and self._pending.received(len(run), max(wire_sizes(run))):
            self._follow(self._pending)

    def _write_acks(self) -> None:
        super()._write_acks()
        self._answer()

    def _tick(self) -> None:
        super()._tick()
        self._answer()

    # How many messages the server pushes.

    def _follow(self, pending: AckPending) -> None:
        """Have the server push more or fewer messages, when they are smaller or larger than before."""
        if self._is_changing():
            return
        wanted = pending.wanted(len(self._buffer) + self.dispatcher.backlog(), self.held_bytes)
        if wanted is not None:
            self._changing = asyncio.get_running_loop().create_task(self._change(pending, wanted))

    def _is_changing(self) -> bool:
        return self._closed or (self._changing is not None and not self._changing.done())

    async def _change(self, pending: AckPending, count: int) -> None:
        connection = self.connection
        if connection is None or not connection.is_connected:
            return
        try:
            await change_ack_pending(connection, self._stream, self._consumer, count)
            pending.change(count)
        except NO_ANSWER as error:  # the next message asks for it again
            text = "%s: the server still pushes as many messages as before: %s"
            self.subscription.broker.report.line(logging.DEBUG, text, self.subscription.label, describe(error))

    def _note_pause(self, info: ConsumerInfo) -> None:
        super()._note_pause(info)
        if self._paused is not None:
            self._paused_with = info.config.max_ack_pending
            return
        most, self._paused_with = self._paused_with, None
        may_sleep = info.num_pending and not info.config.idle_heartbeat
        if most is not None and may_sleep and not self._is_changing():
            self._changing = asyncio.get_running_loop().create_task(self._rouse(most))

    async def _rouse(self, most: int) -> None:
        """Have the server deliver after a pause.

        Without heartbeats, one that is resumed before its time would do so with the next publication only. Another
        number of messages that it may push rouses it. All members of a group leave the number of before.
        """
        connection = self.connection
        if connection is None or not connection.is_connected:
            return
        try:
            for count in (PENDING if most < 1 else most - 1 or 2, most):
                await change_ack_pending(connection, self._stream, self._consumer, count)
        except NO_ANSWER as error:
            text = "%s: the consumer %r may deliver nothing before the next publication: %s"
            self._report(logging.WARNING, text, self._consumer, describe(error))

    async def close(self) -> None:
        if self._changing is not None:
            self._changing.cancel()
            await asyncio.wait({self._changing})
        await super().close()


def questions(stream: str, consumer: str) -> re.Pattern[bytes]:
    """Return what the addresses look like at which a consumer may be told to go on.

    `$JS.FC.<stream>.<consumer>.<token>`, with domain and account after FC on new servers.
    """
    names = re.escape(f"{stream}.{consumer}.".encode())
    return re.compile(
        rb"\$JS\.FC\.(?:[^\x00-\x20\x7f.*>]{1,255}\.[0-9A-Za-z_-]{1,64}\.)?" + names + rb"[0-9A-Za-z_-]{1,64}"
    )
