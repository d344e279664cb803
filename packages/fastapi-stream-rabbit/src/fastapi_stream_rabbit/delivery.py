"""One delivery of RabbitMQ: what is needed is read at once, everything else when it is asked for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from aiormq import spec
from aiormq.abc import DeliveredMessage
from pamqp.header import ContentHeader

from .foreign import text_of

if TYPE_CHECKING:
    import aiormq

__all__ = ("Delivery",)

CONTENT_TYPE = 0x80
REPLY_TO = 0x02
"""Bits of the first octet of the flags that say which properties a message has."""
MORE_FLAGS = 0x01
"""Bit of the second octet: there are more flags than AMQP 0-9-1 has properties."""


class Delivery:
    """One delivery.

    Attributes:
        consumer: tag of the consumer that it is for.
        tag: number of the delivery on its channel.
        redelivered: whether RabbitMQ delivered the message before.
        exchange: the exchange that the message was published to; empty for the default exchange.
        routing_key: the routing key that it was published with.
        head: the content header as it came.
        body: the body.
        channel: where it came from.
    """

    __slots__ = (
        "_delivered",
        "_error",
        "_header",
        "body",
        "channel",
        "consumer",
        "exchange",
        "head",
        "redelivered",
        "routing_key",
        "tag",
    )

    def __init__(self, consumer: str, tag: int, redelivered: bool, route: tuple[str, str], channel: Any = None) -> None:
        self.consumer = consumer
        self.tag = tag
        self.redelivered = redelivered
        self.exchange, self.routing_key = route
        self.channel: aiormq.Channel | None = channel
        self.head = b""
        self.body = b""
        self._header: ContentHeader | None = None
        self._delivered: DeliveredMessage | None = None
        self._error: Exception | None = None

    @classmethod
    def of(cls, delivered: DeliveredMessage) -> Delivery:
        """Return the delivery that the client library read itself."""
        frame: Any = delivered.delivery
        route = (frame.exchange or "", frame.routing_key or "")
        delivery = cls(frame.consumer_tag, frame.delivery_tag, frame.redelivered, route, delivered.channel)
        delivery.body = delivered.body
        delivery._header = delivered.header
        delivery._delivered = delivered
        return delivery

    @property
    def header(self) -> ContentHeader:
        """The content header; without properties when the client library can't read them."""
        if self._header is None:
            header = ContentHeader()
            try:
                header.unmarshal(self.head)
            except (ValueError, TypeError, LookupError, OverflowError, RecursionError, struct.error) as error:
                # Raised here it would end the connection, and the next one with the same message.
                header.properties = spec.Basic.Properties()
                self._error = error
            self._header = header
        return self._header

    def take_error(self) -> Exception | None:
        """Return once why there are no properties."""
        error, self._error = self._error, None
        return error

    @property
    def properties(self) -> spec.Basic.Properties:
        """The AMQP properties."""
        return self.header.properties

    @property
    def content_type(self) -> str | None:
        """The AMQP property `content_type`."""
        head = self.head
        if len(head) < 15 or head[13] & MORE_FLAGS:
            return self.properties.content_type
        return text_of(head[15 : 15 + head[14]]) if head[12] & CONTENT_TYPE else None

    @property
    def reply_to(self) -> str | None:
        """The AMQP property `reply_to`."""
        head = self.head
        if len(head) > 13 and not (head[12] & REPLY_TO or head[13] & MORE_FLAGS):
            return None
        return self.properties.reply_to

    @property
    def delivered(self) -> DeliveredMessage:
        """The message as the client library gives it to a consumer."""
        if self._delivered is None:
            frame = spec.Basic.Deliver(
                consumer_tag=self.consumer,
                delivery_tag=self.tag,
                redelivered=self.redelivered,
                exchange=self.exchange,
                routing_key=self.routing_key,
            )
            channel: Any = self.channel
            self._delivered = DeliveredMessage(delivery=frame, header=self.header, body=self.body, channel=channel)
        return self._delivered
