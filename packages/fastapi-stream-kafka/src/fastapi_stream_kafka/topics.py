"""What topics there are: asked of the cluster, and made when subscribers need them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.partition import Partition

from .client import start
from .metadata import TopicsRequest, TopicState, states_of

if TYPE_CHECKING:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

__all__ = ("Topics", "partitions_of")

POLL_SECONDS = 0.05
SETTLED = "Stable"
FORGET_SECONDS = 10.0
"""A topic that nobody looked at for so long is not asked for any more."""


class Topics:
    """Looks at topics and makes them, on a connection of its own that is opened when it is needed.

    Args:
        connection: the client's options of every connection.
        create: whether missing topics may be made.
    """

    def __init__(self, connection: dict[str, Any], create: bool) -> None:
        self._connection = connection
        self._create = create
        self._admin: AIOKafkaAdminClient | None = None
        self._lock = asyncio.Lock()
        self._looked_at: dict[str, float] = {}
        self._answer: tuple[float, dict[str, TopicState]] = (float("-inf"), {})

    async def _client(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            from aiokafka.admin import AIOKafkaAdminClient  # only who connects pays for the import

            admin = AIOKafkaAdminClient(**self._connection)
            try:
                await start(admin)
            except BaseException:
                await admin.close()
                raise
            self._admin = admin
        return self._admin

    async def _ask(self, topics: list[str] | None) -> dict[str, TopicState]:
        """Return the topics that there are; after an error the connection is made anew the next time."""
        try:
            return states_of(await (await self._client())._send_request(TopicsRequest(topics)))
        except KafkaError:
            await self.close()
            raise

    async def names(self, internal: bool = False) -> set[str]:
        """Return the topics of the cluster; those of its own only when they are wanted."""
        async with self._lock:
            return {name for name, one in (await self._ask(None)).items() if internal or not one.is_internal}

    async def look(self, topics: Iterable[str], age: float = 0.0) -> dict[str, TopicState]:
        """Return those of the topics that there are.

        Args:
            topics: names.
            age: seconds that the answer may be old. One question asks for what all subscriptions look at.
        """
        wanted = set(topics)
        async with self._lock:
            now = asyncio.get_running_loop().time()
            asked_at, there = self._answer
            if now - asked_at > age or not wanted <= self._looked_at.keys():
                for name in wanted:
                    self._looked_at[name] = now
                self._looked_at = {name: at for name, at in self._looked_at.items() if now - at < FORGET_SECONDS}
                there = await self._ask(sorted(self._looked_at)) if self._looked_at else {}
                self._answer = (now, there)
            else:
                self._looked_at.update(dict.fromkeys(wanted, now))
            return {name: there[name] for name in wanted if name in there}

    async def find(self, topic: str) -> TopicState | None:
        """Return one topic, asked for alone; None when there is none."""
        async with self._lock:
            return (await self._ask([topic])).get(topic)

    async def ensure(self, topics: Iterable[str]) -> set[str]:
        """Make the topics that do not exist, if that is wanted, and wait until they have leaders.

        Returns:
            Those that do not exist and must not be made.

        Raises:
            SetupError: the cluster refuses a name.
            KafkaError: the cluster can't be asked.
        """
        async with self._lock:
            wanted = list(dict.fromkeys(topics))
            existing = await self._ask(wanted) if wanted else {}
            missing = [one for one in wanted if one not in existing]
            if missing and self._create:
                await self._make(missing)
                await self._wait_for_leaders(missing)
                return set()
            return set(missing)

    async def _make(self, names: list[str]) -> None:
        admin = await self._client()
        answer: Any = await admin.create_topics([_by_default(name) for name in names])
        for name, code, *text in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise SetupError(
                    f"subscriber({name!r})",
                    f"the topic does not exist and can't be made: {error.__name__} {text[0] if text else ''}".rstrip(),
                    "make it beforehand and pass allow_auto_create_topics=False, or allow the user to create it",
                )

    async def _wait_for_leaders(self, names: list[str]) -> None:
        while True:
            there = await self._ask(names)
            if all(name in there and there[name].has_leaders for name in names):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def taken(self, group: str) -> set[Partition] | None:
        """Return the partitions that the members of a group have; None while it has not settled, or nobody says."""
        async with self._lock:
            try:
                (answer,) = await (await self._client()).describe_consumer_groups([group])
            except KafkaError:
                await self.close()
                return None
        (found,) = answer.to_object()["groups"]
        if found["error_code"] or found["state"] != SETTLED:
            return None
        shares = [one["member_assignment"] for one in found["members"] if one["member_assignment"]]
        try:
            decoded = [ConsumerProtocol.ASSIGNMENT.decode(share) for share in shares]
        except ValueError:  # whoever leads the group wrote it
            return None
        return {(topic, number) for one in decoded for topic, numbers in one.assignment for number in numbers}

    async def close(self) -> None:
        """Close the connection."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()


def partitions_of(there: Mapping[str, TopicState]) -> list[TopicPartition]:
    """Return all partitions of topics."""
    return [TopicPartition(name, number) for name, one in sorted(there.items()) for number in one.partitions]


def _by_default(name: str) -> NewTopic:
    """Return a topic with the partitions and replicas that the cluster gives by default (Kafka 2.4 and later)."""
    from aiokafka.admin import NewTopic

    topic = NewTopic(name, 1, 1)
    topic.num_partitions = topic.replication_factor = -1  # the protocol's "default", which the class refuses
    return topic
