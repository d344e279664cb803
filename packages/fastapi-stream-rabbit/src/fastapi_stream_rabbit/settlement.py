"""Acknowledgements of one channel: noted one by one, sent with as few frames as RabbitMQ allows."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

__all__ = ("Ledger", "Settled")


@dataclass
class Settled:
    """What is to be sent.

    Attributes:
        rejected: tags to reject; they have to be sent first.
        upto: acknowledge this tag and all before it.
        single: tags to acknowledge one by one, because an earlier one is not settled yet.
    """

    rejected: list[int]
    upto: int | None
    single: list[int]


class Ledger:
    """Knows which deliveries of a channel are not settled yet; RabbitMQ numbers them from 1.

    Attributes:
        open: the tags that are not settled, in their order, with the bytes of their messages; RabbitMQ delivers no more
            than the prefetch count.
        held: the bytes of all of them.
    """

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        self.held = 0
        self._acked: list[int] = []
        self._rejected: list[int] = []

    def __len__(self) -> int:
        return len(self._acked) + len(self._rejected)

    def ack(self, tag: int) -> None:
        """Note an acknowledgement."""
        self._acked.append(tag)

    def reject(self, tag: int) -> None:
        """Note a rejection."""
        self._rejected.append(tag)

    def settled_elsewhere(self, tag: int) -> None:
        """Note a delivery that was handed back."""
        self.held -= self.open.pop(tag, 0)

    def take(self) -> Settled:
        """Return what was noted, and forget it."""
        rejected, self._rejected = self._rejected, []
        acked, self._acked = self._acked, []
        still = self.open
        for tags in (rejected, acked):
            for tag in tags:
                self.held -= still.pop(tag, 0)
        acked.sort()
        lowest = next(iter(still), None)
        together = len(acked) if lowest is None else bisect_left(acked, lowest)
        return Settled(rejected, acked[together - 1] if together else None, acked[together:])
