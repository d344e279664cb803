"""How often the handler of each message failed here, also when the broker delivers the message again."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from .policy import is_failure

if TYPE_CHECKING:
    from .message import StreamMessage

__all__ = ("Tallies", "Tally", "failures_of")

MOST = 10_000
"""Messages that are remembered by their identity; the ones that failed longest ago are forgotten first."""


class Tally:
    """What one message met with in this process.

    Attributes:
        earlier: how often it was delivered before this process had it; nobody knows what became of it then.
        failures: how often its handler failed.
        attempt: number of the last delivery that was not acknowledged.
    """

    __slots__ = ("attempt", "earlier", "failures")

    def __init__(self, attempt: int) -> None:
        self.earlier = attempt - 1
        self.failures = 0
        self.attempt = attempt


class Tallies:
    """Keeps the tally with its message, and by the identity for when the broker sends the message anew."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Tally] = {}

    def of(self, message: StreamMessage) -> Tally:
        """Return the tally of a message, up to this delivery."""
        attempt = message.attempt
        tally: Tally | None = getattr(message, "_tally", None)
        if tally is None and attempt > 1 and self._known and (identity := message.identity) is not None:
            tally = self._known.get(identity)
            if tally is not None and tally.attempt >= attempt:  # of another message with this identity
                tally = None
        if tally is None:
            tally = Tally(attempt)
        tally.attempt = attempt
        message._tally = tally
        return tally

    def count(self, message: StreamMessage, error: BaseException) -> tuple[int, int, int]:
        """Count what its handler raised; return the number of this delivery, how often it failed, and `earlier`."""
        tally = self.of(message)
        tally.failures += is_failure(error)
        return tally.attempt, tally.failures, tally.earlier

    def keep(self, message: StreamMessage) -> None:
        """Remember a message that is delivered again, perhaps as another object."""
        identity = message.identity
        tally = self.of(message)
        if identity is None:
            return
        self._known.pop(identity, None)
        self._known[identity] = tally
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]


def failures_of(message: StreamMessage) -> int:
    """Return how often the handler of a message failed, for sources that tell the broker when they hand it back."""
    tally: Tally | None = getattr(message, "_tally", None)
    return 0 if tally is None else tally.failures
