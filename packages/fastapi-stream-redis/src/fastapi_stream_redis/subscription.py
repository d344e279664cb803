"""One subscriber of a channel, a list or a stream."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastapi_stream_core.asyncapi.description import ChannelDescription
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.subscription import Subscription

from .message import RedisChannelMessage, RedisListMessage, RedisMessage, RedisStreamMessage
from .options import RedisSubscriberOptions
from .schema import ListSub, PubSub, StreamSub, Target, idle_options

if TYPE_CHECKING:
    from .declaration import RedisDeclarations

__all__ = ("RedisSubscription",)


class RedisSubscription(Subscription):
    """One subscriber of a channel, a list or a stream.

    Attributes:
        target: what it subscribes to.
    """

    declaration = RedisSubscriberOptions

    def __init__(self, home: RedisDeclarations, target: Target, options: Mapping[str, Any]) -> None:
        if "batch" in options:
            fix = "use list=ListSub(..., batch=True) or stream=StreamSub(..., batch=True); channels have no batches"
            raise SetupError(f"subscriber({target.name!r})", "batch= is an option of ListSub and StreamSub", fix)
        self.target = target
        self.message_type = message_type_of(target)
        super().__init__(home, (target.name,), options)
        if "ack_policy" in options and not isinstance(target, StreamSub):
            raise SetupError(
                self.label,
                f"ack_policy= has no effect: a {kind_of(target)} of Redis delivers at most once, and knows no"
                " acknowledgement",
                "leave it out, or use stream=",
            )
        if idle := idle_options(target, publishing=False):
            raise SetupError(
                self.label,
                f"{', '.join(idle)} of {type(target).__name__} have no effect here",
                "leave them out; max_records is for batch=True, claim_min_idle_time for a group, maxlen for publishers",
            )

    @property
    def batch(self) -> bool:
        return not isinstance(self.target, PubSub) and self.target.batch

    @property
    def batch_size(self) -> int:
        return 100 if isinstance(self.target, PubSub) else self.target.batch_size

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        return self.target.template.names if isinstance(self.target, PubSub) else ()

    def capture(self, address: str) -> dict[str, str]:
        return self.target.capture(address) if isinstance(self.target, PubSub) else {}

    def describe(self) -> list[ChannelDescription]:
        target = self.target
        extensions: dict[str, Any] = {"x-redis-type": kind_of(target)}
        address: str | None = target.name
        if isinstance(target, PubSub) and target.pattern and not target.template.names:
            address, extensions["x-pattern"] = None, target.name
        if isinstance(target, StreamSub) and target.group is not None:
            extensions["x-redis-group"] = target.group
            if target.consumer is not None:
                extensions["x-redis-consumer"] = target.consumer
        return [
            ChannelDescription(
                address,
                target.name,
                kind="" if isinstance(target, PubSub) else kind_of(target),
                parameters=self.path_names,
                channel_bindings=BINDINGS,
                operation_bindings=BINDINGS,
                extensions=extensions,
            )
        ]


BINDINGS: Mapping[str, Mapping[str, Any]] = {"redis": {}}
"""The binding of Redis has no properties, not even a version."""


def message_type_of(target: Target) -> type[RedisMessage]:
    """Return the class of what comes from there."""
    if isinstance(target, ListSub):
        return RedisListMessage
    return RedisStreamMessage if isinstance(target, StreamSub) else RedisChannelMessage


def kind_of(target: Target) -> str:
    """Return what Redis calls the thing."""
    if isinstance(target, ListSub):
        return "list"
    if isinstance(target, StreamSub):
        return "stream"
    return "pattern" if target.pattern else "channel"
