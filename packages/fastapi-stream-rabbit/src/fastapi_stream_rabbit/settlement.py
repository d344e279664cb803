"""Acknowledgements of one channel: noted one by one, sent with as few frames as RabbitMQ allows."""

from __future__ import annotations

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
    """Knows which deliveries of a channel are settled; RabbitMQ numbers them from 1."""

    def __init__(self) -> None:
        self._floor = 0
        self._acked: set[int] = set()
        self._rejected: list[int] = []
        self._sent: set[int] = set()

    def __len__(self) -> int:
        return len(self._acked) + len(self._rejected)

    def ack(self, tag: int) -> None:
        """Note an acknowledgement."""
        self._acked.add(tag)

    def reject(self, tag: int) -> None:
        """Note a rejection."""
        self._rejected.append(tag)

    def settled_elsewhere(self, tag: int) -> None:
        """Note a delivery that was handed back."""
        self._sent.add(tag)

    def take(self) -> Settled:
        """Return what was noted, and forget it."""
        rejected, self._rejected = self._rejected, []
        acked, self._acked = self._acked, set()
        sent = self._sent
        sent.update(rejected)
        floor, upto = self._floor, None
        while True:
            following = floor + 1
            if following in acked:
                acked.discard(following)
                upto = following
            elif following in sent:
                sent.discard(following)
            else:
                break
            floor = following
        self._floor = floor
        sent.update(acked)
        return Settled(rejected, upto, sorted(acked))
