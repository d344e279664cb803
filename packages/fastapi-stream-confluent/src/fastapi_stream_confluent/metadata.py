"""What the cluster says of topics, with their ids. Asking makes none, unlike the same question of a producer."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import TimeoutError as NoAnswer
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from fastapi_stream_core.partition import Partition

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

__all__ = ("TopicState", "Topics")

ASK_SECONDS = 2.0
"""Longest wait for an answer; when there was none, who takes an older one is not served for ten times as long."""
MOST_SILENT = 2
"""After so many questions without an answer another client asks: this one may know no broker any more."""
REMEMBERED = 1000
"""Most topics whose answer is kept: senders choose some of the names."""
SETTLED = "Stable"
INVALID = (KafkaError.TOPIC_EXCEPTION, KafkaError._INVALID_ARG)
SILENT = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT)
MISSING = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, *INVALID)


class TopicState(NamedTuple):
    """One topic that there is.

    Attributes:
        identity: its id; None from a cluster older than Kafka 2.8.
        partitions: their numbers, ascending.
        is_internal: whether it belongs to the cluster itself.
        has_leaders: whether every partition can be read and written.
    """

    identity: str | None
    partitions: tuple[int, ...]
    is_internal: bool
    has_leaders: bool = True


class Topics:
    """Asks in a thread, one question at a time, and keeps the answers for as long as somebody takes them.

    Args:
        config: what the clients of the broker are made with.

    Attributes:
        answered: when the cluster last answered.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.answered = 0.0
        self._silent = 0
        self._config = config
        self._client: AdminClient | None = None
        self._lock = asyncio.Lock()
        self._answers: dict[str, tuple[float, TopicState | None]] = {}
        self._silent_until = 0.0

    async def look(self, names: Iterable[str], age: float = 0.0) -> dict[str, TopicState]:
        """Return those of the topics that there are.

        Args:
            names: which topics.
            age: how many seconds ago the cluster may have said so.

        Raises:
            KafkaException: the cluster did not answer, or does not tell the user.
        """
        wanted = set(names)
        async with self._lock:
            oldest = monotonic() - age
            stale = [one for one in wanted if one not in self._answers or self._answers[one][0] <= oldest]
            if stale:
                if age and monotonic() < self._silent_until:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the cluster did not answer just now"))
                try:
                    answers = await asyncio.to_thread(self._ask, stale)
                except KafkaException as error:
                    if error.args[0].code() == KafkaError._TIMED_OUT:
                        self._silent_until = monotonic() + 10 * ASK_SECONDS
                    await self._note_silence(error)
                    raise
                self.answered, self._silent = monotonic(), 0
                self._keep(answers)
            found = {one: self._answers[one][1] for one in wanted if one in self._answers}
        return {name: state for name, state in found.items() if state is not None}

    async def taken(self, group: str) -> set[Partition] | None:
        """Return the partitions that the members of a group have; None while it has not settled, or nobody says.

        Nobody says where warnings are errors: the client can ask no other question about a group, but one that ends the
        process when the group's server goes away.
        """
        async with self._lock:
            try:
                return await asyncio.to_thread(self._taken, group)
            except (KafkaException, ValueError, struct.error):
                return None
            except (DeprecationWarning, ImportError):
                return None  # the client warns that its question will go, and the app has made errors of warnings

    def _taken(self, group: str) -> set[Partition] | None:
        # Not `describe_consumer_groups`: while the group's server is away, librdkafka ends the process in it.
        found = [one for one in self._admin().list_groups(group, timeout=ASK_SECONDS) if one.id == group]
        if not found or found[0].error is not None or found[0].state != SETTLED:
            return None
        return {one for member in found[0].members for one in _share(member.assignment or b"")}

    async def answers(self) -> bool:
        """Tell whether the cluster answers now."""
        async with self._lock:
            try:
                await asyncio.to_thread(lambda: self._admin().list_topics(timeout=ASK_SECONDS))
            except KafkaException as error:
                await self._note_silence(error)
                return False
            self.answered, self._silent = monotonic(), 0
            return True

    async def _note_silence(self, error: KafkaException) -> None:
        if error.args[0].code() not in SILENT:
            return
        self._silent += 1
        if self._silent >= MOST_SILENT:
            self._silent = 0
            await self._close()

    def _keep(self, answers: Mapping[str, TopicState | None]) -> None:
        now = monotonic()
        for name, state in answers.items():
            self._answers.pop(name, None)  # so that the oldest answer is the first one
            self._answers[name] = (now, state)
        for name in list(self._answers)[: max(0, len(self._answers) - max(REMEMBERED, len(answers)))]:
            del self._answers[name]

    def _ask(self, names: list[str]) -> dict[str, TopicState | None]:
        asked = self._admin().describe_topics(TopicCollection(names), request_timeout=ASK_SECONDS)
        answers: dict[str, TopicState | None] = {}
        for name, answer in asked.items():
            try:
                answers[name] = _state(answer.result(ASK_SECONDS + 1.0))
            except KafkaException as error:
                if error.args[0].code() not in MISSING:
                    raise
                answers[name] = None
            except NoAnswer:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer")) from None
        return answers

    def _admin(self) -> AdminClient:
        if self._client is None:
            from confluent_kafka.admin import AdminClient  # half of the import time of the client

            self._client = AdminClient({**self._config, "log_level": 2})
        return self._client

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.__exit__, None, None, None)


def _share(assignment: bytes) -> list[Partition]:
    """Return the partitions of a member, from what the leader of its group wrote."""
    found: list[Partition] = []
    if not assignment:
        return found
    _, topics = struct.unpack_from(">hi", assignment)
    at = 6
    for _ in range(topics):
        (size,) = struct.unpack_from(">H", assignment, at)
        topic = assignment[at + 2 : at + 2 + size].decode()
        (count,) = struct.unpack_from(">i", assignment, at + 2 + size)
        found += [(topic, number) for number in struct.unpack_from(f">{count}i", assignment, at + 6 + size)]
        at += 6 + size + 4 * count
    return found


def _state(described: Any) -> TopicState:
    most, least = described.topic_id.get_most_significant_bits(), described.topic_id.get_least_significant_bits()
    identity = None if most == least == 0 else f"{most & 2**64 - 1:016x}{least & 2**64 - 1:016x}"
    numbers = tuple(sorted(one.id for one in described.partitions))
    led = all(one.leader is not None and one.leader.id >= 0 for one in described.partitions)
    return TopicState(identity, numbers, described.is_internal, led)
