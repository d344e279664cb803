"""Streams and consumers: what has to exist at the server before messages flow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import SetupError
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServerError

from .ack_pending import CHOSEN, PENDING, first
from .progress import Progress
from .publisher import NatsPublisher
from .schema import JStream, covering, matches, overlaps
from .settings import check, declared, is_declared, wanted
from .subscription import NatsSubscription

if TYPE_CHECKING:
    from fastapi_stream_core.broker import Broker
    from nats.js.manager import JetStreamManager

    from .client import Connection

__all__ = (
    "API_SECONDS",
    "FLOW_BYTES",
    "bind_consumer",
    "change_ack_pending",
    "declare_streams",
    "delete_consumer",
    "pushed_bytes",
    "streams_of",
    "untaken",
)

API_SECONDS = 5.0
"""How long one request to JetStream's API may take."""
HEARTBEAT_SECONDS = 2.0
"""Without a message the server says so often that it still delivers."""
INACTIVE_SECONDS = 60.0
"""A consumer without a name is deleted by the server when nobody reads it for so long."""
FLOW_BYTES = 32 * 1024 * 1024
"""Bytes that the server pushes at most before it asks whether it may go on: half of its `max_pending`."""
BOUND_ATTEMPTS = 10
BOUND_PAUSE_SECONDS = 0.3
CONFLICTS = (10058, 10065)
"""The server's codes for a stream that another instance has created, or whose subjects overlap another stream's."""
IN_USE = 10013
"""The server's code for a consumer that somebody reads, so that it stays as it is."""


def streams_of(broker: Broker) -> list[tuple[JStream, list[str]]]:
    """Collect the streams that subscribers and publishers name, each with all its subjects."""
    found: dict[str, JStream] = {}
    subjects: dict[str, list[str]] = {}
    named = [(one.stream, one.filters) for one in broker.subscribers if isinstance(one, NatsSubscription)]
    named += [(one.stream, [one.address]) for one in broker.publishers if isinstance(one, NatsPublisher)]
    for stream, addresses in named:
        if stream is None:
            continue
        known = found.setdefault(stream.name, stream)
        if known.is_mere_name:
            found[stream.name] = stream  # it gives way to an object that says more
        subjects.setdefault(stream.name, []).extend([*(stream.subjects or ()), *addresses])
    return [(stream, covering(subjects[name])) for name, stream in found.items()]


async def declare_streams(
    manager: JetStreamManager, streams: Iterable[tuple[JStream, list[str]]]
) -> dict[str, StreamInfo]:
    """Create the streams that do not exist, and give the others the subjects and settings that they lack.

    Returns:
        Each of them as it was found, or made.

    Raises:
        SetupError: the server refused a stream, or one that is not declared here does not exist.
        nats.errors.Error: the server did not answer.
    """
    found: dict[str, StreamInfo] = {}
    for stream, subjects in streams:
        try:
            found[stream.name] = await _declare(manager, stream, subjects)
        except BadRequestError as error:
            raise SetupError(
                f"JStream({stream.name!r})",
                f"the server refused it with subjects {', '.join(subjects)}: {error.description}",
                "change the stream here or at the server",
            ) from error
    return found


def untaken(broker: Broker, streams: Mapping[str, StreamInfo]) -> Iterator[tuple[NatsSubscription, str, list[str]]]:
    """Yield each subject that is subscribed to in a stream of somebody else's that takes none like it.

    What a stream copies from others, or stores by another subject, can't be known from its subjects.
    """
    undeclared = {stream.name for stream, _ in streams_of(broker) if not stream.declare}
    for one in broker.subscribers:
        if not isinstance(one, NatsSubscription) or one.stream is None or one.stream.name not in undeclared:
            continue
        config = streams[one.stream.name].config
        if not config.subjects or config.mirror or config.sources or config.subject_transform:
            continue
        for subject in one.filters:
            if not any(overlaps(subject, taken) for taken in config.subjects):
                yield one, subject, config.subjects


