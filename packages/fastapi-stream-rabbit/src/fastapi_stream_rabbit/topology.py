"""Declares queues, exchanges and bindings, and says in which argument two declarations differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import aiormq
from fastapi_stream_core.errors import SetupError

from .schema import RabbitExchange, RabbitQueue

__all__ = ("bind_queue", "declare_exchange", "declare_queue", "is_missing", "refusals")

DIFFERS = re.compile(r"inequivalent arg '(?P<argument>[^']*)'.*?: (?P<values>.*)")
NO_QUEUE = "no queue '"
"""How RabbitMQ says that there is none of that name."""
SECONDS = 10.0


async def declare_queue(channel: aiormq.Channel, queue: RabbitQueue, exchange: RabbitExchange) -> None:
    """Declare a queue, its exchange and the binding between them.

    Args:
        channel: nothing else happens on it meanwhile; RabbitMQ closes it when it refuses something.
        queue: the queue.
        exchange: the exchange.

    Raises:
        SetupError: one of them exists with other arguments, or RabbitMQ refuses it.
    """
    if not exchange.is_default:
        await declare_exchange(channel, exchange)
    with refusals(f"RabbitQueue({queue.name!r})"):
        await channel.queue_declare(
            queue.name,
            passive=not queue.declare,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=queue.declared_arguments(),
            timeout=SECONDS,
        )
    if not exchange.is_default:
        with refusals(f"RabbitQueue({queue.name!r})"):
            await _bind(channel, queue, exchange)


async def is_missing(channel: aiormq.Channel, queue: RabbitQueue) -> bool:
    """Tell whether a queue is not there; RabbitMQ closes the channel then."""
    try:
        await channel.queue_declare(queue.name, passive=True, timeout=SECONDS)
    except aiormq.AMQPChannelError as error:
        # RabbitMQ says NOT_FOUND, too, of one whose node is away. What else is wrong with it its declaration tells.
        return isinstance(error, aiormq.ChannelNotFoundEntity) and NO_QUEUE in str(error)
    return False


async def bind_queue(channel: aiormq.Channel, queue: RabbitQueue, exchange: RabbitExchange) -> None:
    """Bind a queue to its exchange, and that one to where it gets messages from; once more changes nothing.

    Raises:
        aiormq.ChannelNotFoundEntity: one of them is not there.
    """
    part = exchange
    while part.bind_to is not None and not part.bind_to.is_default:
        await _bind_exchange(channel, part, part.bind_to)
        part = part.bind_to
    await _bind(channel, queue, exchange)


async def _bind(channel: aiormq.Channel, queue: RabbitQueue, exchange: RabbitExchange) -> None:
    await channel.queue_bind(
        queue.name,
        exchange.name,
        routing_key=queue.routing(),
        arguments=dict(queue.bind_arguments or {}),
        timeout=SECONDS,
    )


async def _bind_exchange(channel: aiormq.Channel, exchange: RabbitExchange, source: RabbitExchange) -> None:
    await channel.exchange_bind(
        exchange.name,
        source.name,
        routing_key=exchange.routing_key,
        arguments=dict(exchange.bind_arguments or {}),
        timeout=SECONDS,
    )


async def declare_exchange(channel: aiormq.Channel, exchange: RabbitExchange) -> None:
    """Declare an exchange and what it is bound to, on a channel as in `declare_queue`.

    Raises:
        SetupError: it exists with other arguments, or RabbitMQ refuses it.
    """
    source = exchange.bind_to
    if source is not None and not source.is_default:
        await declare_exchange(channel, source)
    with refusals(f"RabbitExchange({exchange.name!r})"):
        await channel.exchange_declare(
            exchange.name,
            exchange_type=exchange.type.value,
            passive=not exchange.declare,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            arguments=dict(exchange.arguments or {}),
            timeout=SECONDS,
        )
        if source is not None and not source.is_default:
            await _bind_exchange(channel, exchange, source)


@contextmanager
def refusals(subject: str) -> Iterator[None]:
    """Turn what RabbitMQ refuses into an error that says what to do.

    Raises:
        SetupError: RabbitMQ refused what was asked for.
    """
    try:
        yield
    except aiormq.ChannelNotFoundEntity as error:
        is_away = not re.search("no (queue|exchange) '", str(error))
        fix = "create it, or have it declared: an object without declare=False"
        raise SetupError(
            subject, f"it is not there ({error})", "start the node that has it, or delete it" if is_away else fix
        ) from error
    except (aiormq.ChannelPreconditionFailed, aiormq.ChannelAccessRefused, aiormq.ChannelLockedResource) as error:
        text = str(error)
        found = DIFFERS.search(text)
        if found is None:
            fix = "change it, or the permissions of the user"
            raise SetupError(subject, f"RabbitMQ refuses it: {text}", fix) from error
        raise SetupError(
            subject,
            f"it exists with another {found['argument']!r}: {found['values']}",
            "declare it as it is, delete it first, or use another name",
        ) from error
