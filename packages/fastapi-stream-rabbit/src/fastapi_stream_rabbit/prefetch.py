"""How many messages RabbitMQ may deliver before the first of them is settled, so that they hold so many bytes."""

from __future__ import annotations

from time import monotonic

__all__ = ("Prefetch",)

LARGEST = 16 * 1024 * 1024
"""Bytes of the largest body that RabbitMQ 4 takes unless it is configured otherwise."""

GROWS_SECONDS = 30.0
"""Until a count may grow again: of a quorum queue after it fell, or where a message ended the connection."""


class Prefetch:
    """Chooses a prefetch count, which is all that RabbitMQ knows: messages, not bytes.

    It begins with as many messages as fit if each is as large as RabbitMQ allows, and follows what really comes.

    Args:
        most_bytes: most bytes, bodies and headers, that are delivered and not settled.
        most: most messages.

    Attributes:
        most_bytes: as given.
        count: the prefetch count.
        largest: bytes of the largest message since the count was changed.
    """

    def __init__(self, most_bytes: int, most: int) -> None:
        self.most_bytes = most_bytes
        self._most = most
        self.count = self._fitting(LARGEST)
        self.largest = 1
        self._since = 0
        self._grows_at = 0.0
        self._is_fixed = False

    def begin_with_one(self, *, stays: bool) -> None:
        """Begin with one message at a time.

        Args:
            stays: whether the count grows only after a while.
        """
        self.count = 1
        if stays:
            self._grows_at = monotonic() + GROWS_SECONDS

    def fix(self, count: int) -> None:
        """Choose a count for good: the consumer can't be replaced by one with another count."""
        self.count, self._is_fixed = count, True

    def _fitting(self, size: int) -> int:
        return max(1, min(self._most, self.most_bytes // size))

    def wanted(self, tag: int, held: int) -> int | None:
        """Return another count if it should be changed.

        Args:
            tag: number of the last delivery.
            held: bytes that are delivered and not settled.
        """
        if self._is_fixed:
            return None
        fitting = self._fitting(self.largest)
        if held > self.most_bytes:
            return 1 if fitting < self.count else None  # what the last consumer got stays, and comes on top
        grows = fitting >= 2 * self.count or fitting == self._most > self.count
        return fitting if grows and tag - self._since >= self.count and monotonic() >= self._grows_at else None

    def change(self, count: int, tag: int, *, stays: bool) -> None:
        """Note that the count is another one from the next delivery on.

        Args:
            count: the new one.
            tag: number of the last delivery.
            stays: whether a count that fell grows only after a while.
        """
        if stays and count < self.count:
            self._grows_at = monotonic() + GROWS_SECONDS
        self.count = count
        self.largest = 1
        self._since = tag