async def _declare(manager: JetStreamManager, stream: JStream, subjects: list[str]) -> StreamInfo:
    try:
        info = await manager.stream_info(stream.name)
    except NotFoundError:
        if not stream.declare:
            raise SetupError(
                f"JStream({stream.name!r})", "it does not exist and declare=False", "create it or leave declare out"
            ) from None
        try:
            return await manager.add_stream(stream.config(StreamConfig(), subjects))
        except BadRequestError as error:
            if error.err_code != CONFLICTS[0]:
                raise
            info = await manager.stream_info(stream.name)
    if not stream.declare:
        return info
    kept = info.config.subjects or []
    wanted = stream.config(info.config, covering([*kept, *subjects]))
    if set(wanted.subjects or ()) == set(kept):
        wanted.subjects = info.config.subjects
    if wanted != info.config:
        await manager.update_stream(wanted)
    return info


async def bind_consumer(
    manager: JetStreamManager, connection: Connection, subscription: NatsSubscription, progress: Progress
) -> ConsumerInfo:
    """Return the consumer of a subscription; it is created when it does not exist.

    A consumer that exists keeps what `config` does not say, and where it is; the rest is changed.

    Raises:
        SetupError: the consumer is of another kind, is bound to another subscriber, or was refused.
        nats.errors.Error: the server did not answer.
    """
    stream = subscription.stream
    if stream is None:
        raise SetupError(subscription.label, "there is no stream", "give stream=")
    durable = subscription.durable
    if durable is not None and (info := await _existing(manager, stream.name, durable)) is not None:
        return await _take(manager, connection, subscription, info)
    config = progress.successor(_new_config(connection, subscription))
    try:
        return await manager.add_consumer(stream.name, config)
    except BadRequestError as error:
        # Another member of the group may have made it meanwhile, and reads it already.
        if durable is not None and (info := await _existing(manager, stream.name, durable)) is not None:
            return await _take(manager, connection, subscription, info)
        raise SetupError(
            subscription.label, f"the server refused the consumer: {error.description}", "change its options"
        ) from error


async def _existing(manager: JetStreamManager, stream: str, consumer: str) -> ConsumerInfo | None:
    try:
        info: ConsumerInfo = await manager.consumer_info(stream, consumer)
    except NotFoundError:
        return None
    return info


def _new_config(connection: Connection, subscription: NatsSubscription) -> ConsumerConfig:
    config, stream = subscription.config.evolve(durable_name=subscription.durable), subscription.stream
    if len(subscription.filters) == 1:
        config.filter_subject = subscription.filters[0]
        config.filter_subjects = None
    else:
        config.filter_subjects = list(subscription.filters)
    if subscription.options["deliver_policy"] is not None:
        config.deliver_policy = subscription.options["deliver_policy"]
    if subscription.durable is not None:
        config.metadata = {**(config.metadata or {}), **declared(subscription)}
    elif config.inactive_threshold is None:
        config.inactive_threshold = INACTIVE_SECONDS
    if subscription.pull is None:
        config.deliver_group = subscription.queue or config.deliver_group
        if config.deliver_subject is None and config.deliver_group and stream is not None:
            # Members that start at the same time all name the same one, and no one moves the consumer from another.
            prefix = connection._inbox_prefix.decode()
            config.deliver_subject = f"{prefix}.{stream.name}.{subscription.durable}"
        config.deliver_subject = config.deliver_subject or connection.new_inbox()
        if not config.deliver_group:
            config.idle_heartbeat = HEARTBEAT_SECONDS if config.idle_heartbeat is None else config.idle_heartbeat
            config.flow_control = bool(config.idle_heartbeat) if config.flow_control is None else config.flow_control
        _bound_pushes(config, subscription, connection.limits.payload)
    return config


def _bound_pushes(config: ConsumerConfig, subscription: NatsSubscription, payload: int) -> None:
    """Say how many messages may be pushed ahead, where flow control can't bound their bytes."""
    most = pushed_bytes(subscription)
    if not subscription.settles or config.max_ack_pending is not None:
        return
    if config.flow_control and most >= FLOW_BYTES:
        config.max_ack_pending = PENDING
    else:
        config.max_ack_pending = first(most, payload)
        config.metadata = {**(config.metadata or {}), **CHOSEN}


