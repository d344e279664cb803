"""The startup of an app as its server sees it: what its whole lifespan yields is the state of messages too."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .fastapi_compat import observe_lifespan

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .broker import Broker

__all__ = ("Startup", "startup_of")


class Startup:
    """Notes when the lifespan of an app has yielded, and gives its state to the brokers of the app."""

    def __init__(self) -> None:
        self._brokers: weakref.WeakSet[Broker] = weakref.WeakSet()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None

    def add(self, broker: Broker) -> None:
        """Give the state to one more broker."""
        self._brokers.add(broker)
        broker.startup = self

    def is_going_on(self) -> bool:
        """Tell whether the app starts right now, on this event loop."""
        return self._over is not None and not self._over.is_set() and self._loop is asyncio.get_running_loop()

    async def wait(self) -> None:
        """Wait until the app has started; or failed to, which stops the broker soon."""
        if self._over is not None and self.is_going_on():
            await self._over.wait()

    # What the lifespan tells.

    def begun(self) -> None:
        """Note that the server starts the app."""
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()

    def completed(self, state: Mapping[str, Any]) -> None:
        """Note what requests get as their state. A message finds its own broker in it, if there is one at all."""
        for broker in self._brokers:
            broker.state = {**state, "broker": broker} if "broker" in state else dict(state)
        self.ended()

    def ended(self) -> None:
        """Note that the startup is over."""
        if self._over is not None:
            self._over.set()


_startups: weakref.WeakKeyDictionary[FastAPI, Startup] = weakref.WeakKeyDictionary()


def startup_of(app: FastAPI) -> Startup:
    """Return the one of an app; from now on it is told of every lifespan."""
    known = _startups.get(app)
    if known is None:
        known = _startups[app] = Startup()
        observe_lifespan(app, known.begun, known.completed, known.ended)
    return known
