"""How many messages a fetch may ask for, so that those which are not finished hold no more than so many bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .message import StreamMessage

__all__ = ("Prefetch",)

FIRST = 10
"""Messages of the first fetch, before anything is known of their size."""
SAMPLE = 16
"""Messages of a fetch whose size is asked for: a client's headers cost more to measure than a message to handle."""


class Prefetch:
    """Bounds fetches by the bytes that are left and by the size of the last messages.

    Args:
        most: bytes that may be held; one message may be larger when nothing else is held.
        held: counts the bytes that are held; it is asked when they may be too many, and not for every fetch.
    """

    def __init__(self, most: int, held: Callable[[], int]) -> None:
        self._most = most
        self._count = held
        self._held = held()
        self._average = 0.0

    def allow(self, room: int) -> int:
        """Return how many of `room` messages may be asked for; 0 until something is finished."""
        if not self._average:
            return min(room, FIRST)
        if self._held + self._average * room > self._most:
            self._held = self._count()
        if not self._held:
            return max(1, min(room, int(self._most / self._average)))
        return min(room, max(0, int((self._most - self._held) / self._average)))

    def fetched(self, messages: Sequence[StreamMessage]) -> None:
        """Note what a fetch gave."""
        some = messages[:: len(messages) // SAMPLE + 1]
        average = max(sum([message.size for message in some]) / len(some), 1.0)
        self._held += int(average * len(messages))
        self._average = (self._average + average) / 2 if self._average else average
