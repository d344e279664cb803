"""Which topic a name means: one that was deleted and made again has the same name, and another identity."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

__all__ = ("TopicIdentities",)

REMEMBERED = 8


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

    @property
    def topics(self) -> set[str]:
        """The topics that were ever noted."""
        return set(self._seen)
