"""Redis under a broker: one connection for what is published, and one for each subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from fastapi_stream_core.errors import BrokerUnavailable, PublishError
from fastapi_stream_core.shown_address import clean_cause
from fastapi_stream_core.transport import Source, Transport
from redis.exceptions import RedisError

from .commands import Commands
from .connection import Settings
from .group import GroupSource
from .ledger import Ledger
from .reading import ReadSize
from .schema import ListSub, PubSub
from .source import ChannelSource, ListSource
from .stream import Place, StreamSource
from .subscription import RedisSubscription
from .wire import DATA_FIELD, pack

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing
    from fastapi_stream_core.subscription import Subscription

    from .broker import RedisBroker

__all__ = ("RedisTransport",)


LONGEST_VALUE = 512 * 1024 * 1024
"""Bytes of one value (`proto-max-bulk-len`). For a longer one the server would end the connection of all callers."""


class RedisTransport(Transport):
    """Connections to one Redis."""

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker
        self._settings = Settings.of(broker)
        self._timeout: float = broker.options["publish_timeout"]
        # A server that is only slow gets no second copy before its time is over.
        self._commands = Commands(self._settings, self._timeout)
        self._ledgers: dict[Subscription, Ledger] = {}
        self._places: dict[Subscription, Place] = {}
        self._sizes: dict[Subscription, ReadSize] = {}

    async def start(self) -> None:
        await self._commands.start(self._broker.options["startup_timeout"])

    def source(self, subscription: Subscription) -> Source:
        one = cast("RedisSubscription", subscription)
        target, settings, commands = one.target, self._settings, self._commands
        if isinstance(target, PubSub):
            return ChannelSource(one, target, settings, commands)
        size = self._sizes.setdefault(one, ReadSize(one.options["prefetch_bytes"]))
        if isinstance(target, ListSub):
            return ListSource(one, target, settings, commands, size)
        if target.group is None:
            return StreamSource(one, target, settings, commands, self._places.setdefault(one, Place()), size)
        if one not in self._ledgers:
            self._ledgers[one] = Ledger(commands, target.stream, target.group, self._broker.report)
        return GroupSource(one, target, settings, commands, self._ledgers[one], size)

    async def publish(self, message: Outgoing) -> Any:
        try:
            return await self._commands.execute(*self._command(message), timeout=self._timeout)
        except BrokerUnavailable as error:
            raise BrokerUnavailable(self._settings.address, "publish", error.seconds, error.reason) from clean_cause(
                error
            )
        except (RedisError, ValueError, TypeError) as error:
            raise PublishError(message.address, error) from error

    def _command(self, message: Outgoing) -> tuple[Any, ...]:
        data = pack(message, self._broker.message_format)
        if len(data) > LONGEST_VALUE:
            raise PublishError(message.address, f"it has {len(data)} bytes, and Redis takes {LONGEST_VALUE}")
        options = message.options
        kind = options.get("kind", "channel")
        if kind == "channel":
            return "PUBLISH", message.address, data
        if kind == "list":
            return "RPUSH", message.address, data
        maxlen = options.get("maxlen")
        if maxlen is None:
            return "XADD", message.address, "*", DATA_FIELD, data
        return "XADD", message.address, "MAXLEN", "~", maxlen, "*", DATA_FIELD, data

    async def ping(self, timeout: float) -> bool:
        return await self._commands.ping(timeout)

    async def close(self) -> None:
        for ledger in self._ledgers.values():
            await ledger.close()
        await self._commands.close()
