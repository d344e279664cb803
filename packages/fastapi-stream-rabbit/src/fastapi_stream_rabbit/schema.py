"""Queues, exchanges and channels, as a user describes them."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cached_property
from typing import Any, Final, cast

from fastapi_stream_core.address import Template, Wildcard
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.keywords import check_keywords
from fastapi_stream_core.option_type import show
from pamqp.encode import field_table

from .table import NAME as NAME_BYTES
from .table import SHORT

__all__ = ("DEFAULT_EXCHANGE", "Channel", "ExchangeType", "QueueType", "RabbitExchange", "RabbitQueue")


EXCHANGE = 127
"""Characters that the client library takes as the name of an exchange."""
WORDS = {"*": Wildcard.ONE, "#": Wildcard.ANY}
"""The wildcards of a topic exchange."""
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


TYPE = "x-queue-type"
"""The argument that tells RabbitMQ the type of a queue."""
SINGLE_ACTIVE = "x-single-active-consumer"
"""The argument of a queue that RabbitMQ delivers to one of its consumers at a time."""
UNSAID = cast("QueueType", None)


def _check_name(subject: str, name: str, most: int) -> None:
    if len(name) > most or not NAME.fullmatch(name):
        raise SetupError(
            f"{subject}({name[:40]!r})",
            f"the client library takes at most {most} letters, digits, blanks and any of -_.:@#,/+ as a name",
            "use another name; parameters such as {level} belong into routing_key",
        )


def _check_types(declared: _Declared, **types: type) -> None:
    """Check the fields of a queue or an exchange, and take the text of an enum for its member.

    Raises:
        SetupError: one of them is of another type, or AMQP can't carry an argument.
    """
    subject = f"{type(declared).__name__}({show(getattr(declared, 'name', ''))})"
    types |= {"declare": bool, "auto_delete": bool, "routing_key": str, "arguments": Mapping, "bind_arguments": Mapping}
    for name, kind in types.items():
        value = getattr(declared, name)
        if isinstance(value, kind) or (value is None and kind in (Mapping, RabbitExchange)):
            continue
        if issubclass(kind, Enum):
            choices = [str(one.value) for one in kind]
            if value not in choices:
                raise SetupError(subject, f"{name}={show(value)} is none of {', '.join(choices)}", "use one of them")
            object.__setattr__(declared, name, kind(value))
        else:
            raise SetupError(subject, f"{name}={show(value)} is no {kind.__name__}", f"give a {kind.__name__}")
    for name in ("arguments", "bind_arguments"):
        check_arguments(subject, name, getattr(declared, name))


def check_arguments(subject: str, name: str, arguments: Mapping[str, Any] | None) -> None:
    """Check that the client library can write RabbitMQ's optional arguments.

    Raises:
        SetupError: it can't.
    """
    try:
        if any(len(key.encode()) > NAME_BYTES for key in arguments or ()):
            raise ValueError(f"a name has more than {NAME_BYTES} bytes")
        field_table(dict(arguments or {}))
    except (ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise SetupError(
            subject, f"AMQP can't carry {name} ({error})", "give texts, numbers, booleans, lists and dictionaries"
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Declared:
    """What queues and exchanges have in common.

    Attributes:
        declare: declare it if it does not exist; False only checks that it is there.
        auto_delete: whether RabbitMQ deletes it when its last user is gone.
        arguments: RabbitMQ's optional arguments (`x-message-ttl`, ...). `x-single-active-consumer` is to be given with
            `declare=False`, too: RabbitMQ does not tell, and the consumer of such a queue is never replaced.
        bind_arguments: arguments of the binding, for a headers exchange what has to match.
        routing_key: key of the binding.
    """

    declare: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] | None = None
    bind_arguments: Mapping[str, Any] | None = None
    routing_key: str = ""


@check_keywords
@dataclass(frozen=True)
class RabbitQueue(_Declared):
    """One queue.

    RabbitMQ 4.3 refuses queues that are neither durable nor exclusive.

    Attributes:
        name: its name.
        queue_type: that of the argument `x-queue-type`, classic by default; quorum and stream are always durable. With
            `declare=False` it is what RabbitMQ says.
        durable: whether it survives a restart of RabbitMQ.
        exclusive: whether only this connection may use it; RabbitMQ deletes it with the connection.
        routing_key: key of the binding to the subscriber's exchange; by default the queue's name. In
            `"logs.{level}"` each parameter stands for one word: bound as `logs.*`, and a value of the path.

    Raises:
        SetupError: the name is empty, a quorum queue or stream should not be durable, the argument `x-queue-type` is of
            no known type or contradicts `queue_type`, or `x-single-active-consumer` is no boolean.
    """

    name: str
    queue_type: QueueType = field(default=UNSAID, kw_only=True)
    durable: bool = field(default=True, kw_only=True)
    exclusive: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        said = self.queue_type is not UNSAID
        if not said:
            object.__setattr__(self, "queue_type", QueueType.CLASSIC)
        _check_types(self, name=str, queue_type=QueueType, durable=bool, exclusive=bool)
        self._take_type_of_arguments(said)
        single = (self.arguments or {}).get(SINGLE_ACTIVE, False)
        if not isinstance(single, bool):
            raise SetupError(
                f"RabbitQueue({self.name[:40]!r})",
                f"the argument {SINGLE_ACTIVE}={show(single)} is no boolean",
                "give True or False",
            )
        if not self.name:
            raise SetupError("RabbitQueue", "the name is empty", 'name the queue: RabbitQueue("orders")')
        if not self.durable and self.queue_type is not QueueType.CLASSIC:
            raise SetupError(
                f"RabbitQueue({self.name!r})",
                f"a {self.queue_type.value} queue can't be durable=False",
                "leave durable out, or use QueueType.CLASSIC",
            )
        _check_name("RabbitQueue", self.name, SHORT)
        if len(self.routing().encode()) > SHORT:
            raise SetupError(
                f"RabbitQueue({self.name[:40]!r})", "its routing key has more than 255 bytes", "use a shorter one"
            )

    def _take_type_of_arguments(self, said: bool) -> None:
        """Take the argument that RabbitMQ knows the type by for the type."""
        given = (self.arguments or {}).get(TYPE)
        if given is None:
            return
        subject, choices = f"RabbitQueue({self.name[:40]!r})", [one.value for one in QueueType]
        if given not in choices:
            raise SetupError(
                subject,
                f"the argument {TYPE}={show(given)} is none of {', '.join(choices)}",
                "use one of them, or declare the queue elsewhere and give declare=False",
            )
        if said and given != self.queue_type.value:
            raise SetupError(
                subject,
                f"the argument {TYPE}={show(given)} contradicts queue_type={self.queue_type.value!r}",
                "leave one of them out",
            )
        object.__setattr__(self, "queue_type", QueueType(given))

    @cached_property
    def has_single_active_consumer(self) -> bool:
        """Whether RabbitMQ delivers to one of its consumers at a time, as far as the arguments say."""
        return (self.arguments or {}).get(SINGLE_ACTIVE) is True

    @property
    def is_lasting(self) -> bool:
        """Whether this app declares it, and it is to outlive its consumers and their connection."""
        return self.declare and self.durable and not (self.exclusive or self.auto_delete)

    @cached_property
    def template(self) -> Template:
        """The routing key as an address template; that of the name has no parameters."""
        return Template(self.routing_key, WORDS)

    def routing(self) -> str:
        """Return the routing key of its binding, and of what is published to it."""
        return self.template.wildcard() if self.routing_key else self.name

    def declared_arguments(self) -> dict[str, Any]:
        """Return the arguments of its declaration, the type among them: a virtual host may have another default."""
        return {**(self.arguments or {}), TYPE: self.queue_type.value}

    def __hash__(self) -> int:
        return hash((self.name, self.routing_key))


@check_keywords
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
        SetupError: a routing key is given without `bind_to`, `bind_to` is the default exchange, or that one is given
            options.
    """

    name: str = ""
    type: ExchangeType = field(default=ExchangeType.DIRECT, kw_only=True)
    durable: bool = field(default=True, kw_only=True)
    bind_to: RabbitExchange | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_types(self, name=str, type=ExchangeType, durable=bool, bind_to=RabbitExchange)
        _check_name("RabbitExchange", self.name, EXCHANGE)
        if self.is_default:
            options = [one for one in fields(self) if one.name not in ("name", "declare")]
            given = [one.name for one in options if getattr(self, one.name) != one.default]
            if given:
                raise SetupError(
                    "RabbitExchange",
                    f"{', '.join(given)} without a name: the default exchange is RabbitMQ's own, and has no options",
                    "name the exchange",
                )
        if self.bind_to is not None and self.bind_to.is_default:
            raise SetupError(
                f"RabbitExchange({self.name!r})",
                "bind_to is the default exchange, and RabbitMQ binds nothing to that",
                "name the exchange in bind_to",
            )
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


