"""How far a subscriber has come in its stream, for the consumer that follows one that was lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from nats.js.api import ConsumerConfig, ConsumerInfo, DeliverPolicy, RetentionPolicy, StreamInfo

if TYPE_CHECKING:
    from .parser import Wire

__all__ = ("Progress",)

MOST_OWED = 10_000
"""Most writes that are kept for the next connection; the server repeats what was not acknowledged in time anyway."""


class Progress:
    """What a subscriber has read of one life of its stream. A stream that was deleted and made again has a new life.

    Args:
        own: whether the consumer is this subscriber's own, so that nobody else reads for it.

    Attributes:
        own: as above.
        life: when the stream was created; None before the first consumer.
    """

    def __init__(self, own: bool) -> None:
        self.own = own
        self.life: datetime | None = None
        self._again = False
        self._is_queue = False
        self._open: dict[int, None] = {}
        self._last = 0
        self._floor = 0
        self._owed: deque[tuple[datetime | None, bytes]] = deque(maxlen=MOST_OWED)
        self._left: tuple[datetime | None, Sequence[Wire]] = (None, ())

    def owe(self, created: datetime | None, commands: bytes) -> None:
        """Keep what was settled while there is no connection; `created` tells of which consumer."""
        self._owed.append((created, commands))

    def owed(self, created: datetime | None) -> bytes:
        """Return what was kept for a consumer, and forget what was for another one that bore its name."""
        commands = b"".join([one for consumer, one in self._owed if consumer == created])
        self._owed.clear()
        return commands

    def leave(self, created: datetime | None, messages: Sequence[Wire]) -> None:
        """Keep messages that nobody has begun for who reads the consumer next that delivered them."""
        self._left = (created, messages)

    def left(self, created: datetime | None) -> Sequence[Wire]:
        """Return what was left of a consumer, and forget what was of another one that bore its name."""
        (consumer, messages), self._left = self._left, (None, ())
        return messages if consumer == created else ()

    def received(self, sequence: int) -> bool:
        """Note a message that is not finished; tell whether it was noted before, by a consumer that is gone."""
        known = sequence in self._open
        self._open[sequence] = None
        self._last = max(self._last, sequence)
        return known

    def finished(self, sequence: int) -> None:
        """Note a message that was acknowledged or rejected."""
        self._open.pop(sequence, None)

    def bound(self, life: datetime | None, consumer: ConsumerInfo) -> None:
        """Note a consumer, and what the server says of its acknowledgements."""
        self.life = life
        begins = consumer.config.deliver_policy == DeliverPolicy.BY_START_SEQUENCE  # perhaps where nothing is yet
        if consumer.ack_floor is not None and (consumer.ack_floor.consumer_seq or not begins):
            self._floor = max(self._floor, consumer.ack_floor.stream_seq)

    def compare(self, stream: StreamInfo) -> bool:
        """Compare the stream with what was read of it; tell whether it was deleted and made again."""
        self._is_queue = stream.config.retention == RetentionPolicy.WORK_QUEUE
        last = stream.state.last_seq
        if self.life is not None and (stream.created != self.life or last < self._floor):
            self.life = stream.created
            self._again = True
            self._open.clear()
            self._last = self._floor = 0
            return True
        if self._last > last:  # what a message says of itself is not believed: the server never gave this number
            self._open.clear()
            self._last = self._floor
        return False

    def successor(self, config: ConsumerConfig) -> ConsumerConfig:
        """Return where the next consumer begins: at the first message that is not known to be finished."""
        if (
            self.life is None or self._is_queue
        ):  # a work queue has only what is not finished, and is read from its first
            return config
        done = max(self._last, self._floor) if self.own else self._floor
        start = min(self._open, default=done + 1) if self.own else done + 1
        if start > 1:
            return config.evolve(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=start, opt_start_time=None
            )
        if self._again and config.deliver_policy != DeliverPolicy.BY_START_TIME:
            return config.evolve(deliver_policy=DeliverPolicy.ALL, opt_start_seq=None)
        return config
