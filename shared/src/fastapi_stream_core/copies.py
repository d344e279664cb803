"""Copies of messages that are being handled: a broker delivers again what it believes to be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .message import StreamMessage

__all__ = ("Copies",)


class Copies:
    """Keeps copies until the first run of their message is over; they have its outcome, or run when it failed.

    What only looks like a copy runs then too: another message may look the same. One for each run is kept, since a
    broker that was away delivers each message once.

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
        for other in self._running:
            if message.is_copy_of(other) and (message.sure_of_copies or other not in self.kept):
                self.kept.setdefault(other, []).append(message)
                return True
        return False

    def of(self, message: StreamMessage) -> list[StreamMessage]:
        """Return the copies of a message whose run is over, and keep them no longer."""
        return self.kept.pop(message, [])

    def drop(self, chosen: Callable[[StreamMessage], bool]) -> list[StreamMessage]:
        """Return the chosen copies, and keep them no longer."""
        dropped: list[StreamMessage] = []
        for message, copies in list(self.kept.items()):
            gone = [copy for copy in copies if chosen(copy)]
            if gone:
                dropped += gone
                left = [copy for copy in copies if not chosen(copy)]
                if left:
                    self.kept[message] = left
                else:
                    del self.kept[message]
        return dropped
