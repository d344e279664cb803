"""One message from a queue."""

from __future__ import annotations

import logging

from aio_pika import IncomingMessage
from aiormq import spec
from aiormq.abc import DeliveredMessage
from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import StreamMessage

from .delivery import Delivery
from .properties import leave_out_unknown
from .wire import headers_of

__all__ = ("RabbitMessage",)


class RabbitMessage(StreamMessage):
    """One message from a queue.

    Headers are the AMQP headers as text; content type, ids and reply address are AMQP properties.

    Attributes:
        delivery: what RabbitMQ sent.
        queue: the queue that it came from.
        tag: number of the delivery on its channel.

    Args:
        delivery: what RabbitMQ sent.
        queue: the queue that it came from.
        counted: whether the queue counts deliveries, as quorum queues do.
    """

    __slots__ = ("_raw", "delivery", "queue", "tag")

    sure_of_copies = False

    _raw: IncomingMessage | None

    def __init__(self, delivery: Delivery, queue: str, counted: bool = False) -> None:
        self.delivery = delivery
        self.queue = queue
        self.tag = delivery.tag
        redelivered = delivery.redelivered
        attempt = _attempt(delivery, counted) if redelivered else 1
        super().__init__(delivery.body, None, delivery.routing_key or queue, None, redelivered, attempt)

    @property
    def delivered(self) -> DeliveredMessage:
        """The message as the client library gives it to a consumer; made when it is asked for."""
        return self.delivery.delivered

    @property
    def properties(self) -> spec.Basic.Properties:
        """The AMQP properties; without what can't be read, which is logged."""
        properties = self.delivery.properties
        self._tell()
        return properties

    def _tell(self) -> None:
        """Tell once of properties and headers that can't be read."""
        error = self.delivery.take_error()
        if error is not None and self.subscription is not None:
            report = self.subscription.broker.report
            report.count("unreadable")
            report.line(logging.WARNING, "%s: the properties of a message can't be read: %s", self.queue, error)

    @property
    def raw_message(self) -> IncomingMessage:
        """The message as an `aio_pika.IncomingMessage`, made when it is asked for.

        It is for reading: its own `ack()` raises, settle the `RabbitMessage`.
        """
        if self._raw is None:
            # Settled twice, RabbitMQ would close the channel: this object does not settle.
            delivered = self.delivered
            leave_out_unknown(delivered.header.properties)
            self._raw = IncomingMessage(delivered, no_ack=True)
        return self._raw

    @raw_message.setter
    def raw_message(self, value: IncomingMessage | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._raw = value

    def read_headers(self) -> Headers:
        delivery = self.delivery
        headers = headers_of(delivery.headers, delivery.content_type)
        self._tell()
        return headers

    @property
    def content_type(self) -> str | None:
        return self.delivery.content_type

    def read_correlation_id(self) -> str | None:
        return self.delivery.values.get("correlation_id")

    @property
    def message_id(self) -> str:
        """The AMQP property `message_id`; the correlation id where the publisher gave none."""
        return self.delivery.values.get("message_id") or self.correlation_id

    @property
    def reply_to(self) -> str | None:
        return self.delivery.reply_to

    @property
    def size(self) -> int:
        return len(self.body) + len(self.delivery.head)

    @property
    def exchange(self) -> str:
        """The exchange that the message was published to; empty for the default exchange."""
        return self.delivery.exchange

    @property
    def routing_key(self) -> str:
        """The routing key that the message was published with."""
        return self.delivery.routing_key

    def is_copy_of(self, other: StreamMessage) -> bool:
        # Nothing that RabbitMQ itself says tells two messages apart; what a lost channel held looks the same again.
        return (
            isinstance(other, RabbitMessage)
            and other.delivery.channel is not self.delivery.channel
            and (other.queue, other.exchange, other.routing_key) == (self.queue, self.exchange, self.routing_key)
            and other.body == self.body
        )


def _attempt(delivery: Delivery, counted: bool) -> int:
    """Return the number of this delivery of a message that was delivered before.

    Only a quorum queue counts, and sets the header whatever the publisher wrote there. Of any other queue it is the
    second one at least.
    """
    count = delivery.number_of_broker("x-delivery-count") if counted else None
    return count + 1 if count is not None and count > 0 else 2
