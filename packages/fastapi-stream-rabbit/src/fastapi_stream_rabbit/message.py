"""One message from a queue."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any

from aio_pika import IncomingMessage
from aiormq import spec
from aiormq.abc import DeliveredMessage
from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import StreamMessage

from .delivery import Delivery
from .wire import headers_of

__all__ = ("RabbitMessage",)


class RabbitMessage(StreamMessage):
    """One message from a queue.

    Headers are the AMQP headers as text; content type, ids and reply address are AMQP properties.

    Attributes:
        delivery: what RabbitMQ sent.
        queue: the queue that it came from.
        tag: number of the delivery on its channel.
    """

    __slots__ = ("_raw", "delivery", "queue", "tag")

    _raw: IncomingMessage | None

    def __init__(self, delivery: Delivery, queue: str) -> None:
        self.delivery = delivery
        self.queue = queue
        self.tag = delivery.tag
        redelivered = delivery.redelivered
        attempt = _attempt(delivery) if redelivered else 1
        super().__init__(delivery.body, None, delivery.routing_key or queue, None, redelivered, attempt)

    @property
    def delivered(self) -> DeliveredMessage:
        """The message as the client library gives it to a consumer; made when it is asked for."""
        return self.delivery.delivered

    @property
    def properties(self) -> spec.Basic.Properties:
        """The AMQP properties; none when they can't be read, which is logged."""
        properties, error = self.delivery.properties, self.delivery.take_error()
        if error is not None and self.subscription is not None:
            report = self.subscription.broker.report
            report.count("unreadable")
            report.line(logging.WARNING, "%s: the properties of a message can't be read: %r", self.queue, error)
        return properties

    @property
    def raw_message(self) -> IncomingMessage:
        """The message as an `aio_pika.IncomingMessage`, made when it is asked for.

        It is for reading: its own `ack()` raises, settle the `RabbitMessage`.
        """
        if self._raw is None:
            # Settled twice, RabbitMQ would close the channel: this object does not settle.
            self._raw = IncomingMessage(self.delivered, no_ack=True)
        return self._raw

    @raw_message.setter
    def raw_message(self, value: IncomingMessage | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._raw = value

    def read_headers(self) -> Headers:
        return headers_of(self.properties)

    @property
    def content_type(self) -> str | None:
        return self.delivery.content_type

    def read_correlation_id(self) -> str | None:
        return self.properties.correlation_id

    @property
    def message_id(self) -> str:
        """The AMQP property `message_id`; the correlation id where the publisher gave none."""
        return self.properties.message_id or self.correlation_id

    @property
    def reply_to(self) -> str | None:
        return self.delivery.reply_to

    @property
    def exchange(self) -> str:
        """The exchange that the message was published to; empty for the default exchange."""
        return self.delivery.exchange

    @property
    def routing_key(self) -> str:
        """The routing key that the message was published with."""
        return self.delivery.routing_key

    @property
    def identity(self) -> Hashable:
        known = self.properties.message_id
        return None if known is None else (self.queue, known)


def _attempt(delivery: Delivery) -> int:
    """Return the number of this delivery as a quorum queue counts them; other queues do not count."""
    headers: dict[str, Any] = delivery.properties.headers or {}
    count = headers.get("x-delivery-count")
    return count + 1 if isinstance(count, int) else 1
