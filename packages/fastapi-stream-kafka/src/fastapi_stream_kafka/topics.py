"""What topics there are: asked of the cluster, and made when subscribers need them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from fastapi_stream_core.errors import SetupError

if TYPE_CHECKING:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

__all__ = ("Topics",)

POLL_SECONDS = 0.05


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
        self._there: set[str] = set()

    async def _client(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            from aiokafka.admin import AIOKafkaAdminClient  # only who connects pays for the import

            admin = AIOKafkaAdminClient(**self._connection)
            try:
                await admin.start()
            except BaseException:
                await admin.close()
                raise
            self._admin = admin
        return self._admin

    async def _ask(self, topics: list[str] | None) -> list[dict[str, Any]]:
        """Ask for metadata; after an error the connection is made anew the next time."""
        try:
            found: list[dict[str, Any]] = await (await self._client()).describe_topics(topics)
        except KafkaError:
            await self.close()
            raise
        return found

    async def names(self, internal: bool = False) -> set[str]:
        """Return the topics of the cluster; those of its own only when they are wanted."""
        async with self._lock:
            found = [one for one in await self._ask(None) if not one["error_code"]]
            self._there = {one["topic"] for one in found}
            return {one["topic"] for one in found if internal or not one["is_internal"]}

    async def ensure(self, topics: Iterable[str]) -> set[str]:
        """Make the topics that do not exist, if that is wanted, and wait until they have leaders.

        Returns:
            Those that do not exist and must not be made.

        Raises:
            SetupError: the cluster refuses a name.
            KafkaError: the cluster can't be asked.
        """
        async with self._lock:
            missing = [one for one in dict.fromkeys(topics) if one not in self._there]
            if not missing:
                return set()
            existing = {one["topic"] for one in await self._ask(None) if not one["error_code"]}
            new = [one for one in missing if one not in existing]
            if new and self._create:
                await self._make(new)
                await self._wait_for_leaders(new)
                existing.update(new)
            self._there.update(one for one in missing if one in existing)
            return set(missing) - existing

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
        waiting = set(names)
        while True:
            for one in await self._ask(None):
                if one["partitions"] and all(partition["leader"] >= 0 for partition in one["partitions"]):
                    waiting.discard(one["topic"])
            if not waiting:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """Return the partitions of topics; none for one that does not exist."""
        wanted = set(topics)
        async with self._lock:
            # Asking for a topic by its name may make it: only those that are known to exist are asked for.
            names = sorted(wanted) if wanted <= self._there else None
            return [
                TopicPartition(one["topic"], partition["partition"])
                for one in (await self._ask(names) if wanted else ())
                if one["topic"] in wanted and not one["error_code"]
                for partition in one["partitions"]
            ]

    async def close(self) -> None:
        """Close the connection."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()


def _by_default(name: str) -> NewTopic:
    """Return a topic with the partitions and replicas that the cluster gives by default (Kafka 2.4 and later)."""
    from aiokafka.admin import NewTopic

    topic = NewTopic(name, 1, 1)
    topic.num_partitions = topic.replication_factor = -1  # the protocol's "default", which the class refuses
    return topic