@check_keywords
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
        count = self.prefetch_count
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 65535):
            raise SetupError(
                "Channel", f"prefetch_count={show(count)} is no whole number from 1 to 65535", "give another, or none"
            )
        for name in ("publisher_confirms", "on_return_raises"):
            if not isinstance(getattr(self, name), bool):
                raise SetupError("Channel", f"{name}={show(getattr(self, name))} is no bool", "give True or False")
        if self.on_return_raises and not self.publisher_confirms:
            raise SetupError(
                "Channel",
                "on_return_raises needs publisher_confirms: without them nobody waits for the answer",
                "leave publisher_confirms out",
            )


def queue_of(given: str | RabbitQueue) -> RabbitQueue:
    """Return a queue by name or object.

    Raises:
        SetupError: it is neither.
    """
    if isinstance(given, RabbitQueue):
        return given
    if not isinstance(given, str):
        raise SetupError("RabbitQueue", f"queue={show(given)} is neither a name nor a RabbitQueue", "give one of them")
    return RabbitQueue(given)


def exchange_of(given: str | RabbitExchange | None, *, declare: bool = True) -> RabbitExchange:
    """Return an exchange by name or object; none is the default exchange.

    Args:
        given: the name, of a direct exchange if it is to be declared, or the object.
        declare: whether an exchange by name is declared, or only has to be there.

    Raises:
        SetupError: it is neither.
    """
    if given is None:
        return DEFAULT_EXCHANGE
    if isinstance(given, RabbitExchange):
        return given
    if not isinstance(given, str):
        raise SetupError(
            "RabbitExchange", f"exchange={show(given)} is neither a name nor a RabbitExchange", "give one of them"
        )
    return RabbitExchange(given, declare=declare)


