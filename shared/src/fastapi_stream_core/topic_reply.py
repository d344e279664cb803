"""Which topics are answered: a sender chooses the name, and must not make a topic or keep anybody waiting by it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from .errors import PublishError

if TYPE_CHECKING:
    from .response import Outgoing

__all__ = ("ReplyTopics", "TopicAnswers", "name_refusal", "topic_fault")

LONGEST = 249
OWN = "it is a topic of the cluster itself"
_NAME = re.compile(r"[a-zA-Z0-9._-]+")

THERE_SECONDS = 60.0
"""How long a topic counts as there; one that is deleted meanwhile may come back by an answer."""
MISSING_SECONDS = 5.0
"""How long a topic counts as missing before the cluster is asked again."""
LEADER_SECONDS = 2.0
"""How long an answer waits before it is looked at whether its topic has leaders; one that moves is there until then."""
MOST = 500
"""Most topics that are remembered, whatever senders ask for."""


def topic_fault(name: str) -> str | None:
    """Return why a text is no name of a topic; None when it is one."""
    if not name or name in (".", ".."):
        return "a topic has a name, other than '.' and '..'"
    if len(name) > LONGEST:
        return f"the name of a topic has at most {LONGEST} characters"
    if _NAME.fullmatch(name) is None:
        return "the name of a topic consists of a-z, A-Z, 0-9, '.', '_' and '-'"
    return None


def name_refusal(topic: str) -> str | None:
    """Return why no topic of that name is answered, whether it is there or not; None when it may be."""
    return topic_fault(topic) or (OWN if topic.startswith("__") else None)


class ReplyTopics:
    """The reply addresses that are plain: topics that there are, and that are not the cluster's own.

    What the cluster said is remembered, for some time and for a bounded number of topics.

    Args:
        find: asks the cluster for one topic without making it: None when there is none, otherwise whether it is the
            cluster's own.
    """

    def __init__(self, find: Callable[[str], Awaitable[bool | None]]) -> None:
        self._find = find
        self._known: dict[str, tuple[float, str | None]] = {}

    async def refusal(self, topic: str) -> str | None:
        """Return why a topic is not answered; None when it is.

        Raises:
            BrokerUnavailable: the cluster does not answer.
        """
        until, refusal = self._known.get(topic, (0.0, None))
        if monotonic() < until:
            return refusal
        if (fault := name_refusal(topic)) is not None:
            return fault
        is_internal = await self._find(topic)
        refusal = "there is no such topic" if is_internal is None else OWN if is_internal else None
        while len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known.pop(topic, None)
        self._known[topic] = (monotonic() + (MISSING_SECONDS if refusal else THERE_SECONDS), refusal)
        return refusal


class TopicAnswers:
    """Publishes answers. A topic whose partitions nobody leads takes none, and is waited for as long as a move takes.

    Args:
        publish: publishes one, and waits as long as a publication may take.
        is_led: asks the cluster whether each partition of a topic has a leader; True when it does not say.
    """

    def __init__(
        self, publish: Callable[[Outgoing], Coroutine[Any, Any, Any]], is_led: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._publish = publish
        self._is_led = is_led
        self._leaderless: dict[str, None] = {}

    async def publish(self, message: Outgoing) -> Any:
        """Publish one answer.

        Raises:
            BrokerUnavailable: the cluster did not confirm it in time.
            PublishError: it is refused, or a partition of the topic has no leader. It may arrive all the same.
        """
        topic = message.address
        if topic in self._leaderless:
            await self._check(topic)
        publication = asyncio.ensure_future(self._publish(message))
        publication.add_done_callback(_seen)
        try:
            while True:
                await asyncio.wait((publication,), timeout=LEADER_SECONDS)
                if publication.done():
                    return publication.result()
                await self._check(topic)
        finally:
            publication.cancel()

    async def _check(self, topic: str) -> None:
        if await self._is_led(topic):
            self._leaderless.pop(topic, None)
            return
        while len(self._leaderless) >= MOST:
            del self._leaderless[next(iter(self._leaderless))]
        self._leaderless[topic] = None
        raise PublishError(topic, "a partition of the topic has no leader: the servers that have it are down")


def _seen(publication: asyncio.Future[Any]) -> None:
    """Take notice of the error of one that was given up."""
    if not publication.cancelled():
        publication.exception()