def pushed_bytes(subscription: NatsSubscription) -> int:
    """Return how many bytes may be pushed ahead to a subscription.

    All subscriptions share one connection, and the server ends it when more than `max_pending` (64 MiB) waits to be
    sent. It counts what it is just sending until all of that is sent, so half of it is what may be on its way.
    """
    known = subscription.broker.subscribers
    pushed = [one for one in known if isinstance(one, NatsSubscription) and one.stream is not None and one.pull is None]
    most: int = subscription.options["prefetch_bytes"]
    return min(most, FLOW_BYTES // max(len(pushed), 1))


async def change_ack_pending(connection: Connection, stream: str, consumer: str, count: int) -> None:
    """Give a consumer another `max_ack_pending`; one that was deleted meanwhile is not made again.

    Raises:
        nats.errors.Error: the server did not answer, or refused it.
    """
    config = (await connection.jsm(timeout=API_SECONDS).consumer_info(stream, consumer)).config
    if config.max_ack_pending == count:
        return
    wanted = config.evolve(name=consumer, max_ack_pending=count).as_dict()
    request = json.dumps({"stream_name": stream, "config": wanted, "action": "update"}).encode()
    end = f".{config.filter_subject}" if config.filter_subject else ""
    answer = await connection.request(f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}{end}", request, API_SECONDS)
    if error := json.loads(answer.data).get("error"):
        raise APIError.from_error(error)


async def _take(
    manager: JetStreamManager, connection: Connection, subscription: NatsSubscription, info: ConsumerInfo
) -> ConsumerInfo:
    """Check a consumer that exists, and give it the settings that the subscriber declares."""
    check(subscription, info)
    config, label, name = info.config, subscription.label, info.name
    differing = wanted(subscription, config)
    if differing != config:
        info = await _change(manager, subscription, info, differing)
        config = info.config
    for _ in range(BOUND_ATTEMPTS):
        if config.deliver_subject is None or config.deliver_group:
            return info
        if not info.push_bound and (taken := await _take_over(manager, connection, subscription, info)) is not None:
            return taken
        # The server may not have noticed yet that a former process is gone.
        await asyncio.sleep(BOUND_PAUSE_SECONDS)
        info = await manager.consumer_info(info.stream_name, name)
    raise SetupError(
        label,
        f"the consumer {name!r} pushes to another subscriber already",
        "give queue= to share, or use pull_sub=True",
    )


async def _take_over(
    manager: JetStreamManager, connection: Connection, subscription: NatsSubscription, info: ConsumerInfo
) -> ConsumerInfo | None:
    """Have a consumer that nobody reads push to here only; None when somebody else was faster.

    A process that was cut off subscribes again where it did before, and would have every message too. What the app or
    somebody else has chosen stays.
    """
    config, prefix = info.config, f"{connection._inbox_prefix.decode()}."
    is_chosen = subscription.config.deliver_subject is not None or not is_declared(config)
    if is_chosen or not (config.deliver_subject or "").startswith(prefix):
        return info
    try:
        return await manager.add_consumer(info.stream_name, config.evolve(deliver_subject=connection.new_inbox()))
    except BadRequestError as error:
        if error.err_code == IN_USE:
            return None
        raise SetupError(
            subscription.label, f"the server refused the consumer {info.name!r}: {error.description}", "change it there"
        ) from error


async def _change(
    manager: JetStreamManager, subscription: NatsSubscription, info: ConsumerInfo, config: ConsumerConfig
) -> ConsumerInfo:
    """Give a consumer that exists other settings.

    Raises:
        SetupError: the server does not allow it.
    """
    try:
        return await manager.add_consumer(info.stream_name, config)
    except (BadRequestError, ServerError) as error:
        given = [one.name for one in fields(config) if getattr(config, one.name) != getattr(info.config, one.name)]
        names = [name for name in given if name != "metadata"] or given
        raise SetupError(
            subscription.label,
            f"the consumer {info.name!r} exists with another {' and '.join(names)}, which the server does not change:"
            f" {error.description}",
            "give the same in config=, or use another durable name",
        ) from error


async def delete_consumer(manager: JetStreamManager, stream: str, consumer: str) -> None:
    """Delete a consumer of a subscription's own; the server would do it later by itself, so a failure is no matter."""
    try:
        await manager.delete_consumer(stream, consumer)
    except (NatsError, OSError):
        return


def stored_by(streams: Iterable[tuple[JStream, list[str]]], subject: str) -> str | None:
    """Return the stream that takes a subject."""
    for stream, subjects in streams:
        if any(matches(pattern, subject) for pattern in subjects):
            return stream.name
    return None
