"""What a broker gives to the benchmarks: how it is filled, and how the raw client, ours and the peer use it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import uuid4

__all__ = ("Kind", "Scenario", "Send", "Take")

Take = Callable[[bytes], None]
Send = Callable[[bytes], Awaitable[Any]]


@dataclass(frozen=True)
class Kind:
    """A kind of subscription.

    Attributes:
        name: with the broker's, the name of the row.
        store: what keeps messages that were read, so that many runs read the same ones; empty where reading takes
            them away, and each run gets its own.
        live: nobody keeps messages for a subscriber that is not there: they are sent when it says that it is.
        batch: the handler takes a list.
        against_peer: gate and goal of FastStream's CPU time a message to ours; none without.
        by_rate: gate and goal are for our messages a second to FastStream's: it waits for the broker after each
            message, which costs it no CPU.
        messages: for the raw client and ours.
        peer_messages: for FastStream, so that its run takes about as long.
        latency: whether the time from publishing to the handler is measured.
        publish: the name of the row that measures publishing to it; empty where it is another kind's.
    """

    name: str
    store: str = ""
    live: bool = False
    batch: bool = False
    against_peer: tuple[float, float] | None = None
    by_rate: bool = False
    messages: int = 50_000
    peer_messages: int = 10_000
    latency: bool = False
    publish: str = ""


class Scenario(ABC):
    """One kind of subscription of one broker at one address. All methods but `fill` and `send` run in the child.

    Attributes:
        url: of the server.
        kind: the kind of subscription.
        address: the topic, queue, subject, channel, list or stream.
        token: a text that no other run has, for names of groups and consumers.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]]
    raw_note: ClassVar[str]
    """How the raw client consumes."""
    publish_note: ClassVar[str] = ""
    """What the durability of the peer's publishing is where it is another than ours and the raw client's."""

    def __init__(self, url: str, kind: str, address: str) -> None:
        self.url = url
        self.kind = next(one for one in self.kinds if one.name == kind)
        self.address = address
        self.token = uuid4().hex[:10]

    @abstractmethod
    def fill(self, count: int) -> None:
        """Declare what keeps messages, and have it keep `count`; return when it does."""

    def send(self, count: int) -> None:
        """Send `count` messages at the speed of C to those who listen; only for live kinds."""
        raise NotImplementedError(f"{self.name} keeps its messages")

    @abstractmethod
    async def raw(self, take: Take, over: asyncio.Event, ready: Callable[[], None]) -> None:
        """Consume with the client alone, in its best way, until `over`; call `ready` when subscribed."""

    async def listening(self, router: Any) -> None:
        """Return when the server knows of the subscription of a router that has started."""
        return

    @abstractmethod
    def ours(self) -> tuple[Any, Any]:
        """Return our router, and what declares its one subscriber."""

    @abstractmethod
    def peer(self) -> tuple[Any, Any]:
        """Return FastStream's router, and what declares its one subscriber."""

    async def unsettled(self, count: int) -> int:
        """After a run of `count` messages: how many of them the server would give again."""
        return 0

    @abstractmethod
    def sender(self) -> AbstractAsyncContextManager[Send]:
        """Publish bodies with the client alone, confirmed as durably as ours are."""

    @abstractmethod
    def destination(self) -> dict[str, Any]:
        """Return the arguments of `broker.publish`, ours and the peer's."""
