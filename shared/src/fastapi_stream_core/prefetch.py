"""How many messages a fetch may ask for, so that those which are not finished hold no more than so many bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .message import StreamMessage

__all__ = ("Prefetch",)

FIRST = 10
"""Messages of the first fetch, before anything is known of their size."""
SAMPLE = 8
"""Messages of a fetch whose headers are measured too: that costs more than a message to handle."""
_BODY = attrgetter("body")
_SIZE = attrgetter("size")


class Prefetch:
    """Bounds fetches by the bytes that are left and by the size of the last messages.

    Args:
        most: bytes that may be held; the last message may go beyond it.
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
        left = self._most - self._held
        # One more may be larger than what is left: else the small ones behind it would wait for what fails elsewhere.
        return min(room, max(1, int(left / self._average))) if left > 0 else 0

    def fetched(self, messages: Sequence[StreamMessage]) -> None:
        """Note what a fetch gave."""
        count = len(messages)
        if messages[0].is_measured:
            fetched = sum(map(_SIZE, messages))
        else:
            some = messages[:: count // SAMPLE + 1]
            besides = sum([message.size - len(message.body) for message in some]) / len(some)
            fetched = sum(map(len, map(_BODY, messages))) + int(besides * count)
        average = max(fetched / count, 1.0)
        self._held += fetched
        self._average = (self._average + average) / 2 if self._average else average
