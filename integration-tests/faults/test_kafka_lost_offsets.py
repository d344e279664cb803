"""A group that loses its offsets while its members run: an operator deleted it, or they expired."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import AsyncExitStack
from typing import Any

import fastapi_stream_confluent
import fastapi_stream_kafka
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from confluent_cluster import DEADLINE, Cluster, fresh
from servers import Server
from waiting import until

PACKAGES = [fastapi_stream_kafka, fastapi_stream_confluent]
COUNT = 400
HEARTBEAT_MS = 20000
"""A member that was removed finds out within this time, unless it commits."""


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


class Operator:
    """Takes a group apart while its members run. Every call blocks."""

    def __init__(self, url: str, group: str) -> None:
        self.url, self.group = url, group

    def members(self, admin: AdminClient) -> dict[str, str]:
        """The id of each member, by its client's."""
        found = admin.describe_consumer_groups([self.group])[self.group].result(DEADLINE)
        return {one.client_id: one.member_id for one in found.members}

    def remove(self, member: str) -> None:
        """LeaveGroup, version 1, in the name of a member."""
        request = struct.pack(">hhi", 13, 1, 7) + text("operator") + text(self.group) + text(member)
        host, _, port = self.url.rpartition(":")
        with socket.create_connection((host, int(port)), DEADLINE) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            assert connection.recv(100)

    def delete(self) -> None:
        """Remove the members and delete the group; one that has joined again by then is removed again."""
        with AdminClient({"bootstrap.servers": self.url}) as admin:
            for left in reversed(range(20)):
                for member in self.members(admin).values():
                    self.remove(member)
                try:
                    return admin.delete_consumer_groups([self.group])[self.group].result(DEADLINE)
                except KafkaException:
                    if not left:
                        raise

    def set(self, topic: str, *offsets: int) -> None:
        """Remove the members and set the group to offsets."""
        partitions = [TopicPartition(topic, number, offset) for number, offset in enumerate(offsets)]
        wanted = ConsumerGroupTopicPartitions(self.group, partitions)
        with AdminClient({"bootstrap.servers": self.url}) as admin:
            for left in reversed(range(20)):
                for member in self.members(admin).values():
                    self.remove(member)
                try:
                    admin.alter_consumer_group_offsets([wanted])[self.group].result(DEADLINE)
                except KafkaException:
                    if not left:
                        raise
                else:
                    return


