"""Declares queues, exchanges and bindings, and says in which argument two declarations differ."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiormq
from fastapi_stream_core.errors import SetupError

from .connection import Link
from .schema import RabbitExchange, RabbitQueue

__all__ = ("declare_exchange", "declare_queue")

DIFFERS = re.compile(r"inequivalent arg '(?P<argument>[^']*)'.*?: (?P<values>.*)")
SECONDS = 10.0


async def declare_queue(link: Link, queue: RabbitQueue, exchange: RabbitExchange) -> None:
    """Declare a queue, its exchange and the binding between them.

    Raises:
        SetupError: one of them exists with other arguments, or RabbitMQ refuses it.
    """
    if not exchange.is_default:
        await declare_exchange(link, exchange)
    async with _throw_away(link, f"RabbitQueue({queue.name!r})") as channel:
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
            await channel.queue_bind(
                queue.name,
                exchange.name,
                routing_key=queue.routing(),
                arguments=dict(queue.bind_arguments or {}),
                timeout=SECONDS,
            )


async def declare_exchange(link: Link, exchange: RabbitExchange) -> None:
    """Declare an exchange and what it is bound to.

    Raises:
        SetupError: it exists with other arguments, or RabbitMQ refuses it.
    """
    source = exchange.bind_to
    if source is not None and not source.is_default:
        await declare_exchange(link, source)
    async with _throw_away(link, f"RabbitExchange({exchange.name!r})") as channel:
        await channel.exchange_declare(
            exchange.name,
            exchange_type=exchange.type.value,
            passive=not exchange.declare,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            arguments=dict(exchange.arguments or {}),
            timeout=SECONDS,
        )
        if source is not None:
            await channel.exchange_bind(
                exchange.name,
                source.name,
                routing_key=exchange.routing_key,
                arguments=dict(exchange.bind_arguments or {}),
                timeout=SECONDS,
            )


@asynccontextmanager
async def _throw_away(link: Link, subject: str) -> AsyncIterator[aiormq.Channel]:
    """Yield a channel for declarations alone: RabbitMQ closes a channel whose declaration it refuses."""
    channel = await link.channel()
    try:
        yield await link.protocol(channel)
    except aiormq.ChannelNotFoundEntity as error:
        raise SetupError(subject, f"it is not there ({error})", "create it, or leave out declare=False") from error
    except (aiormq.ChannelPreconditionFailed, aiormq.ChannelAccessRefused, aiormq.ChannelLockedResource) as error:
        raise _refused(subject, str(error)) from error
    finally:
        if not channel.is_closed:
            await asyncio.wait_for(channel.close(), SECONDS)


def _refused(subject: str, text: str) -> SetupError:
    found = DIFFERS.search(text)
    if found is None:
        return SetupError(subject, f"RabbitMQ refuses it: {text}", "change it, or the permissions of the user")
    return SetupError(
        subject,
        f"it exists with another {found['argument']!r}: {found['values']}",
        "declare it as it is, delete it first, or use another name",
    )
