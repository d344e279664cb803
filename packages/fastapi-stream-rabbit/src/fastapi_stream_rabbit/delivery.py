"""One delivery of RabbitMQ: what is needed is read at once, everything else when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiormq import spec
from aiormq.abc import DeliveredMessage
from pamqp.header import ContentHeader

from .properties import client_properties, read_properties
from .table import CutTable, find_integer, read_table, text_of

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
        "_headers",
        "_values",
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
        self._values: dict[str, Any] | None = None
        self._headers: dict[str, Any] | None = None
        self._delivered: DeliveredMessage | None = None
        self._error: str | None = None

    @classmethod
    def of(cls, delivered: DeliveredMessage) -> Delivery:
        """Return the delivery that the client library read itself."""
        frame: Any = delivered.delivery
        route = (frame.exchange or "", frame.routing_key or "")
        delivery = cls(frame.consumer_tag, frame.delivery_tag, frame.redelivered, route, delivered.channel)
        delivery.body = delivered.body
        properties = delivered.header.properties
        delivery._headers = properties.headers or {}
        values = {name: getattr(properties, name) for name in properties.__slots__}
        if isinstance(delivery._headers, CutTable):
            values["headers"] = delivery._headers.raw
        delivery._values = {name: value for name, value in values.items() if value is not None}
        delivery._delivered = delivered
        return delivery

    @property
    def values(self) -> dict[str, Any]:
        """The properties but the headers, by their names; without those that can't be read."""
        if self._values is None:
            self._values, self._error = read_properties(self.head)
        return self._values

    @property
    def headers(self) -> dict[str, Any]:
        """The headers; without those that can't be read."""
        if self._headers is None:
            self._headers, error = read_table(self.values.get("headers", b""))
            self._error = self._error or error
        return self._headers

    def number_of_broker(self, name: str) -> int | None:
        """Return a number that RabbitMQ itself puts into the headers; None when it did not.

        It sorts them by name, so that a sender's own ones may leave it behind those that are read.
        """
        value = self.headers.get(name)
        if value is None:
            raw = self.values.get("headers")
            value = find_integer(raw, name) if isinstance(raw, bytes) else None
            if value is not None:
                self.headers[name] = value
        return value if isinstance(value, int) else None

    def take_error(self) -> str | None:
        """Return once why something is missing."""
        error, self._error = self._error, None
        return error

    @property
    def properties(self) -> spec.Basic.Properties:
        """The AMQP properties, as the client library knows them."""
        return self.delivered.header.properties

    @property
    def content_type(self) -> str | None:
        """The AMQP property `content_type`."""
        head = self.head
        if len(head) < 15 or head[13] & MORE_FLAGS:
            return self.values.get("content_type")
        return text_of(head[15 : 15 + head[14]]) if head[12] & CONTENT_TYPE else None

    @property
    def reply_to(self) -> str | None:
        """The AMQP property `reply_to`."""
        head = self.head
        if len(head) > 13 and not (head[12] & REPLY_TO or head[13] & MORE_FLAGS):
            return None
        return self.values.get("reply_to") or None

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
            headers = self.headers if "headers" in self.values else None
            header = ContentHeader(0, len(self.body), client_properties(self.values, headers))
            channel: Any = self.channel
            self._delivered = DeliveredMessage(delivery=frame, header=header, body=self.body, channel=channel)
        return self._delivered
