"""Queues, exchanges and channels, as a user describes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Final

from fastapi_stream_core.address import Template
from fastapi_stream_core.errors import SetupError

__all__ = ("DEFAULT_EXCHANGE", "Channel", "ExchangeType", "QueueType", "RabbitExchange", "RabbitQueue")


SHORT = 255
"""Bytes of an AMQP short string: a name, a routing key, every property and every header's name."""
NAME = re.compile(r"[a-zA-Z0-9\-_.:@#,/+ ]*")
"""What the client library takes as a name."""


class ExchangeType(str, Enum):
    """How an exchange routes; the last three need a plugin of RabbitMQ."""

    DIRECT = "direct"
    FANOUT = "fanout"
    TOPIC = "topic"
    HEADERS = "headers"
    X_DELAYED_MESSAGE = "x-delayed-message"
    X_CONSISTENT_HASH = "x-consistent-hash"
    X_MODULUS_HASH = "x-modulus-hash"


class QueueType(str, Enum):
    """What a queue is made of: one node, a quorum of nodes, or a log."""

    CLASSIC = "classic"
    QUORUM = "quorum"
    STREAM = "stream"


def _check_name(subject: str, name: str) -> None:
    if len(name) > SHORT or not NAME.fullmatch(name):
        raise SetupError(
            f"{subject}({name[:40]!r})",
            "the client library takes at most 255 letters, digits, blanks and any of -_.:@#,/+ as a name",
            "use another name; parameters such as {level} belong into routing_key",
        )


@dataclass(frozen=True, kw_only=True)
class _Declared:
    """What queues and exchanges have in common.

    Attributes:
        declare: declare it if it does not exist; False only checks that it is there.
        auto_delete: whether RabbitMQ deletes it when its last user is gone.
        arguments: RabbitMQ's optional arguments (`x-message-ttl`, ...).
        bind_arguments: arguments of the binding, for a headers exchange what has to match.
        routing_key: key of the binding.
    """

    declare: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] | None = None
    bind_arguments: Mapping[str, Any] | None = None
    routing_key: str = ""


@dataclass(frozen=True)
class RabbitQueue(_Declared):
    """One queue.

    RabbitMQ 4.3 refuses queues that are neither durable nor exclusive.

    Attributes:
        name: its name.
        queue_type: classic by default; quorum and stream are always durable.
        durable: whether it survives a restart of RabbitMQ.
        exclusive: whether only this connection may use it; RabbitMQ deletes it with the connection.
        routing_key: key of the binding to the subscriber's exchange; by default the queue's name. In
            `"logs.{level}"` each parameter stands for one word: bound as `logs.*`, and a value of the path.

    Raises:
        SetupError: the name is empty, or a quorum queue or stream should not be durable.
    """

    name: str
    queue_type: QueueType = field(default=QueueType.CLASSIC, kw_only=True)
    durable: bool = field(default=True, kw_only=True)
    exclusive: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.name:
            raise SetupError("RabbitQueue", "the name is empty", 'name the queue: RabbitQueue("orders")')
        if not self.durable and self.queue_type is not QueueType.CLASSIC:
            raise SetupError(
                f"RabbitQueue({self.name!r})",
                f"a {self.queue_type.value} queue can't be durable=False",
                "leave durable out, or use QueueType.CLASSIC",
            )
        _check_name("RabbitQueue", self.name)
        if len(self.routing().encode()) > SHORT:
            raise SetupError(
                f"RabbitQueue({self.name[:40]!r})", "its routing key has more than 255 bytes", "use a shorter one"
            )

    @cached_property
    def template(self) -> Template:
        """The routing key as an address template; that of the name has no parameters."""
        return Template(self.routing_key)

    def routing(self) -> str:
        """Return the routing key of its binding, and of what is published to it."""
        return self.template.wildcard() if self.routing_key else self.name

    def declared_arguments(self) -> dict[str, Any]:
        """Return the arguments of its declaration, the type among them: a virtual host may have another default."""
        return {"x-queue-type": self.queue_type.value, **(self.arguments or {})}

    def __hash__(self) -> int:
        return hash((self.name, self.routing_key))


