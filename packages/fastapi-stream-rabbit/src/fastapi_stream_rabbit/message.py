"""One message from a queue."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from fastapi_stream_core.headers import Headers
from fastapi_stream_core.message import StreamMessage

from .wire import headers_of

__all__ = ("RabbitMessage",)


class RabbitMessage(StreamMessage):
    """One message from a queue.

    Headers are the AMQP headers as text; content type, ids and reply address are AMQP properties.

    Attributes:
        delivered: the message of the wire.
        queue: the queue that it came from.
        tag: number of the delivery on its channel.
    """

    __slots__ = ("_raw", "delivered", "queue", "tag")

    delivered: DeliveredMessage
    _raw: IncomingMessage | None

    def __init__(self, delivered: DeliveredMessage, queue: str) -> None:
        delivery: Any = delivered.delivery
        self.delivered = delivered
        self.queue = queue
        self.tag: int = delivery.delivery_tag
        super().__init__(delivered.body, None, delivery.routing_key or queue, redelivered=delivery.redelivered)
        if self.redelivered and delivered.header.properties.headers:
            self.attempt = _deliveries(delivered.header.properties.headers)

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
        return headers_of(self.delivered.header.properties)

    @property
    def content_type(self) -> str | None:
        return self.delivered.header.properties.content_type

    def read_correlation_id(self) -> str | None:
        return self.delivered.header.properties.correlation_id

    @property
    def message_id(self) -> str:
        """The AMQP property `message_id`; the correlation id where the publisher gave none."""
        return self.delivered.header.properties.message_id or self.correlation_id

    @property
    def reply_to(self) -> str | None:
        return self.delivered.header.properties.reply_to

    @property
    def exchange(self) -> str:
        """The exchange that the message was published to; empty for the default exchange."""
        return self.delivered.exchange or ""

    @property
    def routing_key(self) -> str:
        """The routing key that the message was published with."""
        return self.delivered.routing_key or ""

    @property
    def identity(self) -> Hashable:
        known = self.delivered.header.properties.message_id
        return None if known is None else (self.queue, known)


def _deliveries(headers: dict[str, Any]) -> int:
    """Return the number of this delivery as a quorum queue counts them; other queues do not count."""
    count = headers.get("x-delivery-count")
    return count + 1 if isinstance(count, int) else 1
