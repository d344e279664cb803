"""Members of a group that see partitions and topics come and go, with both Kafka packages, on a real Kafka."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, suppress
from typing import Any
from uuid import uuid4

import fastapi_stream_confluent as with_confluent
import fastapi_stream_kafka as with_aiokafka
import pytest
from aiokafka.admin import NewPartitions
from aiokafka.errors import KafkaError
from fastapi_stream_core.testing.conformance import Inbox

from confluent_cluster import Cluster
from servers import Server
from test_kafka import admin_of, make_topic
from waiting import until

PACKAGES = [pytest.param(with_aiokafka, id="aiokafka"), pytest.param(with_confluent, id="confluent")]


@pytest.fixture
def url(kafka_server: Server) -> str:
    return kafka_server.url


@pytest.fixture
def cluster(url: str) -> Cluster:
    return Cluster(url)


@pytest.fixture
def topic() -> str:
    return f"members-{uuid4().hex[:10]}"


async def add_partitions(url: str, topic: str, count: int) -> None:
    async with admin_of(url) as admin:
        await admin.create_partitions({topic: NewPartitions(count)})

        async def led() -> bool:
            (found,) = await admin.describe_topics([topic])
            return len(found["partitions"]) == count and all(one["leader"] >= 0 for one in found["partitions"])

        await until(led)


def member(package: Any, url: str, seen: Inbox, *topics: str, **options: Any) -> Any:
    broker = package.KafkaBroker(url)

    @broker.subscriber(*topics, **options)
    async def handler(msg: str) -> None:
        seen.put(msg)

    return broker


async def handle_first(package: Any, url: str, cluster: Cluster, topic: str, seen: Inbox, **options: Any) -> None:
    """Make a topic of one partition, and have a member handle its first message and go."""
    await make_topic(url, topic, 1)
    async with member(package, url, seen, topic, **options):
        await asyncio.to_thread(cluster.publish, topic, b'"first"')
        assert await seen.take() == "first"


@pytest.mark.parametrize("leads", PACKAGES)
@pytest.mark.parametrize("reads", PACKAGES)
async def test_new_partitions_of_a_topic_that_the_leader_of_the_group_does_not_read(
    url: str, cluster: Cluster, topic: str, leads: Any, reads: Any
) -> None:
    """The leader shares out what it knows of; who reads the topic sees that nobody has the new partitions."""
    await make_topic(url, f"{topic}-other", 1)
    await make_topic(url, topic, 1)
    seen = Inbox()
    async with (
        member(leads, url, seen, f"{topic}-other", group_id=topic),
        member(reads, url, seen, topic, group_id=topic),
    ):
        await asyncio.to_thread(cluster.publish, topic, b'"first"')
        assert await seen.take() == "first"
        await add_partitions(url, topic, 3)
        await asyncio.to_thread(cluster.publish, topic, b'"new"', partition=2)
        assert await seen.take() == "new"


@pytest.mark.parametrize("package", PACKAGES)
async def test_new_partitions_after_a_static_member_came_back(
    url: str, cluster: Cluster, topic: str, package: Any
) -> None:
    """The cluster takes it for the leader that it was, and does not tell it so."""
    seen = Inbox()
    options = {"group_id": topic, "group_instance_id": "one", "session_timeout_ms": 45_000}
    await handle_first(package, url, cluster, topic, seen, **options)
    async with member(package, url, seen, topic, **options):
        await asyncio.to_thread(cluster.publish, topic, b'"second"')
        assert await seen.take() == "second"
        await add_partitions(url, topic, 2)
        await asyncio.to_thread(cluster.publish, topic, b'"new"', partition=1)
        assert await seen.take() == "new"


@pytest.mark.parametrize("package", PACKAGES)
async def test_two_processes_with_the_name_of_one_static_member(
    url: str, cluster: Cluster, topic: str, package: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Each takes the other's place again and again; a line says why."""

    async def is_said() -> bool:
        await asyncio.to_thread(cluster.publish, topic, b'"one more"')
        return re.search("same group.instance.id", caplog.text) is not None

    await make_topic(url, topic, 1)
    options = {"group_id": topic, "group_instance_id": "one", "heartbeat_interval_ms": 500}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(member(package, url, Inbox(), topic, **options))
        with suppress(KafkaError):  # the first one may have its place back before the second has begun
            await stack.enter_async_context(member(package, url, Inbox(), topic, **options))
        await until(is_said, what="a line says what is wrong")


