"""Where results go on RabbitMQ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from fastapi_stream_core.address import refuse_parameters
from fastapi_stream_core.asyncapi.description import ChannelDescription
from fastapi_stream_core.headers import HeaderInput
from fastapi_stream_core.options import check_given, declared
from fastapi_stream_core.publisher import Publisher
from fastapi_stream_core.response import Response
from typing_extensions import Unpack

from .options import PUBLISH, MessageOptions, PublishOptions, RabbitPublisherOptions
from .response import RabbitResponse
from .schema import ExchangeType, RabbitExchange, RabbitQueue, exchange_of, queue_routing, routing_of

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing

    from .broker import RabbitBroker
    from .declaration import RabbitDeclarations

__all__ = ("RabbitPublisher",)

DESCRIBED = (ExchangeType.DIRECT, ExchangeType.FANOUT, ExchangeType.TOPIC, ExchangeType.HEADERS)
"""The types of exchanges that the AMQP binding of AsyncAPI knows."""


class RabbitPublisher(Publisher):
    """One publisher to an exchange; without one to a queue.

    Its exchange is declared when the broker starts, its queue is not: that is up to who consumes it.

    Attributes:
        exchange: where messages go.
    """

    declaration = RabbitPublisherOptions
    sent_options = tuple(declared(MessageOptions))
    response_type = RabbitResponse

    def __init__(
        self,
        home: RabbitDeclarations,
        queue: str | RabbitQueue,
        exchange: str | RabbitExchange | None,
        options: Mapping[str, Any],
    ) -> None:
        self.exchange = exchange_of(exchange)
        super().__init__(home, routing_of(queue, self.exchange, options.get("routing_key", ""), "publisher"), options)
        refuse_parameters(self.address)
        self._fixed["exchange"] = self.exchange

    def outgoing(self, response: Response, body: bytes, content_type: str | None, correlation_id: str) -> Outgoing:
        return super().outgoing(response, body, self.options["content_type"] or content_type, correlation_id)

    async def publish(
        self,
        message: Any = None,
        queue: str | RabbitQueue = "",
        exchange: str | RabbitExchange | None = None,
        *,
        routing_key: str = "",
        headers: HeaderInput | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        **options: Unpack[PublishOptions],
    ) -> Any:
        """Publish a value as `RabbitBroker.publish()` does, with the publisher's options below those that are given."""
        if options:
            check_given(PublishOptions, options, "publish()", PUBLISH)
        given: dict[str, Any] = dict(options)
        if exchange is not None:
            given["exchange"] = exchange_of(exchange, declare=False)
        content_type = given.pop("content_type", None)
        if content_type is not None:
            message = message if isinstance(message, Response) else Response(message)
            message = Response(
                message.body,
                headers=message.headers,
                correlation_id=message.correlation_id,
                content_type=content_type,
                options=message.options,
            )
        return await self.send(
            message,
            address=queue_routing(queue, given.get("exchange", self.exchange), routing_key) or self.address,
            headers=headers,
            correlation_id=correlation_id,
            reply_to=reply_to,
            options={name: value for name, value in given.items() if value is not None},
        )

    def describe(self) -> list[ChannelDescription]:
        exchange, options = self.exchange, self.options
        vhost = cast("RabbitBroker", self.broker).virtualhost
        amqp: dict[str, Any]
        if exchange.is_default:
            amqp = {"is": "queue", "queue": {"name": self.address, "vhost": vhost}, "bindingVersion": "0.3.0"}
        else:
            described: dict[str, Any] = {
                "name": exchange.name,
                "durable": exchange.durable,
                "autoDelete": exchange.auto_delete,
                "vhost": vhost,
            }
            if exchange.type in DESCRIBED:
                described["type"] = exchange.type.value
            else:
                described["x-type"] = exchange.type.value
            amqp = {"is": "routingKey", "exchange": described, "bindingVersion": "0.3.0"}
        operation: dict[str, Any] = {
            "deliveryMode": 2 if options["persist"] else 1,
            "mandatory": options["mandatory"],
            "bindingVersion": "0.3.0",
        }
        if options["priority"] is not None:
            operation["priority"] = options["priority"]
        message: dict[str, Any] = {"bindingVersion": "0.3.0"}
        if options["content_encoding"]:
            message["contentEncoding"] = options["content_encoding"]
        if options["message_type"]:
            message["messageType"] = options["message_type"]
        name = self.address or exchange.name
        return [
            ChannelDescription(
                name,
                name,
                kind="" if exchange.is_default else exchange.name,
                channel_bindings={"amqp": amqp},
                operation_bindings={"amqp": operation},
                message_bindings={"amqp": message} if len(message) > 1 else {},
            )
        ]
