"""NATS in the process, for tests."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import PublishError
from fastapi_stream_core.memory import MemoryTransport
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.subscription import Subscription
from nats.js.api import PubAck

from .jetstream import stored_by, streams_of
from .message import NatsMessage, Origin
from .schema import matches
from .subscription import NatsSubscription
from .wire import DEFAULT_LIMITS, message_headers, publication

if TYPE_CHECKING:
    from .broker import NatsBroker

__all__ = ("NatsMemoryTransport",)


class NatsMemoryTransport(MemoryTransport):
    """Routes as NATS does: wildcards, queue groups, and streams that store what their subjects match.

    Of NATS core everybody gets a copy, and one member of each queue group. Of a stream each durable consumer, and
    each subscriber without one, gets a copy.
    """

    broker: NatsBroker

    def __init__(self, broker: NatsBroker, raise_errors: bool = True) -> None:
        super().__init__(broker, raise_errors)
        self._sequences: dict[str, int] = {}

    def route(self, outgoing: Outgoing, subscriptions: Sequence[Subscription]) -> Iterable[Subscription]:
        expected, stored = outgoing.options.get("stream"), self._stream_of(outgoing)
        publication(outgoing, DEFAULT_LIMITS, expected=expected)
        if expected is not None and expected != stored:
            raise PublishError(outgoing.address, f"no stream takes this subject, and {expected!r} should")
        if stored is not None:
            self._sequences[stored] = self._sequences.get(stored, 0) + 1
        groups: dict[Hashable, list[Subscription]] = {}
        for one in subscriptions:
            if not isinstance(one, NatsSubscription) or not any(
                matches(each, outgoing.address) for each in one.filters
            ):
                continue
            if one.stream is None:
                groups.setdefault(("core", one.queue or id(one)), []).append(one)
            elif one.stream.name == stored:
                groups.setdefault((stored, one.durable or id(one)), []).append(one)
        return [self.turn(key, members) for key, members in groups.items()]

    def _stream_of(self, outgoing: Outgoing) -> str | None:
        return stored_by(streams_of(self.broker), outgoing.address)

    def settles(self, subscription: Subscription) -> bool:
        return isinstance(subscription, NatsSubscription) and subscription.settles

    def message(self, outgoing: Outgoing, subscription: Subscription | None) -> NatsMessage:
        stored = isinstance(subscription, NatsSubscription) and subscription.stream is not None
        core = not stored and outgoing.options.get("stream") is None
        subject, body = outgoing.address.encode(), outgoing.body
        headers = message_headers(outgoing, core) or None
        if isinstance(subscription, NatsSubscription) and subscription.stream is not None:
            stream, consumer = subscription.stream.name, subscription.durable or f"memory{id(subscription):x}"
            sequence = self._sequences[stream]
            ack = f"$JS.ACK.{stream}.{consumer}.1.{sequence}.{sequence}.0.0"
            origin = Origin(stream=stream, consumer=consumer)
            return NatsMessage((subject, ack.encode(), body, headers), outgoing.address, origin)
        reply = (outgoing.reply_to or "") if core else ""
        return NatsMessage((subject, reply.encode(), body, headers), outgoing.address, Origin())

    def receipt(self, outgoing: Outgoing) -> PubAck | None:
        stream = outgoing.options.get("stream")
        return None if stream is None else PubAck(stream=stream, seq=self._sequences[stream])