@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
@pytest.mark.parametrize("package", PACKAGES)
async def test_a_topic_of_a_pattern_that_is_made_again_soon(
    url: str, cluster: Cluster, topic: str, package: Any, group: bool
) -> None:
    """It was read for a moment, before anybody had another look at it."""
    seen = Inbox()
    async with member(package, url, seen, pattern=f"{topic}.*", group_id=topic if group else None):
        await make_topic(url, topic, 1)
        await asyncio.to_thread(cluster.publish, topic, b'"old 1"', b'"old 2"')
        assert await seen.take_many(2) == ["old 1", "old 2"]
        await asyncio.to_thread(cluster.delete, topic)
        await make_topic(url, f"{topic}-other", 1)
        await asyncio.to_thread(cluster.publish, f"{topic}-other", b'"other"')
        assert await seen.take() == "other"
        await make_topic(url, topic, 1)
        await asyncio.to_thread(cluster.publish, topic, b'"new 1"', b'"new 2"', b'"new 3"')
        await until(lambda: {"new 1", "new 2", "new 3"} <= set(seen.all), what="all of the new topic was read")


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_topic_of_a_pattern_that_is_made_again_and_comes_to_another_member(
    url: str, cluster: Cluster, topic: str, package: Any
) -> None:
    """A member knows the topics of its pattern that it does not read, and begins the new ones at their beginning."""
    await make_topic(url, f"{topic}-a", 1)
    await make_topic(url, f"{topic}-b", 1)
    seen = Inbox()
    members = [member(package, url, seen, pattern=f"{topic}-.*", group_id=topic) for _ in range(2)]
    async with members[0], members[1]:
        for one in "ab":
            await asyncio.to_thread(cluster.publish, f"{topic}-{one}", b'"old"')
            assert await seen.take() == "old"
        for one in "ab":
            await asyncio.to_thread(cluster.delete, f"{topic}-{one}")
        await make_topic(url, f"{topic}-gone", 1)
        await asyncio.to_thread(cluster.publish, f"{topic}-gone", b'"gone"')
        assert await seen.take() == "gone"  # the group has noticed that the others are away
        # An odd number of partitions before them: each goes to the other member.
        for one in "ba":
            await make_topic(url, f"{topic}-{one}", 3)
            new = {f"{one} {number}" for number in range(3)}
            for number in range(3):
                body = f'"{one} {number}"'.encode()
                await asyncio.to_thread(cluster.publish, f"{topic}-{one}", body, partition=number)
            await until(lambda new=new: new <= set(seen.all), what="all of the new topic was read")  # type: ignore[misc]


@pytest.mark.parametrize("package", PACKAGES)
async def test_partitions_that_are_added_while_nobody_runs(
    url: str, cluster: Cluster, topic: str, package: Any
) -> None:
    """The group has offsets of the others, so what is in the new ones was published since."""
    seen = Inbox()
    await handle_first(package, url, cluster, topic, seen, group_id=topic)
    await add_partitions(url, topic, 3)
    await asyncio.to_thread(cluster.publish, topic, b'"new"', partition=2)
    async with (
        member(package, url, seen, topic, group_id=topic),
        member(package, url, seen, topic, group_id=topic),
    ):
        assert await seen.take() == "new"
        await asyncio.to_thread(cluster.publish, topic, b'"last"', partition=1)
        assert await seen.take() == "last"
