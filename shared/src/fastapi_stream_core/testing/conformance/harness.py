"""What a package supplies so that the conformance suite runs on its broker."""

from __future__ import annotations

import asyncio
import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import uuid4

import pytest

from ...broker import Broker
from ...publisher import Publisher
from ...router import StreamRouter
from ...subscription import Subscription
from ..broker import TestBroker
from ..features import Features

__all__ = ("DEADLINE", "Features", "Harness", "Inbox", "MemoryHarness", "deliver", "needs", "until")

DEADLINE = 30.0
"""Seconds that a test waits for an event before it fails."""


def needs(harness: Harness, *names: str) -> None:
    """Skip a test of something that the broker can't do."""
    missing = [name for name in names if not getattr(harness.features, name)]
    if missing:
        pytest.skip(f"{harness.features.broker} {harness.features.kind}: no {', '.join(missing)}")


class Inbox:
    """Collects what handlers saw."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self.all: list[Any] = []

    def put(self, value: Any) -> None:
        """Note one value."""
        self.all.append(value)
        self._queue.put_nowait(value)

    async def take(self, timeout: float = DEADLINE) -> Any:
        """Wait for the next value."""
        return await asyncio.wait_for(self._queue.get(), timeout)

    async def take_many(self, count: int, timeout: float = DEADLINE) -> list[Any]:
        """Wait for the next values."""
        return [await self.take(timeout) for _ in range(count)]


class Harness(ABC):
    """One kind of subscription of one broker, in memory or on a real server."""

    features: Features

    @abstractmethod
    def router(self, **options: Any) -> StreamRouter[Any]:
        """Return a new router on the server."""

    @abstractmethod
    def subscribe(self, router: StreamRouter[Any], address: str, **options: Any) -> Subscription:
        """Declare a subscriber of this kind, with the common options, `batch` and a few more:

        `group="name"`: subscriptions of one group share the messages; messages that nobody acknowledged are
        delivered again to the group after a restart.
        """

    def subscribe_replies(self, router: StreamRouter[Any], address: str) -> Subscription:
        """Declare a subscriber of the kind that `reply_to` means on this broker."""
        return self.subscribe(router, address)

    @abstractmethod
    def publisher(self, router: StreamRouter[Any], address: str, **options: Any) -> Publisher:
        """Declare a publisher whose messages `subscribe` of the same address receives."""

    @abstractmethod
    async def publish(self, broker: Any, message: Any, address: str, **options: Any) -> Any:
        """Publish so that `subscribe` of the same address receives it."""

    @abstractmethod
    async def publish_raw(self, broker: Any, body: bytes, headers: dict[str, str | bytes], address: str) -> None:
        """Publish exactly these bytes and headers, as a foreign service would; the client library may be used."""

    def address(self, template: str = "") -> str:
        """Return a fresh address; `template` is added to it after a dot."""
        name = f"test-{uuid4().hex[:12]}"
        return f"{name}.{template}" if template else name

    def concrete(self, address: str, **path: str) -> str:
        """Return the address of a template with its parameters filled in."""
        return address.format(**path)

    def test_broker_of(self, router: StreamRouter[Any]) -> type[TestBroker[Any]]:
        """Return the test broker that the router's package exports."""
        package = importlib.import_module(type(router).__module__.partition(".")[0])
        (name,) = (name for name in package.__all__ if re.fullmatch(r"Test\w+Broker", name))
        return cast("type[TestBroker[Any]]", getattr(package, name))

    @asynccontextmanager
    async def running(self, router: StreamRouter[Any], raise_errors: bool = False) -> AsyncIterator[Broker]:
        """Run the router's broker without an app."""
        async with router.broker as broker:
            yield broker

    @asynccontextmanager
    async def app_environment(self, router: StreamRouter[Any]) -> AsyncIterator[None]:
        """What has to be there before an app with the router starts."""
        yield


class MemoryHarness(Harness):
    """A harness over a test broker; a package derives its own kinds from it."""

    test_broker: Callable[..., TestBroker[Any]]

    @asynccontextmanager
    async def running(self, router: StreamRouter[Any], raise_errors: bool = False) -> AsyncIterator[Broker]:
        async with type(self).test_broker(router.broker, raise_errors=raise_errors) as broker:
            yield broker

    @asynccontextmanager
    async def app_environment(self, router: StreamRouter[Any]) -> AsyncIterator[None]:
        with type(self).test_broker(router.broker, raise_errors=False):
            yield


async def deliver(
    harness: Harness,
    handler: Callable[..., Any],
    body: Any,
    seen: Inbox,
    *,
    template: str = "",
    path: dict[str, str] | None = None,
    headers: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Publish one message to a handler and return what it put into its inbox."""
    router = harness.router()
    address = harness.address(template)
    harness.subscribe(router, address, **options)(handler)
    async with harness.running(router) as broker:
        await harness.publish(broker, body, harness.concrete(address, **(path or {})), headers=headers)
        return await seen.take()


async def until(condition: Callable[[], Any], timeout: float = DEADLINE, what: str = "it") -> None:
    """Let the loop run until a condition holds, `timeout` seconds at most; `what` names it in the failure."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"{what} did not happen in time")
        tick = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, tick.set)
        await tick.wait()
