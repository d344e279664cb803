"""How many messages of a consumer may be pushed before the first is acknowledged, so that they hold so many bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nats.js.api import ConsumerConfig

    from .subscription import NatsSubscription

__all__ = ("CHOSEN", "PENDING", "AckPending", "chooses", "first")

PENDING = 1000
"""Most messages that the server pushes before they are acknowledged; the server's default."""
CHOSEN = {"fastapi-stream": "max_ack_pending follows prefetch_bytes"}
"""What a consumer says of itself when nobody else has chosen how many."""


def chooses(subscription: NatsSubscription, config: ConsumerConfig) -> bool:
    """Tell whether a subscriber chooses `max_ack_pending` of its consumer: it made it, and nobody gave a number."""
    chosen = CHOSEN.items() <= (config.metadata or {}).items()
    return chosen and subscription.settles and subscription.config.max_ack_pending is None


def first(most_bytes: int, payload: int) -> int:
    """Return how many fit if each is as large as the server takes."""
    return max(1, min(PENDING, most_bytes // max(payload, 1)))


class AckPending:
    """Chooses `max_ack_pending`, which counts messages, so that they hold no more than so many bytes.

    Args:
        most_bytes: most bytes of the messages here; a group may have others elsewhere.
        count: the number that the consumer has.
    """

    def __init__(self, most_bytes: int, count: int) -> None:
        self._most_bytes = most_bytes
        self._count = count
        self._largest = 1
        self._fitting = PENDING
        self._since = 0

    def received(self, count: int, largest: int) -> bool:
        """Note messages, and how many bytes the largest of them has; tell whether another number may be wanted."""
        self._since += count
        if largest > self._largest:
            self._largest = largest
            self._fitting = first(self._most_bytes, largest)
        return self._fitting != self._count

    def wanted(self, count: int, held: Callable[[], int]) -> int | None:
        """Return another number if the consumer should have it.

        Args:
            count: messages that are here and not finished.
            held: counts their bytes; it is asked when they may be too many.
        """
        fitting = self._fitting
        if fitting < self._count:
            too_many = count * self._largest > self._most_bytes and held() > self._most_bytes
            return fitting if too_many else None
        grows = fitting >= 2 * self._count or fitting == PENDING > self._count
        return fitting if grows and self._since >= self._count else None

    def change(self, count: int) -> None:
        """Note that the consumer gets another number."""
        self._count = count
        self._largest = 1
        self._fitting = PENDING
        self._since = 0
