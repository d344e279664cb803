"""Copies of messages that are being handled: a broker delivers again what it believes to be lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .message import StreamMessage

__all__ = ("Copies",)


class Copies:
    """Keeps copies until the first run of their message is over; they have its outcome, or run when it failed.

    Args:
        running: the messages that are being handled.

    Attributes:
        kept: the copies of each message that is being handled.
    """

    def __init__(self, running: Iterable[StreamMessage]) -> None:
        self._running = running
        self.kept: dict[StreamMessage, list[StreamMessage]] = {}

    def keep(self, message: StreamMessage) -> bool:
        """Keep a message if its first delivery still runs; tell whether it does."""
        identity = message.identity
        if identity is None:
            return False
        for other in self._running:
            if other.identity == identity:
                self.kept.setdefault(other, []).append(message)
                return True
        return False

    def of(self, message: StreamMessage) -> list[StreamMessage]:
        """Return the copies of a message whose run is over, and keep them no longer."""
        return self.kept.pop(message, [])

    def drop(self) -> list[StreamMessage]:
        """Return all copies, and keep none."""
        kept = [copy for copies in self.kept.values() for copy in copies]
        self.kept.clear()
        return kept
