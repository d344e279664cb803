"""The life of a broker: one owner of its starts and stops, so that each of them ends whole.

The work runs in a task of its own; callers only wait for it. So a caller that is cancelled never leaves half of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .errors import StartInterrupted, WrongEventLoop
from .event_loop import running_loop
from .impatience import begin_anew, hurried
from .isolation import is_within
from .run import Run
from .transition import Start, Stop

if TYPE_CHECKING:
    from .app_life import AppLife
    from .broker import Broker
    from .transport import Transport

__all__ = ("Life", "Phase")

R = TypeVar("R")


class Phase(Enum):
    """What a broker does."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class _User(NamedTuple):
    """A lifespan that uses the broker: of which app, on which event loop, and what its messages have as their state."""

    app: AppLife | None
    loop: asyncio.AbstractEventLoop
    state: Mapping[str, Any]


class Life:
    """Starts and stops one broker.

    Callers that start at the same time share one start. A stop ends a start that is going on; whoever waits for that
    one gets `StartInterrupted`. A start whose callers are all cancelled is undone. A stop goes on when its caller is
    cancelled. Every step is bounded, so each of them ends started or stopped, with nothing left.

    Attributes:
        phase: what the broker does.
        run: the connection, from the begin of a start to the end of a stop.
        make_transport: makes the connection of the next start.
        standby: where messages are published while the broker is not started: the memory of a test broker.
        transport: where a message is published now; None for nowhere.
        loop: the event loop that may publish; None for any.
    """

    def __init__(self, broker: Broker) -> None:
        self.phase = Phase.STOPPED
        self.run: Run | None = None
        self.make_transport: Callable[[], Transport] = broker.transport
        self.standby: Transport | None = None
        self.transport: Transport | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._broker = broker
        self._home: asyncio.AbstractEventLoop | None = None
        self._users: dict[object, _User] = {}
        self._ends_with_users = False
        self._start: Start | None = None
        self._stop: Stop | None = None
        self._task: asyncio.Task[None] | None = None

    # Start and stop.

    async def start(self) -> None:
        """Start, or wait for the start that is going on.

        Raises:
            StartInterrupted: the broker was stopped meanwhile, or the stop waits for the caller.
            SetupError: a publisher would never publish, declarations contradict each other, or this is not asyncio.
            WrongEventLoop: it is started on another event loop.
        """
        running_loop(type(self._broker).__name__)
        self._abandon_ended()
        while self.phase is not Phase.RUNNING:
            if self._awaits_caller():
                raise StartInterrupted(type(self._broker).__name__, by_handler=True)
            if await self._is_elsewhere():
                continue
            if self.phase is Phase.STOPPED:
                self._begin_start()
            if self.phase is Phase.STARTING and self._start is not None:
                return await self._share(self._start)
            await self._settled()
        if await self._is_elsewhere() and self.loop is not None:
            raise WrongEventLoop(type(self._broker).__name__)
        if self._start is not None:
            self._start.is_wanted = True

    async def _share(self, start: Start) -> None:
        start.waiting += 1
        try:
            await self._settled()
        except asyncio.CancelledError:
            start.waiting -= 1
            if not start.waiting and not start.is_wanted and self._start is start:
                self._end()
                await self._settled()
            raise
        start.waiting -= 1
        if start.error is not None:
            raise start.error
        start.is_wanted = True

    async def stop(self) -> None:
        """Stop, or wait for the stop that is going on; in a handler only begin to, since the stop waits for it."""
        if await self._is_elsewhere():
            return await self._at_home(self.stop)
        if is_within(self._broker):
            return self._end_soon()
        if self.phase is Phase.RUNNING:
            await self._settled()  # while the connection is lent, or given back
        self._end()
        await self._settled()

    def _end_soon(self) -> None:
        if self.phase is Phase.RUNNING and self._task is not None and not self._task.done():
            self._task.add_done_callback(lambda _: self._end())  # while the connection is lent, or given back
        else:
            self._end()

    def _awaits_caller(self) -> bool:
        return self.phase is Phase.STOPPING and is_within(self._broker)

    def _end(self) -> None:
        if self.phase is Phase.RUNNING and self.run is not None:
            self._begin_stop(self.run).release()
        elif self.phase is Phase.STARTING and self._start is not None:
            self.phase = Phase.STOPPING
            self._start.interrupt()

    async def _settled(self) -> None:
        """Wait for the work that is going on: it never raises, and is not cancelled with its caller."""
        if self._stop is not None:
            self._stop.release()
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task})

    # For the time of a lifespan.

    async def enter(self, app: AppLife | None, state: Mapping[str, Any]) -> object:
        """Start for a lifespan; several of them share one broker, and the last one that leaves stops it.

        Of several apps the first one has its overrides and its state apply, until it leaves.

        Args:
            app: whose lifespan it is part of, if that is known.
            state: what messages have as the state of that app, until it has started.

        Returns:
            What `leave` takes at the end of the lifespan.
        """
        self._abandon_ended()
        is_first = self.phase in (Phase.STOPPED, Phase.STOPPING)
        if self.host in (None, app):
            self._broker.state = state
        await self.start()
        if self.run is None:
            raise StartInterrupted(type(self._broker).__name__)
        self._ends_with_users = self._ends_with_users or is_first
        user = object()
        self._users[user] = _User(app, asyncio.get_running_loop(), state)
        self._hand_over()
        return user

    @property
    def host(self) -> AppLife | None:
        """The app that the broker runs for: the first one of those whose lifespans use it."""
        hosts = (one.app for one in self._users.values() if one.app is not None and not one.loop.is_closed())
        return next(hosts, None)

    def _hand_over(self) -> None:
        """Have the overrides and the state of the app apply that the broker runs for now."""
        host = self.host
        if host is not None and self._broker.app_life is not host:
            host.take(self._broker, next(one.state for one in self._users.values() if one.app is host))

    async def leave(self, user: object) -> None:
        """End the use by a lifespan, whoever started the broker again meanwhile.

        A broker that was started before any lifespan goes on.
        """
        if user not in self._users:  # its loop has ended
            return
        app = self._users.pop(user).app
        self._hand_over()
        if self._users or not self._ends_with_users:
            return
        try:
            if app is not None:
                await app.drain()
        finally:
            if not self._users:
                self._ends_with_users = False
                await self.stop()

    def drain(self, app: AppLife) -> Stop | None:
        """Begin to stop if nothing but this app uses the broker; the connection goes when its lifespan is left.

        Whoever calls `stop` or `start` meanwhile does not wait for that.

        Returns:
            The stop that goes on, if there is one.
        """
        if self._home is not asyncio.get_running_loop():
            return None
        is_its_own = self._ends_with_users and all(one.app is app for one in self._users.values())
        is_lent = self._task is not None and not self._task.done()
        if self.phase is Phase.RUNNING and self.run is not None and is_its_own and not is_lent:
            return self._begin_stop(self.run)
        return self._stop

    # The work, in a task of its own.

    def _begin_start(self) -> None:
        self._broker.refuse_idle_publishers()
        self._broker.check_agreement()
        begin_anew()
        self.run = Run(self._broker, self.make_transport())
        self._start = Start(self.run)
        self._home = asyncio.get_running_loop()
        self.phase = Phase.STARTING
        self._work(self._do_start(self._start), "start")

    def _begin_stop(self, run: Run) -> Stop:
        self.phase, self._stop = Phase.STOPPING, Stop()
        self._work(self._do_stop(run, self._stop), "stop")
        return self._stop

    def _work(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """The task has a copy of the caller's context, which is the one that handlers start from."""
        self._task = asyncio.get_running_loop().create_task(work, name=f"{name} {type(self._broker).__name__}")
        self._task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and self._task is task:  # The loop ended before the first step.
            self.abandon()

    async def _do_start(self, start: Start) -> None:
        if not start.is_interrupted:
            await start.until(asyncio.get_running_loop().create_task(self._open(start)))
        if start.is_interrupted:
            start.error = StartInterrupted(type(self._broker).__name__)
        if start.error is None:
            self.phase = Phase.RUNNING
            if self._broker.app_life is not None:
                self._broker.app_life.connected()
            return
        self.phase = Phase.STOPPING
        await start.run.unsubscribe(0.0)
        await self._close(start.run)

    async def _open(self, start: Start) -> None:
        await start.run.connect()
        if not start.is_interrupted:
            self._publish_through(start.run.transport)
            await start.run.subscribe()

    async def _do_stop(self, run: Run, stop: Stop) -> None:
        with hurried():
            await run.unsubscribe(self._broker.options["graceful_timeout"])
            await stop.released()
            await self._close(run)

    async def _close(self, run: Run) -> None:
        self._publish_through(self.standby)
        await run.close()
        self._forget()

    def _forget(self) -> None:
        if self._stop is not None:
            self._stop.drained.set()
        self._stop = None
        self.phase = Phase.STOPPED
        self.run = self._start = self._home = None
        self._publish_through(self.standby)

    def _publish_through(self, transport: Transport | None) -> None:
        self.transport = transport
        self.loop = None if transport is None or transport.any_loop else self._home

    # Other event loops.

    async def _is_elsewhere(self) -> bool:
        """Tell whether another loop runs the broker; wait until that one has made up its mind.

        Raises:
            WrongEventLoop: that loop stands still.
        """
        self._abandon_ended()
        if self._home is None or self._home is asyncio.get_running_loop():
            return False
        if not self._home.is_running():
            raise WrongEventLoop(type(self._broker).__name__)
        if self.phase is not Phase.RUNNING and not self._awaits_caller():
            await self._at_home(self._settled)
        return True

    async def _at_home(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        home = self._home or asyncio.get_running_loop()  # it may have stopped meanwhile
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), home))

    def _abandon_ended(self) -> None:
        if self._home is not None and self._home.is_closed():
            self.abandon()

    def abandon(self) -> None:
        """Forget what belongs to a loop that has ended."""
        if self.run is not None:
            self.run.abandon()
        self._users.clear()
        self._ends_with_users = False
        self._task = None
        self._forget()

    # The connection for the time of a test.

    def replace(
        self, make_transport: Callable[[], Transport], standby: Transport | None
    ) -> tuple[Callable[[], Transport], Transport | None]:
        """Use other connections from now on, and return those of before; a running one goes on."""
        before = self.make_transport, self.standby
        self.make_transport, self.standby = make_transport, standby
        if self.run is None:
            self._publish_through(standby)
        return before

    def taken_from(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop from which a test would take the broker; None when it is not started."""
        self._abandon_ended()
        return self._home

    async def lend(self, transport: Transport) -> bool:
        """Let another connection take the place of the running one, which stays open; a start is waited for.

        Returns:
            Whether there was one.

        Raises:
            BrokerUnavailable: the subscriptions could not be positioned; the broker is stopped.
        """
        return await self._swap(lambda run: run.swap(transport, self._broker.options["graceful_timeout"]))

    async def give_back(self) -> None:
        """Go on over the connection of before, if another one took its place.

        Raises:
            BrokerUnavailable: the subscriptions could not be positioned again; the broker is stopped.
        """
        await self._swap(lambda run: run.swap_back(1.0))

    async def _swap(self, swap: Callable[[Run], Coroutine[Any, Any, None]]) -> bool:
        if await self._is_elsewhere():
            return await self._at_home(lambda: self._swap(swap))
        await self._settled()
        if self.phase is not Phase.RUNNING or self.run is None:
            return False
        errors: list[BaseException] = []
        self._work(self._do_swap(self.run, swap(self.run), errors), "swap")
        await self._settled()
        if errors:
            raise errors[0]
        return True

    async def _do_swap(self, run: Run, swap: Coroutine[Any, Any, None], errors: list[BaseException]) -> None:
        try:
            await swap
        except BaseException as error:
            errors.append(error)
            self.phase = Phase.STOPPING
            await run.unsubscribe(0.0)
            await self._close(run)
        else:
            self._publish_through(run.transport)
