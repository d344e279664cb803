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
from nats.js.errors import NotFoundError, ServiceUnavailableError

from .jetstream import API_SECONDS, HEARTBEAT_SECONDS
from .source import CONFIRM_SECONDS, NatsSource
from .successor import Successor

if TYPE_CHECKING:
    from nats.js.manager import JetStreamManager

    from .subscription import NatsSubscription
    from .transport import NatsTransport

__all__ = ("MISSED_SECONDS", "TICK_SECONDS", "CheckedSource", "ConsumerLost")

MISSED_SECONDS = 2.5 * HEARTBEAT_SECONDS
TICK_SECONDS = 1.0
VERIFY_SECONDS = 0.5
"""The shortest time between two questions whether a consumer still exists."""
UNANSWERED_SECONDS = 3.0
"""How long JetStream may leave questions without an answer, more than one, until that is said."""


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


class CheckedSource(NatsSource):
    """Settles nothing while it is in doubt: a consumer of the same name gives the same addresses to other messages."""

    def __init__(self, subscription: NatsSubscription, transport: NatsTransport) -> None:
        super().__init__(subscription, transport)
        self._progress = transport.progress_of(subscription)
        self._stream = ""
        self._consumer = ""
        self._created: datetime | None = None
        self._deliver_subject: str | None = None
        self._gone = False
        self._seen = 0.0
        self._verified = 0.0
        self._doubt = False
        self._suspicions = 0
        self._unanswered: float | None = None
        self._is_away = False
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
        if self._checking is None and not self._closed:
            self._checking = asyncio.get_running_loop().create_task(self._check())

    async def _check(self) -> None:
        """Ask until it is certain, or the connection is lost."""
        try:
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
        except ConsumerLost as error:
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
        """
        connection = self.connection
        if connection is None or not connection.is_connected:
            return False
        manager, losses, asked = connection.jsm(timeout=API_SECONDS), self.transport.losses, monotonic()
        try:
            info = await manager.consumer_info(self._stream, self._consumer)
        except NotFoundError as error:
            self._gone = True
            self._answered()
            reason, told = error.description or "it does not exist", await self._is_stream_gone(manager)
            raise ConsumerLost(self._consumer, reason, told) from error
        except (NatsError, ValueError, TypeError, KeyError) as error:  # what waits here is still ours
            await self._note_unanswered(error, asked, losses)
            return False
        self._answered()
        if info.created != self._created:
            self._gone = True
            told = await self._is_stream_gone(manager)
            raise ConsumerLost(self._consumer, "another one of the same name is in its place", told)
        if info.config.deliver_subject != self._deliver_subject:
            raise ConsumerLost(self._consumer, "it delivers to another subject")
        self._progress.bound(self._progress.life, info)
        self._seen, self._losses = monotonic(), losses
        return True

    async def _note_unanswered(self, error: Exception, asked: float, losses: int) -> None:
        """Say once that JetStream does not answer, if it was asked more than once and the connection is all right."""
        if self._is_away:
            return
        if not await self.transport.ping(CONFIRM_SECONDS) or losses != self.transport.losses:
            self._unanswered = None
        elif self._unanswered is None:
            self._unanswered = asked
        elif monotonic() - self._unanswered >= UNANSWERED_SECONDS:
            self._is_away = True
            report, label = self.subscription.broker.report, self.subscription.label
            text = "%s: JetStream does not answer: %s; it is asked until it does"
            report.line(logging.WARNING, text, label, _why(error))
            self._follow_obstacles()

    def _answered(self) -> None:
        self._unanswered = None
        if self._is_away:
            self._is_away = False
            report, label = self.subscription.broker.report, self.subscription.label
            report.line(logging.INFO, "%s: JetStream answers again", label)
            self._follow_obstacles()

    def _follow_obstacles(self) -> None:
        """Have the subscription back off while something is in the way of all messages."""
        awaits = self._is_hindered()
        if awaits is not self.awaits:
            self.awaits = awaits
            self.wake()

    def _is_hindered(self) -> bool:
        return self._is_away

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
        except (NatsError, ValueError, TypeError, KeyError):  # there is none, or the server does not answer
            return
        self._successor = Successor(consumer, stream, self._origin.life, self._origin.prefix)
        self._losses = losses

    async def _is_stream_gone(self, manager: JetStreamManager) -> bool:
        """Tell whether the stream was deleted, or another one is in its place."""
        try:
            return (await manager.stream_info(self._stream)).created != self._progress.life
        except NotFoundError:
            return True
        except (NatsError, ValueError, TypeError, KeyError):
            return False

    def _heard(self) -> float:
        """When it was last certain that the consumer is still the same."""
        return self._seen

    def _quiet_seconds(self) -> float:
        """How long it may be quiet before something is wrong."""
        return MISSED_SECONDS


def _why(error: Exception) -> str:
    """Return why a question had no answer; the client says of a server that has nobody to answer only its class."""
    if isinstance(error, ServiceUnavailableError):
        return error.description or "the server has none that is ready"
    return describe(error)
