"""Whether the subscribers and publishers of an app say the same of what they share at the server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.option_type import show

from .publisher import NatsPublisher
from .subscription import NatsSubscription

if TYPE_CHECKING:
    from fastapi_stream_core.broker import Broker

    from .schema import JStream

__all__ = ("check_agreement",)


def check_agreement(broker: Broker) -> None:
    """Refuse what is declared twice and differently: a consumer has one set of subjects, a stream one configuration.

    Raises:
        SetupError: there is something, and who declares it.
    """
    subscriptions = [one for one in broker.subscribers if isinstance(one, NatsSubscription)]
    publishers = [one for one in broker.publishers if isinstance(one, NatsPublisher)]
    _check_consumers(subscriptions)
    streams = [(one.label, one.stream) for one in subscriptions]
    streams += [(f"publisher({one.address!r})", one.stream) for one in publishers]
    _check_streams(streams)


def _check_consumers(subscriptions: Iterable[NatsSubscription]) -> None:
    known: dict[tuple[str, str], NatsSubscription] = {}
    for one in subscriptions:
        consumer = one.durable or one.config.name
        if one.stream is None or not consumer:
            continue
        first = known.setdefault((one.stream.name, consumer), one)
        if set(first.filters) != set(one.filters):
            raise SetupError(
                one.label,
                f"{first.label} reads the consumer {consumer!r} of the stream {one.stream.name!r} too, and a"
                " consumer gives any message to any of its readers",
                "give each its own queue= or durable=, or one of them all subjects (filter_subjects of config=)",
            )


def _check_streams(streams: Iterable[tuple[str, JStream | None]]) -> None:
    known: dict[str, tuple[str, JStream]] = {}
    for label, stream in streams:
        if stream is None or stream.is_mere_name:
            continue
        first, before = known.setdefault(stream.name, (label, stream))
        for one in fields(stream):
            value, other = getattr(stream, one.name), getattr(before, one.name)
            if one.name != "subjects" and value != other:
                raise SetupError(
                    label,
                    f"its JStream({stream.name!r}) has {one.name}={show(value)}, and that of {first}"
                    f" has {one.name}={show(other)}",
                    "make one JStream and give it to both",
                )