@dataclass(frozen=True)
class RabbitExchange(_Declared):
    """One exchange; without a name the default exchange, which routes to the queue that the routing key names.

    Attributes:
        name: its name.
        type: how it routes.
        durable: whether it survives a restart of RabbitMQ.
        bind_to: an exchange that passes messages on to this one.
        routing_key: key of the binding to `bind_to`.

    Raises:
        SetupError: a routing key is given without `bind_to`.
    """

    name: str = ""
    type: ExchangeType = field(default=ExchangeType.DIRECT, kw_only=True)
    durable: bool = field(default=True, kw_only=True)
    bind_to: RabbitExchange | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_name("RabbitExchange", self.name)
        if self.bind_to is None and (self.routing_key or self.bind_arguments):
            raise SetupError(
                f"RabbitExchange({self.name!r})",
                "a routing key or bind_arguments without bind_to bind nothing",
                "add bind_to=RabbitExchange(...), or give the key to the queue or to publish()",
            )

    @property
    def is_default(self) -> bool:
        """Whether it is the default exchange."""
        return self.name in ("", "default")

    def __hash__(self) -> int:
        return hash(self.name)


DEFAULT_EXCHANGE: Final = RabbitExchange()


@dataclass(frozen=True)
class Channel:
    """How one AMQP channel is opened.

    Attributes:
        prefetch_count: messages that RabbitMQ delivers before the first of them is settled; by default as many as
            are handled at the same time (`max_workers`, 100 unless it is given).
        publisher_confirms: whether RabbitMQ confirms what is published. Without it `publish()` returns when the
            message is written to the socket, and nobody knows whether it arrived.
        on_return_raises: whether a `mandatory` message that no queue takes is an error; otherwise a logged warning.
    """

    prefetch_count: int | None = None
    publisher_confirms: bool = True
    on_return_raises: bool = False

    def __post_init__(self) -> None:
        if self.prefetch_count is not None and not 1 <= self.prefetch_count <= 65535:
            raise SetupError(
                "Channel", f"prefetch_count={self.prefetch_count} is not within 1 and 65535", "give another, or none"
            )
        if self.on_return_raises and not self.publisher_confirms:
            raise SetupError(
                "Channel",
                "on_return_raises needs publisher_confirms: without them nobody waits for the answer",
                "leave publisher_confirms out",
            )


def queue_of(given: str | RabbitQueue) -> RabbitQueue:
    """Return a queue by name or object."""
    return given if isinstance(given, RabbitQueue) else RabbitQueue(given)


def exchange_of(given: str | RabbitExchange | None, *, declare: bool = True) -> RabbitExchange:
    """Return an exchange by name or object; none is the default exchange.

    Args:
        given: the name, of a direct exchange if it is to be declared, or the object.
        declare: whether an exchange by name is declared, or only has to be there.
    """
    if given is None:
        return DEFAULT_EXCHANGE
    return given if isinstance(given, RabbitExchange) else RabbitExchange(given, declare=declare)


def queue_routing(queue: str | RabbitQueue) -> str:
    """Return the routing key of what is published to a queue by name or object."""
    return queue.routing() if isinstance(queue, RabbitQueue) else queue


def routing_of(queue: str | RabbitQueue, exchange: RabbitExchange, routing_key: str, subject: str) -> str:
    """Return the routing key of a message for a queue, or with a key of its own.

    Raises:
        SetupError: neither is given, and the default exchange could only guess.
    """
    key = routing_key or queue_routing(queue)
    if not key and exchange.is_default:
        raise SetupError(subject, "neither a queue nor an exchange is named", 'say where to: publisher("invoices")')
    return key
