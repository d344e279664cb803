"""Redis in memory: channels and patterns fan out, lists and groups are shared, streams are copied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import time
from typing import TYPE_CHECKING, Any, cast

from fastapi_stream_core.memory import MemoryTransport

from .consumer import own_name
from .message import RedisChannelMessage, RedisListMessage, RedisMessage, RedisStreamMessage
from .schema import ListSub, PubSub, StreamSub
from .subscription import RedisSubscription
from .wire import DATA_FIELD, pack

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing
    from fastapi_stream_core.subscription import Subscription

    from .broker import RedisBroker

__all__ = ("RedisMemoryTransport",)


class RedisMemoryTransport(MemoryTransport):
    """Knows the channels, lists and streams of the subscriptions."""

    _entries = 0
    _reached = 0
    _consumer = own_name()

    def route(self, outgoing: Outgoing, subscriptions: Sequence[Subscription]) -> Iterable[Subscription]:
        reached = list(self._targets(outgoing, [one for one in subscriptions if isinstance(one, RedisSubscription)]))
        self._entries += 1
        self._reached = len(reached)
        return reached

    def _targets(self, outgoing: Outgoing, mine: Sequence[RedisSubscription]) -> Iterable[RedisSubscription]:
        kind, name = outgoing.options.get("kind", "channel"), outgoing.address
        if kind == "channel":
            yield from [one for one in mine if isinstance(one.target, PubSub) and one.target.matches(name)]
        elif kind == "list":
            takers = [one for one in mine if isinstance(one.target, ListSub) and one.target.list_name == name]
            if takers:
                yield self.turn(("list", name), takers)
        else:
            groups: dict[str, list[RedisSubscription]] = {}
            for one in mine:
                if not isinstance(one.target, StreamSub) or one.target.stream != name:
                    continue
                if one.target.group is None:
                    yield one
                else:
                    groups.setdefault(one.target.group, []).append(one)
            for group, consumers in groups.items():
                yield self.turn(("stream", name, group), consumers)

    def message(self, outgoing: Outgoing, subscription: Subscription | None) -> RedisMessage:
        data = pack(outgoing, cast("RedisBroker", self.broker).message_format)
        target = subscription.target if isinstance(subscription, RedisSubscription) else None
        kind = outgoing.options.get("kind", "channel")
        if kind == "channel":
            pattern = target.subject if isinstance(target, PubSub) and target.pattern else None
            return RedisChannelMessage.received(data, outgoing.address, pattern)
        if kind == "list":
            return RedisListMessage.received(data, outgoing.address)
        group = target if isinstance(target, StreamSub) else None
        return RedisStreamMessage(
            self._entry_id(),
            [DATA_FIELD, data],
            outgoing.address,
            group.group if group is not None else None,
            (group.consumer or self._consumer) if group is not None and group.group is not None else None,
        )

    def _entry_id(self) -> bytes:
        return b"%d-%d" % (int(time() * 1000), self._entries)

    def settles(self, subscription: Subscription) -> bool:
        return isinstance(subscription, RedisSubscription) and isinstance(subscription.target, StreamSub)

    def receipt(self, outgoing: Outgoing) -> Any:
        kind = outgoing.options.get("kind", "channel")
        if kind == "channel":
            return self._reached
        return 1 if kind == "list" else self._entry_id()
