"""The life of an app as its server sees it: the state of messages when it has started, one end for all its brokers."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .app_compat import observe_lifespan
from .event_loop import running_loop

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .broker import Broker

__all__ = ("AppLife", "app_life_of")


class AppLife:
    """Notes when the lifespan of an app has yielded, and gives its state to the brokers of the app.

    The lifespans of several brokers nest, so they are left one after another. What consumes stops with the first one.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = weakref.ref(app)
        self._state: Mapping[str, Any] | None = None
        self._brokers: weakref.WeakSet[Broker] = weakref.WeakSet()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._connected: asyncio.Event | None = None
        self._is_ending = False

    def add(self, broker: Broker) -> None:
        """Give overrides and state to one more broker, unless it runs for another app."""
        self._brokers.add(broker)
        if broker._life.host in (None, self):
            broker.app, broker.app_life = self._app(), self

    def take(self, broker: Broker, state: Mapping[str, Any]) -> None:
        """Give overrides and state to a broker that runs for this app now; that state, if the app has none yet."""
        broker.app, broker.app_life, broker.state = self._app(), self, state
        self._give_state(broker)

    def _give_state(self, broker: Broker) -> None:
        """A message finds its own broker in the state, if there is one at all."""
        if self._state is not None and broker.app_life is self:
            state = self._state
            broker.state = {**state, "broker": broker} if "broker" in state else dict(state)

    def is_starting(self) -> bool:
        """Tell whether the app starts right now, on this event loop."""
        return self._over is not None and not self._over.is_set() and self._loop is asyncio.get_running_loop()

    async def started(self) -> None:
        """Wait until the app has started; or failed to, which stops the broker soon."""
        if self._over is not None and self.is_starting():
            await self._over.wait()

    async def all_connected(self) -> None:
        """Wait until every broker of the app is started, or the startup is over."""
        if self._connected is not None and self.is_starting():
            self.connected()
            await self._connected.wait()

    async def drain(self) -> None:
        """Have all that ends with the app stop to consume, when its server has asked for the end, and wait for it.

        Handlers of all brokers finish at the same time, and publish to any of them meanwhile: each broker keeps its
        connection until its own lifespan is left.
        """
        if self._is_ending and self._loop is asyncio.get_running_loop():
            stops = [broker._life.drain(self) for broker in self._brokers]
            await asyncio.gather(*(stop.drained.wait() for stop in stops if stop is not None))

    def connected(self) -> None:
        """Note that a broker is started."""
        if self._connected is not None and all(broker.running for broker in self._brokers):
            self._connected.set()

    # What the lifespan tells.

    def begun(self) -> None:
        """Note that the server starts the app.

        Raises:
            SetupError: this is not asyncio.
        """
        self._loop, self._over = running_loop("FastAPI"), asyncio.Event()
        self._connected = asyncio.Event()
        self._is_ending = False

    def completed(self, state: Mapping[str, Any]) -> None:
        """Note what requests get as their state."""
        self.ended()
        self._state = state
        for broker in self._brokers:
            self._give_state(broker)

    def ending(self) -> None:
        """Note that the server has asked for the end."""
        self._is_ending = True

    def ended(self) -> None:
        """Note that the startup is over, and whatever came after it."""
        self._state = None
        for event in (self._over, self._connected):
            if event is not None:
                event.set()


_lives: weakref.WeakKeyDictionary[FastAPI, AppLife] = weakref.WeakKeyDictionary()


def app_life_of(app: FastAPI) -> AppLife:
    """Return the one of an app; from now on it is told of every lifespan."""
    known = _lives.get(app)
    if known is None:
        known = _lives[app] = AppLife(app)
        observe_lifespan(app, known)
    return known