def queue_routing(queue: str | RabbitQueue, exchange: RabbitExchange, routing_key: str = "") -> str:
    """Return the routing key of what is published to a queue by name or object, unless it has a key of its own.

    Raises:
        SetupError: one of them is of another type, or the queue's own key has parameters.
    """
    if not isinstance(routing_key, str):
        raise SetupError("publish", f"routing_key={show(routing_key)} is no text", "give a text")
    if isinstance(queue, RabbitQueue):
        if not routing_key and not exchange.is_default and queue.template.names:
            raise SetupError(
                "publish",
                f"the routing key {queue.routing_key!r} of RabbitQueue({queue.name!r}) has parameters",
                "give routing_key= with what they stand for",
            )
        return routing_key or (queue.name if exchange.is_default else queue.routing())
    if not isinstance(queue, str):
        raise SetupError("publish", f"queue={show(queue)} is neither a name nor a RabbitQueue", "give one of them")
    return routing_key or queue


def routing_of(queue: str | RabbitQueue, exchange: RabbitExchange, routing_key: str, subject: str) -> str:
    """Return the routing key of a message for a queue, or with a key of its own.

    Raises:
        SetupError: neither is given, and the default exchange could only guess; or what `queue_routing` refuses.
    """
    key = queue_routing(queue, exchange, routing_key)
    if not key and exchange.is_default:
        raise SetupError(
            subject, "neither a queue nor an exchange is named", "name a queue, such as 'invoices', or an exchange"
        )
    return key
