"""Which topic a name means: one that was deleted and made again has the same name, and another identity."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping

__all__ = ("TopicIdentities", "begun_in", "is_of_another", "with_begun")

REMEMBERED = 8
NOTE = "topic-id="
"""Stands before a topic's id in what is noted at a committed offset: that of a topic that is gone means nothing."""

_BEGUN = re.compile(rf"{NOTE}[^ ]+ begun=(\d{{1,10}});")


class TopicIdentities:
    """Notices topics that were made again, for as long as the process lives.

    A server that lags behind may answer once more with an identity of before; that one is nothing new.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Hashable, ...]] = {}

    def renewed(self, now: Mapping[str, Hashable]) -> set[str]:
        """Return the topics that were seen before and have an identity that was not; nothing is noted.

        Args:
            now: the identity of each topic that there is; None where the server gives none.
        """
        return {
            topic
            for topic, identity in now.items()
            if identity is not None and topic in self._seen and identity not in self._seen[topic]
        }

    def note(self, now: Mapping[str, Hashable]) -> None:
        """Note the identities."""
        for topic, identity in now.items():
            seen = self._seen.get(topic, ())
            if identity is not None and identity not in seen:
                self._seen[topic] = (*seen, identity)[-REMEMBERED:]

    def current(self, topic: str) -> Hashable:
        """Return the newest identity of a topic; None when there was none."""
        seen = self._seen.get(topic)
        return seen[-1] if seen else None

    def note_of(self, topic: str) -> str:
        """Return what is noted at a committed offset: which topic it is of; nothing when that is not known."""
        current = self.current(topic)
        return "" if current is None else f"{NOTE}{current}"

    @property
    def topics(self) -> set[str]:
        """The topics that were ever noted."""
        return set(self._seen)


def is_of_another(note: str, now: str) -> bool:
    """Tell whether what was noted at a committed offset says that it is of a topic that is gone.

    Args:
        note: what was noted; somebody else's notes say nothing. More may follow it: librdkafka reads beyond its end
            (its issue 4649).
        now: what would be noted now; the ids of topics are equally long.
    """
    return bool(now) and note.startswith(NOTE) and not note.startswith(now)


def with_begun(note: str, count: int) -> str:
    """Return what is noted at a committed offset, with the number of partitions that the group has begun.

    Args:
        note: which topic it is of.
        count: how many; 0 when that is not known.
    """
    return f"{note} begun={count};" if note and count else note


def begun_in(note: str) -> int:
    """Return how many partitions a group had begun when it noted this; 0 when that does not say it.

    A topic that has more of them now got them since: nothing in those is old.
    """
    found = _BEGUN.match(note)
    return int(found[1]) if found else 0
