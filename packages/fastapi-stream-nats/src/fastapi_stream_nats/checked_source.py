"""Whether the consumer that a source reads is still the one that it was bound to."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import StreamError
from fastapi_stream_core.report import describe
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, ConsumerInfo
from nats.js.errors import NotFoundError, ServiceUnavailableError

from .jetstream import API_SECONDS, HEARTBEAT_SECONDS, delete_consumer
from .settings import changes, paused_until, sets_again
from .source import CONFIRM_SECONDS, NatsSource
from .successor import Successor

if TYPE_CHECKING:
    from nats.js.manager import JetStreamManager

    from .client import Connection
    from .subscription import NatsSubscription
    from .transport import NatsTransport

__all__ = ("MISSED_SECONDS", "NO_ANSWER", "TICK_SECONDS", "VERIFY_SECONDS", "CheckedSource", "ConsumerLost")

MISSED_SECONDS = 2.5 * HEARTBEAT_SECONDS
TICK_SECONDS = 1.0
VERIFY_SECONDS = 0.5
"""The shortest time between two questions whether a consumer still exists."""
QUIET_LOOK_SECONDS = 15.0
"""A consumer that gives no message for so long is asked for, though the server says that it still delivers."""
BUSY_LOOK_SECONDS = 30.0
"""The same while messages come: they may be fewer than they should be."""
PAUSED_LOOK_SECONDS = 5.0
"""The same while it is paused."""
UNANSWERED_SECONDS = 3.0
"""How long JetStream may leave questions without an answer, more than one, until that is said."""
STREAM_SECONDS = 1.0
"""How long the stream of a consumer that does not answer may take to answer itself."""

NO_ANSWER = (NatsError, ValueError, TypeError, KeyError, AttributeError)
"""What the client raises when a question has no answer, or one that is none."""


class ConsumerLost(StreamError):
    """The server has ended a consumer.

    Attributes:
        consumer: its name.
        reason: what the server said.
        is_told: whether its stream is gone too: who makes the next consumer says what became of that.
    """

    def __init__(self, consumer: str, reason: str, is_told: bool = False) -> None:
        super().__init__(f"the server ended the consumer {consumer!r}: {reason}; it is made again.")
        self.consumer = consumer
        self.reason = reason
        self.is_told = is_told


class ConsumerAway(StreamError):
    """Nobody answers for a consumer of a subscriber's own, and somebody does for its stream.

    Attributes:
        consumer: its name.
    """

    def __init__(self, consumer: str) -> None:
        super().__init__(
            f"nobody answers for the consumer {consumer!r}, though its stream is there, as when its server is away;"
            " another one is made."
        )
        self.consumer = consumer


class ConsumerChanged(StreamError):
    """Somebody has changed a consumer at the server so that a start would not take it as it is.

    Attributes:
        consumer: its name.
        changes: the settings as they are now.
    """

    def __init__(self, consumer: str, changes: str) -> None:
        super().__init__(
            f"the consumer {consumer!r} was changed at the server: {changes}; what is declared here is set again where"
            " the server allows it."
        )
        self.consumer = consumer
        self.changes = changes


class CheckedSource(NatsSource):
    """Settles nothing while it is in doubt: a consumer of the same name gives the same addresses to other messages."""

    def __init__(self, subscription: NatsSubscription, transport: NatsTransport) -> None:
        super().__init__(subscription, transport)
        self._progress = transport.progress_of(subscription)
        self._stream = ""
        self._consumer = ""
        self._created: datetime | None = None
        self._config = ConsumerConfig()
        self._gone = False
        self._changed = False
        self._seen = 0.0
        self._verified = 0.0
        self._looked = 0.0
        self._came = 0.0
        self._paused: str | None = None
        self._doubt = False
        self._suspicions = 0
        self._unanswered: float | None = None
        self._is_away = False
        self._is_refused = False
        self._is_abandoned = False
        self._checking: asyncio.Task[None] | None = None
        self._successor: Successor | None = None
        self._losses = -1
        self._answers: list[bytes] = []
        self._contested: list[bytes] = []

    def disconnected(self) -> None:
        self._doubt = True
        self._unanswered = None
        if self.connection is not None:
            # The client sends what waits as soon as it is connected, to whatever consumer is there then.
            self._answers[:0] = self.connection.withdraw(b"PUB " + self._origin.prefix)

    def reconnected(self) -> None:
        self._suspect()

    def _suspect(self) -> None:
        """Make sure that the consumer exists, and settle nothing until that is certain; it is not asked too often."""
        self._doubt = True
        self._suspicions += 1
        self._look()

    def _look(self) -> None:
        """Ask for the consumer; where there is no doubt, messages are settled meanwhile."""
        if self._checking is None and not self._closed:
            self._checking = asyncio.get_running_loop().create_task(self._check())

    async def _check(self) -> None:
        """Ask once, and where there is doubt until it is certain, or the connection is lost."""
        try:
            if not self._doubt:
                await self._verify()
            while self._doubt and self.connection is not None and self.connection.is_connected:
                await asyncio.sleep(self._verified + VERIFY_SECONDS - monotonic())
                suspicions, answers, contested = self._suspicions, len(self._answers), len(self._contested)
                self._verified = monotonic()
                if await self._verify():
                    del self._contested[:contested]  # the server delivers what it knows of them again
                    self._doubt = suspicions != self._suspicions
                    self._settle(answers if self._doubt else len(self._answers))
                    self.wake()
                else:
                    await asyncio.sleep(TICK_SECONDS)
        except (ConsumerLost, ConsumerAway) as error:
            self.lost(error)
        finally:
            self._checking = None

    def _settle(self, count: int) -> None:
        """Send what was settled before the server said that the consumer is still the same."""
        answers = self._answers[:count]
        del self._answers[:count]
        if self._gone:
            if self._successor is not None and (commands := self._successor.own(b"".join(answers))):
                self._progress.owe(self._successor.created, commands)
            return
        if self._progress.life != self._origin.life:
            return
        connection = self.connection
        if connection is None or not connection.is_connected or self._losses != self.transport.losses:
            # Since then another consumer may have come into its place: the source that follows this one asks.
            if answers:
                self._progress.owe(self._created, b"".join(answers))
        elif commands := b"".join(answers) + (b"" if self._closed else self._progress.owed(self._created)):
            connection.write(commands)

    async def _verify(self) -> bool:
        """Ask for the consumer; tell whether the server answered. Until then everything stays as it is.

        Raises:
            ConsumerLost: it does not exist, or is another one of the same name.
            ConsumerAway: it is this subscriber's own, and its server is away.
        """
        self._looked = monotonic()
        connection = self.connection
        if connection is None or not connection.is_connected:
            return False
        manager, losses, asked = connection.jsm(timeout=API_SECONDS), self.transport.losses, monotonic()
        try:
            info: ConsumerInfo = await manager.consumer_info(self._stream, self._consumer)
            is_same = info.created.timestamp() == (self._created and self._created.timestamp())
            if is_same:
                self._note(info)
        except NotFoundError as error:
            self._gone = self._doubt = True
            self._answered()
            reason, told = error.description or "it does not exist", await self._is_stream_gone(manager)
            raise ConsumerLost(self._consumer, reason, told) from error
        except NO_ANSWER as error:  # what waits here is still ours
            if self._doubt:
                await self._note_unanswered(connection, error, asked, losses)
            return False
        self._answered()
        if not is_same:
            self._gone = self._doubt = True
            told = await self._is_stream_gone(manager)
            raise ConsumerLost(self._consumer, "another one of the same name is in its place", told)
        self._seen, self._losses = monotonic(), losses
        return True

    def _note(self, info: ConsumerInfo) -> None:
        """Take note of what the server says of the consumer; fails as `NO_ANSWER` where it is not what it should be."""
        if changed := changes(self._config, info.config):
            self._note_changes(info, changed)
        self._note_pause(info)
        self._progress.bound(self._progress.life, info)

    def _note_changes(self, info: ConsumerInfo, changed: str) -> None:
        """Say what somebody changed at the server, and go on with it, or do what a start does where it would not."""
        moved = info.config.deliver_subject != self._config.deliver_subject
        is_declared_again = moved or sets_again(self.subscription, info)
        self._adopt(info.config)
        if is_declared_again:
            self._changed = True
            self.lost(ConsumerChanged(self._consumer, changed))
            return
        text = "%s: the consumer %r was changed at the server: %s; it is read on as it is"
        self._report(logging.WARNING, text, self._consumer, changed)

    def _adopt(self, config: ConsumerConfig) -> None:
        """Follow the settings of the consumer."""
        self._config = config

    def _note_pause(self, info: ConsumerInfo) -> None:
        """Say that somebody paused the consumer at the server, until when, and when that is over."""
        before, self._paused = self._paused, paused_until(info)
        if self._paused == before:
            return
        if self._paused is None:
            self._report(logging.INFO, "%s: the consumer %r is not paused any more", self._consumer)
        else:
            text = "%s: the consumer %r is paused at the server, and gives no messages until %s"
            self._report(logging.WARNING, text, self._consumer, self._paused)
        self._follow_obstacles()

    async def _note_unanswered(self, connection: Connection, error: Exception, asked: float, losses: int) -> None:
        """Say once that JetStream does not answer, if it was asked more than once and the connection is all right.

        Raises:
            ConsumerAway: it answers for the stream, so that another consumer can be made: nobody else reads this one.
        """
        if self._is_away:
            return
        if not await self.transport.ping(CONFIRM_SECONDS) or losses != self.transport.losses:
            self._unanswered = None
        elif self._unanswered is None:
            self._unanswered = asked
        elif monotonic() - self._unanswered >= UNANSWERED_SECONDS:
            if self._progress.own and not self._is_refused and await self._is_stream_there(connection):
                self._is_abandoned = True
                raise ConsumerAway(self._consumer)
            self._is_away = True
            text = "%s: JetStream does not answer: %s; it is asked until it does"
            self._report(logging.WARNING, text, _why(error))
            self._follow_obstacles()

    def refused(self, text: str) -> bool:
        if f'publish to "$JS.API.CONSUMER.INFO.{self._stream}.{self._consumer}"'.lower() not in text.lower():
            return super().refused(text)
        if not self._is_refused:
            self._is_refused = True
            said = "%s: whether the consumer %r is paused, changed or deleted can't be known: %s"
            self._report(logging.WARNING, said, self._consumer, text)
        return True

    def _answered(self) -> None:
        self._unanswered = None
        self._is_refused = False
        if self._is_away:
            self._is_away = False
            self._report(logging.INFO, "%s: JetStream answers again")
            self._follow_obstacles()

    def _report(self, level: int, text: str, *values: object) -> None:
        self.subscription.broker.report.line(level, text, self.subscription.label, *values)

    def _follow_obstacles(self) -> None:
        """Have the subscription back off while something is in the way of all messages."""
        awaits = self._is_hindered()
        if awaits is not self.awaits:
            self.awaits = awaits
            self.wake()

    def _is_hindered(self) -> bool:
        return self._is_away or self._paused is not None

    async def _find_successor(self) -> None:
        """Unsubscribe, and ask whose messages came since the consumer is gone: their settlement is for that one."""
        connection = self.connection
        if connection is None or not connection.is_connected or connection.is_silent:
            return
        manager, losses = connection.jsm(timeout=API_SECONDS), self.transport.losses
        try:
            await self._unsubscribe()  # before the question: what comes until then may be of one that is made meanwhile
            consumer = await manager.consumer_info(self._stream, self._consumer)
            stream = await manager.stream_info(self._stream)
        except NO_ANSWER:  # there is none, or the server does not answer
            return
        self._successor = Successor(consumer, stream, self._origin.life, self._origin.prefix)
        self._losses = losses

    async def _is_stream_gone(self, manager: JetStreamManager) -> bool:
        """Tell whether the stream was deleted, or another one is in its place."""
        try:
            return (await manager.stream_info(self._stream)).created != self._progress.life
        except NotFoundError:
            return True
        except NO_ANSWER:
            return False

    async def _is_stream_there(self, connection: Connection) -> bool:
        """Tell whether the stream that was read answers."""
        manager = connection.jsm(timeout=STREAM_SECONDS)
        try:
            return (await manager.stream_info(self._stream)).created == self._progress.life
        except NO_ANSWER:
            return False

    async def _delete(self, connection: Connection) -> None:
        """Delete the consumer; one that is away, and can't confirm it, is gone when its server is back."""
        if self._is_abandoned:
            connection.write(f"PUB $JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}  0\r\n\r\n".encode())
        else:
            await delete_consumer(connection.jsm(timeout=API_SECONDS), self._stream, self._consumer)

    def _heard(self) -> float:
        """When it was last certain that the consumer is still the same."""
        return self._seen

    def _quiet_seconds(self) -> float:
        """How long it may be quiet before something is wrong."""
        return MISSED_SECONDS

    def _is_look_due(self, now: float) -> bool:
        """Tell whether the consumer is to be asked for, though nothing is wrong."""
        since = now - self._looked
        if self._paused is not None:
            return since > PAUSED_LOOK_SECONDS
        return since > BUSY_LOOK_SECONDS or min(since, now - self._came) > QUIET_LOOK_SECONDS


def _why(error: Exception) -> str:
    """Return why a question had no answer; the client says of a server that has nobody to answer only its class."""
    if isinstance(error, ServiceUnavailableError):
        return error.description or "the server has none that is ready"
    return describe(error)
