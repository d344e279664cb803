"""How often something is said that happens again and again."""

from __future__ import annotations

from time import monotonic

__all__ = ("Recurrence",)

FIRST_SECONDS = 5.0
MOST_SECONDS = 60.0


class Recurrence:
    """Says the first failure of each kind, and others after intervals that grow from 5 seconds to a minute."""

    def __init__(self) -> None:
        self._kinds: set[type[BaseException]] = set()
        self._interval = FIRST_SECONDS
        self._next = 0.0

    def is_due(self, error: BaseException) -> bool:
        """Tell whether a failure is to be said; if so, it counts as said."""
        now = monotonic()
        if type(error) in self._kinds:
            if now < self._next:
                return False
            self._interval = min(2 * self._interval, MOST_SECONDS)
        self._kinds.add(type(error))
        self._next = now + self._interval
        return True

    def end(self) -> None:
        """Note that it is over: what comes next is a first one again."""
        self._kinds.clear()
        self._interval = FIRST_SECONDS
