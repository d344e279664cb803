"""Options of the Redis package, each declared once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from annotated_types import Ge, Le
from fastapi_stream_core.options import BrokerOptions, Option, PublisherOptions, SubscriberOptions
from fastapi_stream_core.quantity import Amount, Count, Name, Seconds, Size
from fastapi_stream_core.router import RouterOptions
from typing_extensions import TypedDict

__all__ = (
    "PUBLISH",
    "PublishOptions",
    "RedisBrokerOptions",
    "RedisPublisherOptions",
    "RedisRouterOptions",
    "RedisSubscriberOptions",
)


class RedisBrokerOptions(BrokerOptions, total=False):
    """Options of a broker on Redis."""

    host: Annotated[Name | None, Option(None, "host; over that of the URL")]
    port: Annotated[Annotated[int, Ge(1), Le(65535)] | None, Option(None, "port; over that of the URL")]
    db: Annotated[Amount | None, Option(None, "number of the database; over that of the URL")]
    client_name: Annotated[Name | None, Option(None, "name of the connections in `CLIENT LIST`")]
    socket_connect_timeout: Annotated[Seconds, Option(5.0, "seconds that one attempt to connect may take")]
    socket_timeout: Annotated[
        Seconds,
        Option(3.0, "seconds without an answer after which a connection is given up, on top of what a command waits"),
    ]
    socket_read_size: Annotated[Count, Option(65536, "bytes read from a socket at once (redis-py)")]
    socket_keepalive: Annotated[bool, Option(True, "TCP keepalive on every connection")]
    socket_keepalive_options: Annotated[
        Mapping[int, int | bytes] | None, Option(None, "options of TCP keepalive; None leaves them to redis-py")
    ]
    message_format: Annotated[
        Literal["binary", "raw"],
        Option("binary", "how messages are written: in an envelope with headers, or as bare bodies; all are read"),
    ]


class RedisRouterOptions(RedisBrokerOptions, RouterOptions, total=False):
    """Options of a router on Redis."""


class RedisSubscriberOptions(SubscriberOptions, total=False):
    """Options of a subscriber of a channel, a list or a stream."""


PUBLISH = ("message", "channel", "list", "stream", "headers", "correlation_id", "reply_to")
"""What `publish()` takes besides its options."""


class PublishOptions(TypedDict, total=False):
    """Options of one message, the same for `publish()`, publishers and responses."""

    maxlen: Annotated[
        Size | None,
        Option(None, "for streams: Redis drops the oldest entries beyond about this many; None keeps all"),
    ]


class RedisPublisherOptions(PublisherOptions, PublishOptions, total=False):
    """Options of a publisher."""