def lines(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [one for one in caplog.messages if words in one]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("reset", ["latest", "earliest"])
async def test_a_member_goes_on_where_it_was(
    kafka_server: Server, package: Any, reset: str, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, topic = Cluster(kafka_server.url), fresh("lost")
    await asyncio.to_thread(cluster.make, topic, 2)
    handled: list[int] = []
    broker = package.KafkaBroker(kafka_server.url)

    @broker.subscriber(topic, group_id=topic, auto_offset_reset=reset)
    async def handler(msg: int) -> None:
        handled.append(msg)
        await asyncio.sleep(0.01)

    async with broker:
        for part in range(2):
            bodies = [b"%d" % number for number in range(part, COUNT, 2)]
            await asyncio.to_thread(cluster.publish, topic, *bodies, partition=part)
        committed = cluster.committed
        await until(lambda: len(handled) >= COUNT // 10)
        await until(lambda: asyncio.to_thread(lambda: committed(topic, topic) + committed(topic, topic, 1) > 0))
        await asyncio.to_thread(Operator(kafka_server.url, topic).delete)
        assert len(handled) < COUNT, "nothing was left when the group was deleted"
        await until(lambda: len(set(handled)) == COUNT, what="every message was handled")
        await until(lambda: _ends(cluster, topic))
    assert len(handled) < COUNT + COUNT // 4
    said = lines(caplog, "has lost its offset")
    assert len(said) == 1, said
    assert "going on where this process was" in said[0]


async def _ends(cluster: Cluster, topic: str) -> bool:
    return [one for one, _ in await asyncio.to_thread(cluster.noted, topic, topic, 2)] == [COUNT // 2] * 2


@pytest.mark.parametrize("package", PACKAGES)
async def test_the_position_is_the_group_s_again_before_anything_more_is_handled(
    kafka_server: Server, package: Any
) -> None:
    """Whoever has the partition next begins there."""
    cluster, topic = Cluster(kafka_server.url), fresh("lost")
    await asyncio.to_thread(cluster.make, topic, 2)
    handled: list[int] = []
    broker = package.KafkaBroker(kafka_server.url)

    @broker.subscriber(topic, group_id=topic, heartbeat_interval_ms=500, auto_offset_reset="earliest")
    async def handler(msg: int) -> None:
        handled.append(msg)

    async def is_committed() -> bool:
        found = await asyncio.to_thread(cluster.noted, topic, topic, 2)
        return [one for one, _ in found] == [3, 2]

    async with broker:
        await asyncio.to_thread(cluster.publish, topic, b"1", b"2", b"3", partition=0)
        await asyncio.to_thread(cluster.publish, topic, b"4", b"5", partition=1)
        await until(is_committed)
        await asyncio.to_thread(Operator(kafka_server.url, topic).delete)
        await until(is_committed)
    assert sorted(handled) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("package", PACKAGES)
async def test_offsets_that_an_operator_sets_win(
    kafka_server: Server, package: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, topic = Cluster(kafka_server.url), fresh("lost")
    await asyncio.to_thread(cluster.make, topic, 2)
    handled: list[int] = []
    broker = package.KafkaBroker(kafka_server.url)

    @broker.subscriber(topic, group_id=topic, heartbeat_interval_ms=500)
    async def handler(msg: int) -> None:
        handled.append(msg)

    async with broker:
        await asyncio.to_thread(cluster.publish, topic, b"1", b"2", b"3", partition=0)
        await asyncio.to_thread(cluster.publish, topic, b"4", b"5", b"6", partition=1)
        await until(lambda: len(handled) == 6)
        await until(lambda: asyncio.to_thread(lambda: cluster.committed(topic, topic, 1) == 3))
        await asyncio.to_thread(Operator(kafka_server.url, topic).set, topic, 1, 3)
        await until(lambda: len(handled) == 8)
        await asyncio.to_thread(cluster.publish, topic, b"7", partition=1)
        await until(lambda: 7 in handled)
    assert handled[6:] == [2, 3, 7]
    assert not lines(caplog, "has lost its offset")


@pytest.mark.parametrize("package", PACKAGES)
async def test_offsets_that_an_operator_sets_win_over_what_is_in_hand(kafka_server: Server, package: Any) -> None:
    """The member learns by its next commit that it is none any more; that commit must not reach the group."""
    cluster, topic = Cluster(kafka_server.url), fresh("lost")
    await asyncio.to_thread(cluster.make, topic, 1)
    handled: list[int] = []
    begun, released = asyncio.Event(), asyncio.Event()
    broker = package.KafkaBroker(kafka_server.url)

    @broker.subscriber(topic, group_id=topic, session_timeout_ms=60000, heartbeat_interval_ms=HEARTBEAT_MS)
    async def handler(msg: int) -> None:
        if msg == 3:
            begun.set()
            await released.wait()
        handled.append(msg)

    async with broker:
        await asyncio.to_thread(cluster.publish, topic, b"1", b"2", b"3", b"4")
        await asyncio.wait_for(begun.wait(), DEADLINE)
        await until(lambda: asyncio.to_thread(lambda: cluster.committed(topic, topic) == 2))
        await asyncio.to_thread(Operator(kafka_server.url, topic).set, topic, 0)
        released.set()
        await until(lambda: len(handled) == 4)
        await asyncio.to_thread(cluster.publish, topic, b"5")
        await until(lambda: 5 in handled)
        await until(lambda: asyncio.to_thread(lambda: cluster.committed(topic, topic) == 5))
    assert handled.count(1) == handled.count(2) == 2


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_partition_that_another_member_read_begins_where_the_option_says(
    kafka_server: Server, package: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, topic = Cluster(kafka_server.url), fresh("lost")
    await asyncio.to_thread(cluster.make, topic, 2)
    handled: dict[str, list[int]] = {}

    def member(name: str) -> Any:
        broker = package.KafkaBroker(kafka_server.url, client_id=name)
        handled[name] = []

        @broker.subscriber(topic, group_id=topic, session_timeout_ms=60000, heartbeat_interval_ms=HEARTBEAT_MS)
        async def handler(msg: int) -> None:
            handled[name].append(msg)

        return broker

    operator = Operator(kafka_server.url, topic)
    async with AsyncExitStack() as stack:
        staying, leaving = member("staying"), member("leaving")
        gone = AsyncExitStack()
        with AdminClient({"bootstrap.servers": kafka_server.url}) as admin:
            # The one that comes first may have both partitions for a moment.
            for count, (holder, one) in enumerate([(gone, leaving), (stack, staying)], 1):
                await holder.enter_async_context(one)
                await until(lambda count=count: asyncio.to_thread(lambda: len(operator.members(admin)) == count))
        for number, part in enumerate([0, 1]):
            await asyncio.to_thread(cluster.publish, topic, b"%d" % number, partition=part)
        await until(lambda: all(len(one) == 1 for one in handled.values()), what="each member has a partition")
        mine, other = handled["staying"][0], handled["leaving"][0]
        await until(lambda: asyncio.to_thread(lambda: cluster.committed(topic, topic, mine) == 1))
        with AdminClient({"bootstrap.servers": kafka_server.url}) as admin:
            members = await asyncio.to_thread(operator.members, admin)
        await asyncio.to_thread(operator.remove, members["staying"])
        await gone.aclose()
        await asyncio.to_thread(cluster.publish, topic, b"10", b"11", partition=other)
        await asyncio.to_thread(operator.delete)
        await until(lambda: lines(caplog, "has not read"), what="the line in the log")
        await until(lambda: asyncio.to_thread(lambda: cluster.committed(topic, topic, other) == 3))
        await asyncio.to_thread(cluster.publish, topic, b"20", partition=mine)
        await asyncio.to_thread(cluster.publish, topic, b"21", partition=other)
        await until(lambda: len(handled["staying"]) == 3)
    assert sorted(handled["staying"][1:]) == [20, 21]
    assert len(lines(caplog, "has not read")) == 1
    assert f"partition {other} of {topic}" in lines(caplog, "has not read")[0]
    assert len(lines(caplog, "going on where this process was")) == 1
