"""Consumes one queue."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

import aiormq
from aio_pika.abc import AbstractChannel
from aiormq import spec
from aiormq.abc import ChannelFrame, DeliveredMessage
from fastapi_stream_core.errors import BrokerUnavailable
from fastapi_stream_core.message import StreamMessage
from fastapi_stream_core.report import describe
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.tally import failures_of
from fastapi_stream_core.transport import Source
from pamqp.base import Frame

from .bindings import Bindings
from .cancellation import uncancelled
from .connection import CLIENT_ERRORS, Link
from .consuming import Consuming
from .delivery import Delivery
from .message import RabbitMessage
from .prefetch import Prefetch
from .probe import find_queue_type
from .schema import QueueType
from .settlement import Ledger
from .stream import Deliveries
from .stream_position import StreamPosition
from .topology import declare_queue, refusals

if TYPE_CHECKING:
    from .subscription import RabbitSubscription

__all__ = ("RabbitSource",)

COALESCE_SECONDS = 0.002
"""How long an acknowledgement waits for others, while RabbitMQ has enough room to go on delivering."""
CHECK_SECONDS = 1.0
"""How often a consumer that RabbitMQ took away is looked for: not every version of the client library tells of it."""
CANCEL_SECONDS = 5.0


class ConsumerLost(ConnectionError):
    """The channel was closed, or RabbitMQ cancelled the consumer: its queue was deleted, for example."""


class RabbitSource(Source):
    """One consumer on a channel of its own.

    RabbitMQ pushes at most `prefetch_count` messages; `fetch` takes what came since the last time. A message that is
    to be delivered again stays unsettled at RabbitMQ and with the core: put back into the queue, it would come again
    at once. What was handled when its channel was gone already comes again, and is handled again: RabbitMQ gives no
    message an identity, and one that a publisher gives may be that of another message.

    Args:
        subscription: whose queue is consumed.
        consuming: knows the connection.
        bindings: keep the queue bound while it is consumed.
        position: where it goes on if the queue is a stream.
    """

    def __init__(
        self, subscription: RabbitSubscription, consuming: Consuming, bindings: Bindings, position: StreamPosition
    ) -> None:
        super().__init__(subscription)
        self.window = subscription.prefetch_count
        self._options = subscription
        self._consuming = consuming
        self._bindings = bindings
        self._name = subscription.queue.name
        self._arrived: deque[RabbitMessage] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._channel: AbstractChannel | None = None
        self._protocol: aiormq.Channel | None = None
        self._deliveries: Deliveries | None = None
        self._consumer = ""
        self._lost: BaseException | None = None
        self._stopped = False
        self._ledger = Ledger()
        self._counted = False
        self._prefetch = Prefetch(subscription.options["prefetch_bytes"], self.window)
        self._kept_position = position
        self._position: StreamPosition | None = None
        self._last = 0
        self._resizing: asyncio.Task[None] | None = None
        self._enough = 1
        self._writing = asyncio.Lock()
        self._noted: asyncio.Future[None] | None = None
        self._acknowledger: asyncio.Task[None] | None = None
        self._check: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        try:
            await uncancelled(self._start())
        except CLIENT_ERRORS as error:
            address = self._consuming.shared.address.shown
            raise BrokerUnavailable(address, "subscribe", 0, describe(error)) from clean_cause(error)

    async def _start(self) -> None:
        subscription = self._options
        link, channel, deliveries = await self._consuming.channel_for(subscription.queue)
        self._channel, self._deliveries = channel, deliveries
        channel.close_callbacks.add(self._on_close)
        protocol = self._protocol = await link.protocol(channel)
        # On the channel of the consumer itself: every subscription does it at the same time, and disturbs no other.
        await declare_queue(protocol, subscription.queue, subscription.exchange)
        self._consuming.note_declared(subscription)
        if link.is_suspect or self.dispatcher.backlog() >= self.window:
            # What would wait behind busy workers another process may handle at once.
            self._prefetch.begin_with_one(stays=link.is_suspect)
        await self._learn_type(link)
        if (position := self._position) is not None and not await position.is_reached(link, self._name):
            self._begin_anew(position)
        with refusals(subscription.label):
            await self._consume(protocol, self._prefetch.count)
        self._bindings.keep(subscription)
        loop = asyncio.get_running_loop()
        self._acknowledger = loop.create_task(self._acknowledge(), name=f"acknowledge {self._name}")
        self._check = loop.call_later(CHECK_SECONDS, self._look)

    async def _learn_type(self, link: Link) -> None:
        """Read the queue as what it is; what somebody else declared may be a queue of any type."""
        queue = self._options.queue
        queue_type = queue.queue_type if queue.declare else await find_queue_type(link, self._name)
        self._counted = queue_type is QueueType.QUORUM
        if queue_type is QueueType.STREAM:
            self._position = self._kept_position
            # Another consumer would get again what the first one has in flight.
            self._prefetch.fix(self.window)
        elif queue.has_single_active_consumer:
            # A consumer that is replaced would make that of another process the active one.
            self._prefetch.fix(1 if link.is_suspect else self.window)

    async def _consume(self, protocol: aiormq.Channel, count: int) -> None:
        """Begin to consume; RabbitMQ knows a prefetch count for consumers that begin after it only."""
        await protocol.basic_qos(prefetch_count=count, timeout=CANCEL_SECONDS)
        arguments = dict(self._options.options["consume_args"] or {})
        if self._position is not None:
            arguments = self._position.arguments(arguments)
        consumer = f"ctag{protocol.number}.{uuid4().hex}"
        if self._deliveries is not None:
            self._deliveries.expect(protocol, consumer, self._on_delivery)
        await protocol.basic_consume(
            self._name,
            self._on_message,
            arguments=arguments,
            consumer_tag=consumer,
            timeout=CANCEL_SECONDS,
        )
        self._consumer = consumer
        self._enough = max(1, count // 4)

    def _adjust(self) -> None:
        """Follow the size of the messages."""
        if self._resizing is not None or self._stopped:
            return
        count = self._prefetch.wanted(self._last, self._ledger.held)
        if count is None:
            return
        self._resizing = asyncio.get_running_loop().create_task(self._resize(count), name=f"fit {self._name}")

    async def _resize(self, count: int) -> None:
        """Replace the consumer by one with another prefetch count, and give back what is too much.

        The new one begins first: RabbitMQ deletes some queues with their last consumer. A quorum queue counts what
        comes back, and gives a message up at its limit: what it delivered stays. What is on its way to the consumer
        that ends comes back all the same, so that does not happen again and again.
        """
        protocol, before = self._protocol, self._consumer
        try:
            if protocol is None or not self._open:
                return
            self._prefetch.change(count, self._last, stays=self._counted)
            await uncancelled(self._consume(protocol, count))
            await uncancelled(protocol.basic_cancel(before, timeout=CANCEL_SECONDS))
            unstarted = []
            while self._arrived and not self._counted and self._ledger.held > self._prefetch.most_bytes:
                message = self._arrived.pop()
                self._ledger.settled_elsewhere(message.tag)
                unstarted.append(message.tag)
            if unstarted:
                async with self._writing:
                    # The lowest first: RabbitMQ delivers again what comes back while the rest is on its way.
                    await self._write(protocol, [spec.Basic.Nack(tag, requeue=True) for tag in reversed(unstarted)])
        except Exception as error:
            self._fail(error)
        finally:
            self._resizing = None

    def _begin_anew(self, position: StreamPosition) -> None:
        """Read a stream that was made again from its beginning."""
        position.forget()
        text = "%s: %s was deleted and made again; reading it from its beginning"
        self.subscription.broker.report.line(logging.WARNING, text, self.subscription.label, self._name)

    async def _on_message(self, delivered: DeliveredMessage) -> None:
        """Take a delivery that the client library read itself."""
        self._on_delivery(Delivery.of(delivered))

    def _on_delivery(self, delivery: Delivery) -> None:
        ledger, prefetch = self._ledger, self._prefetch
        size = len(delivery.body) + len(delivery.head)
        ledger.open[delivery.tag] = size
        ledger.held += size
        self._last = delivery.tag
        if size > prefetch.largest:
            prefetch.largest = size
        if ledger.held > prefetch.most_bytes:
            self._adjust()
        if self._position is not None and not self._position.arrived(delivery):
            ledger.ack(delivery.tag)  # it was finished on a connection before this one
            self._note()
            return
        self._arrived.append(RabbitMessage(delivery, self._name, self._counted))
        self._wake()

    def _on_close(self, channel: AbstractChannel | None, error: BaseException | None) -> None:
        self._fail(ConsumerLost(f"the channel was closed: {error!r}"))

    def _look(self) -> None:
        protocol = self._protocol
        if protocol is None or self._stopped:
            return
        if protocol.is_closed:
            self._fail(ConsumerLost("the channel was closed"))
        elif self._consumer not in protocol.consumers:
            if self._position is not None:
                self._begin_anew(self._position)
            self._fail(ConsumerLost(f"RabbitMQ cancelled the consumer of {self._name!r}"))
        else:
            self._check = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._look)

    def _fail(self, error: BaseException) -> None:
        self.gone = True
        if self._lost is None:
            self._lost = error
            self.note_broken()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        arrived = self._arrived
        while not arrived and self._lost is None and not self._stopped:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._stopped:
            return ()
        if self._lost is not None:
            raise self._lost
        if self._prefetch.count < self.window:
            self._adjust()
        if len(arrived) <= limit:
            taken = list(arrived)
            arrived.clear()
            return taken
        return [arrived.popleft() for _ in range(limit)]

    # Settling.

    def ack(self, message: StreamMessage) -> None:
        if not isinstance(message, RabbitMessage):
            return
        if self._position is not None:
            self._position.finished(message.delivery)
        if self._open:
            self._ledger.ack(message.tag)
            self._note()
        elif self._position is None:
            self.dispatcher.late()

    def reject(self, message: StreamMessage) -> None:
        if not isinstance(message, RabbitMessage):
            return
        if self._position is not None:
            self._position.finished(message.delivery)
        if self._open:
            self._ledger.reject(message.tag)
            self._note()
        elif self._position is None:
            self.dispatcher.late()

    def _too_late(self, count: int) -> None:
        """Count acknowledgements that RabbitMQ will not get: it delivers their messages again."""
        for _ in range(count if self._position is None else 0):
            self.dispatcher.late()

    @property
    def _open(self) -> bool:
        return self._lost is None and self._protocol is not None and not self._protocol.is_closed

    def _note(self) -> None:
        if self._noted is not None and not self._noted.done():
            self._noted.set_result(None)

    async def _acknowledge(self) -> None:
        loop = asyncio.get_running_loop()
        while self._open:
            if not self._ledger:
                self._noted = loop.create_future()
                await self._noted
            if len(self._ledger) < self._enough:
                await asyncio.sleep(COALESCE_SECONDS)
            try:
                await self.flush()
            except Exception as error:
                self._fail(error)

    async def flush(self) -> None:
        async with self._writing:
            protocol = self._protocol
            if protocol is None or not self._ledger or not self._open:
                return
            count, settled = len(self._ledger), self._ledger.take()
            # One write for all of it, and no wait for the socket: RabbitMQ answers none of these frames.
            frames: list[Frame] = [spec.Basic.Reject(tag, requeue=False) for tag in settled.rejected]
            if settled.upto is not None:
                frames.append(spec.Basic.Ack(settled.upto, multiple=True))
            frames += [spec.Basic.Ack(tag) for tag in settled.single]
            if not await self._write(protocol, frames):
                self._too_late(count)

    async def _write(self, protocol: aiormq.Channel, frames: list[Frame]) -> bool:
        """Write frames, and tell whether that was still possible."""
        if self._deliveries is not None and self._deliveries.closing:
            self._fail(ConsumerLost("the connection was lost"))
            return False
        payload = ChannelFrame.marshall(channel_number=protocol.number, frames=frames)
        queue = protocol.write_queue
        try:
            if queue.full():
                # Nobody reads the queue of a connection that is gone.
                await asyncio.wait_for(queue.put(payload), CANCEL_SECONDS)
            else:
                queue.put_nowait(payload)
        except CLIENT_ERRORS as error:
            self._fail(error)
            return False
        return True

    # The end.

    def stop(self) -> None:
        self._stopped = True
        self._wake()

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        protocol = self._protocol
        if self._resizing is not None:
            await asyncio.wait([self._resizing], timeout=CANCEL_SECONDS)
        if protocol is None or not self._consumer or not self._open:
            return
        if self._options.queue.has_single_active_consumer:
            return  # The next one would begin beside what runs. The end of the channel gives all back, in its order.
        await uncancelled(protocol.basic_cancel(self._consumer, timeout=CANCEL_SECONDS))
        # What RabbitMQ pushed before it confirmed the end of the consumer is here by now.
        await asyncio.sleep(0)
        frames: list[Frame] = []
        async with self._writing:
            for message in (*messages, *self._arrived):
                if isinstance(message, RabbitMessage):
                    self._ledger.settled_elsewhere(message.tag)
                    # A quorum queue counts this rejection as a failure, and since RabbitMQ 4.3 no basic.nack.
                    has_failed = failures_of(message) > 0
                    back = spec.Basic.Reject if has_failed else spec.Basic.Nack
                    frames.append(back(message.tag, requeue=True))
            await self._write(protocol, frames)
        self._arrived.clear()

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        self._bindings.forget(self._options)
        if self._check is not None:
            self._check.cancel()
        tasks = [task for task in (self._acknowledger, self._resizing) if task is not None]
        self._acknowledger = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._fail(ConsumerLost("the consumer was closed"))
        self._too_late(len(self._ledger))
        self._ledger.take()
        if channel is not None and not channel.is_closed:
            try:
                await uncancelled(channel.close(), CANCEL_SECONDS)
            except CLIENT_ERRORS as error:
                self.dispatcher.report_close(error)
