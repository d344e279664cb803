"""The options of this package, each declared once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, TypeAlias

from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.keywords import unknown_option
from fastapi_stream_core.option_type import show
from fastapi_stream_core.options import (
    BrokerOptions,
    Option,
    PublisherOptions,
    SubscriberOptions,
)
from fastapi_stream_core.quantity import Amount, Count, Name, Pause, Seconds, Size, check_timeout
from fastapi_stream_core.router import RouterOptions
from nats.aio.subscription import DEFAULT_SUB_PENDING_BYTES_LIMIT, DEFAULT_SUB_PENDING_MSGS_LIMIT
from nats.js.api import ConsumerConfig, DeliverPolicy
from typing_extensions import TypedDict

from .schema import JStream, PullSub

__all__ = (
    "NatsBrokerOptions",
    "NatsPublisherOptions",
    "NatsRouterOptions",
    "NatsSubscriberOptions",
    "ResponseOptions",
    "checked_timeout",
    "stream_name",
)

Callback: TypeAlias = Callable[[], Awaitable[None]]
ErrorCallback: TypeAlias = Callable[[Exception], Awaitable[None]]


class NatsBrokerOptions(BrokerOptions, total=False):
    """Options of the connection."""

    name: Annotated[Name | None, Option(None, "name of the connection in the server's monitoring")]
    connect_timeout: Annotated[Seconds, Option(2.0, "seconds for one attempt to connect; nats-py's default")]
    reconnect_time_wait: Annotated[
        Pause,
        Option(0.5, "seconds between two attempts to reach a server that is away; nats-py's is 2"),
    ]
    ping_interval: Annotated[
        Seconds, Option(20.0, "seconds between pings, by which a dead connection is noticed; nats-py's is 120")
    ]
    max_outstanding_pings: Annotated[
        Count, Option(2, "pings without an answer after which the connection is given up; nats-py's default")
    ]
    dont_randomize: Annotated[bool, Option(False, "try the servers in the order given; nats-py's default")]
    no_echo: Annotated[bool, Option(False, "do not receive what this connection publishes itself; nats-py's default")]
    tls_hostname: Annotated[Name | None, Option(None, "name in the server's certificate; None is the address's")]
    inbox_prefix: Annotated[Name, Option("_INBOX", "first part of the subjects for replies; nats-py's default")]
    max_control_line: Annotated[
        Count,
        Option(
            4096, "bytes of a line of the protocol, with subject and reply subject, that the server takes; its default"
        ),
    ]
    pending_size: Annotated[
        Size, Option(2 * 1024 * 1024, "bytes that wait to be sent before writing has to wait; nats-py's default")
    ]
    error_cb: Annotated[ErrorCallback | None, Option(None, "called with each error of the connection, also logged")]
    disconnected_cb: Annotated[Callback | None, Option(None, "called when the connection is lost")]
    reconnected_cb: Annotated[Callback | None, Option(None, "called when the connection is there again")]
    discovered_server_cb: Annotated[Callback | None, Option(None, "called when a server joined the cluster")]
    closed_cb: Annotated[Callback | None, Option(None, "called when the connection is closed for good")]


class NatsRouterOptions(NatsBrokerOptions, RouterOptions, total=False):
    """Options of the router: those of the broker and those of `APIRouter`."""


class NatsSubscriberOptions(SubscriberOptions, total=False):
    """Options of a subscriber."""

    stream: Annotated[
        JStream | str | None, Option(None, "read a JetStream stream, at least once; None is NATS core, at most once")
    ]
    durable: Annotated[
        Name | None,
        Option(
            None, "name of the stream's consumer, which goes on where it was; None is `queue`, or a consumer of its own"
        ),
    ]
    pull_sub: Annotated[bool | PullSub, Option(False, "ask the stream for messages instead of having them pushed")]
    config: Annotated[
        ConsumerConfig | None,
        Option(
            None,
            "further configuration of the consumer; one that exists is changed where the server allows it, but begins"
            " nowhere else; `max_deliver` also bounds the attempts",
        ),
    ]
    deliver_policy: Annotated[
        DeliverPolicy | None, Option(None, "where a new consumer begins; None is that of `config`, or all messages")
    ]
    pending_msgs_limit: Annotated[
        Amount,
        Option(
            DEFAULT_SUB_PENDING_MSGS_LIMIT,
            "NATS core: most messages that wait here; more are dropped with a warning; 0: no limit; nats-py's default",
        ),
    ]
    pending_bytes_limit: Annotated[
        Amount,
        Option(
            DEFAULT_SUB_PENDING_BYTES_LIMIT,
            "NATS core: most bytes that wait here, next to the `prefetch_bytes` that are handed on; more are dropped"
            " with a warning; 0: no limit; nats-py's default",
        ),
    ]


class NatsPublisherOptions(PublisherOptions, total=False):
    """Options of a publisher."""

    stream: Annotated[
        JStream | str | None,
        Option(None, "the JetStream stream that stores and confirms the messages; None is NATS core"),
    ]
    timeout: Annotated[Seconds | None, Option(None, "seconds to wait for a confirmation; None is `publish_timeout`")]


class ResponseOptions(TypedDict, total=False):
    """Options of one message that a handler returns."""

    stream: Annotated[
        JStream | str | None,
        Option(None, "the stream that has to store and confirm the message; None is the publisher's"),
    ]


PUBLISHED_WITH = ("correlation_id", "headers", "message", "reply_to", "stream", "subject", "timeout")


def refuse_unknown(options: Mapping[str, object]) -> None:
    """Refuse what `publish()` has no name for.

    Raises:
        SetupError: there is something.
    """
    for name in options:
        raise unknown_option(name, dict.fromkeys(PUBLISHED_WITH), "publish()")


def checked_timeout(timeout: float | None) -> float | None:
    """Return the seconds that one publication may take.

    Raises:
        SetupError: there are none.
    """
    if timeout is not None:
        check_timeout("publish()", timeout, "give more than 0, or None for publish_timeout")
    return timeout


def stream_name(stream: JStream | str | None) -> str | None:
    """Return the name of the stream that one message is for.

    Raises:
        SetupError: it is none.
    """
    if isinstance(stream, JStream):
        return stream.name
    if stream is not None and (not isinstance(stream, str) or not stream):
        raise SetupError("publish()", f"stream={show(stream)} names no stream", "give its name, or the JStream")
    return stream
