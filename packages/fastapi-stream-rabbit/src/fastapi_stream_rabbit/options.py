"""Options of the RabbitMQ package, each declared once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeAlias

from annotated_types import Ge, Le
from fastapi_stream_core.options import BrokerOptions, Option, PublisherOptions, SubscriberOptions
from fastapi_stream_core.quantity import Name, Seconds
from fastapi_stream_core.router import RouterOptions
from typing_extensions import TypedDict

from .schema import Channel, RabbitExchange

__all__ = (
    "PUBLISH",
    "MessageOptions",
    "PublishOptions",
    "RabbitBrokerOptions",
    "RabbitPublisherOptions",
    "RabbitRouterOptions",
    "RabbitSubscriberOptions",
    "ResponseOptions",
)

Port: TypeAlias = Annotated[int, Ge(1), Le(65535)]
Heartbeat: TypeAlias = Annotated[int, Ge(1), Le(65535)]
Priority: TypeAlias = Annotated[int, Ge(0), Le(255)]
FromNow: TypeAlias = Annotated[float, Ge(0), Le(4_294_967)]  # in milliseconds 32 bits
Epoch: TypeAlias = Annotated[float, Ge(0), Le(253_402_300_799)]  # the end of the year 9999


class RabbitBrokerOptions(BrokerOptions, total=False):
    """Options of a broker on RabbitMQ."""

    host: Annotated[Name | None, Option(None, "host; over that of the URL")]
    port: Annotated[Port | None, Option(None, "port; over that of the URL")]
    virtualhost: Annotated[Name | None, Option(None, "virtual host; over the path of the URL")]
    ssl_options: Annotated[
        Mapping[str, Any] | None,
        Option(None, "files for TLS: `cafile`, `capath`, `cadata`, `certfile`, `keyfile`, `no_verify_ssl` (aio-pika)"),
    ]
    client_properties: Annotated[
        Mapping[str, Any] | None,
        Option(None, "what RabbitMQ shows of the connection, such as `connection_name` and `product`"),
    ]
    heartbeat: Annotated[
        Heartbeat | None,
        Option(None, "seconds between heartbeats; None is that of the URL, or 20: a dead peer is noticed within 63"),
    ]
    timeout: Annotated[Seconds, Option(5.0, "seconds that one attempt to connect may take")]
    default_channel: Annotated[
        Channel | None,
        Option(None, "how the channel for publishing is opened, and those of subscribers without their own"),
    ]
    app_id: Annotated[Name | None, Option("fastapi-stream", "`app_id` of published messages; None sends none")]


class RabbitRouterOptions(RabbitBrokerOptions, RouterOptions, total=False):
    """Options of a router on RabbitMQ."""


class RabbitSubscriberOptions(SubscriberOptions, total=False):
    """Options of a subscriber of a queue."""

    channel: Annotated[
        Channel | None, Option(None, "how its channel is opened; None is the broker's `default_channel`")
    ]
    consume_args: Annotated[
        Mapping[str, Any] | None, Option(None, "RabbitMQ's arguments of `basic.consume`, such as `x-stream-offset`")
    ]


class MessageOptions(TypedDict, total=False):
    """Options of one message, the same for `publish()`, publishers and responses."""

    mandatory: Annotated[
        bool,
        Option(
            True,
            "have RabbitMQ say when no queue takes the message: a logged warning, or an error (`on_return_raises`)",
        ),
    ]
    persist: Annotated[bool, Option(True, "write the message to disk, so that it survives a restart of RabbitMQ")]
    priority: Annotated[Priority | None, Option(None, "0 to 255, for queues with `x-max-priority`")]
    expiration: Annotated[
        FromNow | timedelta | datetime | None,
        Option(None, "when RabbitMQ drops the message: seconds from now, or a time"),
    ]
    content_encoding: Annotated[Name | None, Option(None, "AMQP property `content_encoding`")]
    timestamp: Annotated[
        datetime | Epoch | None,
        Option(None, "AMQP property `timestamp`: a time, or seconds since 1970 (UTC); None is now"),
    ]
    message_type: Annotated[Name | None, Option(None, "AMQP property `type`")]
    user_id: Annotated[
        Name | None, Option(None, "AMQP property `user_id`; RabbitMQ refuses another than the connection's")
    ]
    timeout: Annotated[Seconds | None, Option(None, "seconds to wait for the confirmation; None is `publish_timeout`")]


class RabbitPublisherOptions(PublisherOptions, MessageOptions, total=False):
    """Options of a publisher."""

    routing_key: Annotated[str, Option("", "routing key; by default that of the queue")]
    content_type: Annotated[
        Name | None, Option(None, "AMQP property `content_type`; None is what the body's type gives")
    ]


PUBLISH = ("message", "queue", "exchange", "routing_key", "headers", "correlation_id", "reply_to")
"""What `publish()` takes besides its options."""


class PublishOptions(MessageOptions, total=False):
    """Options of one call of `publish()`; by default those of the publisher."""

    message_id: Annotated[Name | None, Option(None, "AMQP property `message_id`; None is a new one")]
    content_type: Annotated[
        Name | None, Option(None, "AMQP property `content_type`; None is what the body's type gives")
    ]


class ResponseOptions(MessageOptions, total=False):
    """Options of one response; by default those of the publisher that sends it."""

    message_id: Annotated[Name | None, Option(None, "AMQP property `message_id`; None is a new one")]
    exchange: Annotated[str | RabbitExchange | None, Option(None, "exchange; by default the publisher's")]
