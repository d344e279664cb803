"""One subscriber of a queue."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from fastapi_stream_core.asyncapi.description import ChannelDescription
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.subscription import Subscription

from .message import RabbitMessage
from .options import RabbitSubscriberOptions
from .schema import WORDS, Channel, ExchangeType, RabbitExchange, RabbitQueue, check_arguments, exchange_of, queue_of

if TYPE_CHECKING:
    from .broker import RabbitBroker
    from .declaration import RabbitDeclarations

__all__ = ("RabbitSubscription",)

UNROUTED = (ExchangeType.FANOUT, ExchangeType.HEADERS)
"""Exchanges that do not look at the routing key."""


class RabbitSubscription(Subscription):
    """One subscriber of a queue, which competes with every other consumer of the same queue.

    Attributes:
        queue: the queue.
        exchange: the exchange that the queue is bound to.
    """

    declaration = RabbitSubscriberOptions
    message_type = RabbitMessage
    default_workers = 100

    def __init__(
        self,
        home: RabbitDeclarations,
        queue: str | RabbitQueue,
        exchange: str | RabbitExchange | None,
        options: Mapping[str, Any],
    ) -> None:
        self.queue = queue_of(queue)
        self.exchange = exchange_of(exchange)
        super().__init__(home, (self.queue.name,), options)
        check_arguments(self.label, "consume_args", self.options["consume_args"])
        self._refuse_what_has_no_effect()

    def _refuse_what_has_no_effect(self) -> None:
        queue, exchange, channel = self.queue, self.exchange, self.options["channel"]
        if exchange.is_default and (queue.bind_arguments or queue.routing_key not in ("", queue.name)):
            raise SetupError(
                self.label,
                "the queue's routing_key and bind_arguments bind it to an exchange, and there is none",
                "give exchange=RabbitExchange(...), or leave them out",
            )
        if queue.template.names and exchange.declare and exchange.type is ExchangeType.DIRECT:
            raise SetupError(
                self.label,
                f"the routing key {queue.routing_key!r} has parameters, and a direct exchange such as {exchange.name!r}"
                " compares keys as they are",
                "make it RabbitExchange(..., type=ExchangeType.TOPIC)",
            )
        if channel is not None and (channel.on_return_raises or not channel.publisher_confirms):
            raise SetupError(
                self.label,
                "on_return_raises and publisher_confirms are of publications, and its channel only consumes",
                "give them in default_channel of the broker",
            )

    @property
    def channel(self) -> Channel:
        """How the channel is opened."""
        broker = cast("RabbitBroker", self.broker)
        return self.options["channel"] or broker.options["default_channel"] or Channel()

    @property
    def max_workers(self) -> int:
        return self.options["max_workers"] or self.channel.prefetch_count or self.default_workers

    @property
    def prefetch_count(self) -> int:
        """Messages that RabbitMQ delivers before the first of them is settled."""
        return self.channel.prefetch_count or min(self.max_workers, 65535)

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        return self.queue.template.names

    def capture(self, address: str) -> dict[str, str]:
        return self.queue.template.match(address)

    def describe(self) -> list[ChannelDescription]:
        queue, exchange = self.queue, self.exchange
        vhost = cast("RabbitBroker", self.broker).virtualhost
        extensions: dict[str, Any] = {}
        address: str | None = queue.name
        if not exchange.is_default:
            extensions = {"x-exchange": exchange.name, "x-exchange-type": exchange.type.value}
            if exchange.type not in UNROUTED:
                address = queue.template.text or queue.name
                if not queue.template.names and any(word in WORDS for word in address.split(".")):
                    address, extensions["x-pattern"] = None, address
        amqp = {
            "is": "queue",
            "queue": {
                "name": queue.name,
                "durable": queue.durable,
                "exclusive": queue.exclusive,
                "autoDelete": queue.auto_delete,
                "vhost": vhost,
            },
            "bindingVersion": "0.3.0",
        }
        return [
            ChannelDescription(
                address,
                queue.name if address is None else address,
                kind="" if exchange.is_default else exchange.name,
                parameters=self.path_names,
                channel_bindings={"amqp": amqp},
                operation_bindings={"amqp": {"ack": True, "bindingVersion": "0.3.0"}},
                extensions=extensions,
            )
        ]
