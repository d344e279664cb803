"""One run of a broker: a connection and the subscriptions on it, from a start to its stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from .errors import BrokerUnavailable
from .impatience import hurried
from .ping import answers
from .step import ended, step
from .supervisor import Supervisor, start_all

if TYPE_CHECKING:
    from .broker import Broker
    from .transport import Transport

__all__ = ("Run",)

CONNECT_SECONDS = 5.0
"""What a transport may take beyond `startup_timeout` to say that the broker is away."""
WATCH_SECONDS = 10.0
AWAY_SECONDS = 1.0
"""Between two questions to a broker that answers, and to one that does not."""
PING_SECONDS = 3.0
CLOSE_SECONDS = 30.0
"""For a transport to flush what is being published, and to close."""


class Run:
    """A connection and the subscriptions on it.

    Attributes:
        transport: the connection.
        aside: the connections that are not used while a test broker has the run, the last one put aside at the end.
        supervisors: one for each subscription that has a handler.
    """

    def __init__(self, broker: Broker, transport: Transport) -> None:
        self.transport = transport
        self.aside: list[Transport] = []
        self.supervisors: list[Supervisor] = []
        self._watch: asyncio.Task[None] | None = None
        self._broker = broker

    async def connect(self) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: the broker was away for `startup_timeout` seconds.
        """
        seconds = self._broker.options["startup_timeout"] + CONNECT_SECONDS
        try:
            await asyncio.wait_for(self.transport.start(), seconds)
        except asyncio.TimeoutError as error:
            raise BrokerUnavailable(self._broker.address, "connect", seconds) from error

    async def subscribe(self) -> None:
        """Start the subscriptions as they are declared now; return when every one of them is positioned.

        Raises:
            BrokerUnavailable: one of them was not positioned in time.
        """
        for one in self._broker.subscribers:
            if one.handlers:
                self.supervisors.append(Supervisor(one, self.transport))
        await start_all(self.supervisors, self._broker.options["startup_timeout"], self._broker.address)
        if self.supervisors and not self.transport.any_loop:
            self._watch = asyncio.get_running_loop().create_task(self._watch_over(self.supervisors))

    async def _watch_over(self, supervisors: Sequence[Supervisor]) -> None:
        """Have the status say when the broker is away; a client that connects again by itself tells nobody.

        A subscription that gets on with its messages needs no question.
        """
        before = -1
        while True:
            away = any(one.is_away for one in supervisors)
            await asyncio.sleep(AWAY_SECONDS if away else WATCH_SECONDS)
            handled = sum(one.dispatcher.handled for one in supervisors)
            is_there = handled != before or await answers(self.transport, PING_SECONDS, self._broker.report)
            before = handled
            for one in supervisors:
                one.is_away = not is_there

    async def unsubscribe(self, timeout: float | None) -> None:
        """Stop the subscriptions; handlers that run have `timeout` seconds, or until somebody is impatient.

        Never raises.
        """
        supervisors, self.supervisors = self.supervisors, []

        def hurry() -> None:
            for one in supervisors:
                one.hurry()

        loop = asyncio.get_running_loop()
        if self._watch is not None:
            self._watch.cancel()
            await ended([self._watch], None)
            self._watch = None
        tasks = {loop.create_task(one.stop(timeout)): one for one in supervisors}
        with hurried(hurry):
            await ended(tasks, None)
        for task, one in tasks.items():
            error: BaseException | None
            if task.cancelled():  # A loop that ends has cancelled it before its first turn.
                error = await step(partial(one.stop, timeout), None)
            else:
                error = task.exception()
            if error is not None:
                self._broker.report.line(logging.ERROR, "a subscription did not stop cleanly: %r", error)

    async def close(self) -> None:
        """Close every socket. Never raises."""
        for transport in (self.transport, *self.aside):
            if (error := await step(transport.close, CLOSE_SECONDS)) is not None:
                self._broker.report.line(logging.ERROR, "the connection did not close cleanly: %r", error)

    async def swap(self, transport: Transport, timeout: float | None) -> None:
        """Go on over another connection, which is started already, and put this one aside."""
        await self.unsubscribe(timeout)
        self.aside.append(self.transport)
        self.transport = transport
        await self.subscribe()

    async def swap_back(self, timeout: float) -> None:
        """Go on over the connection that was put aside last, if there is one."""
        if self.aside:
            await self.unsubscribe(timeout)
            self.transport = self.aside.pop()
            await self.subscribe()

    def abandon(self) -> None:
        """Forget everything; the event loop has ended."""
        for one in self.supervisors:
            one.abandon()
        self.supervisors.clear()
        self._watch = None
