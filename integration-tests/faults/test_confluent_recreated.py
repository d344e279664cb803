"""A topic that is deleted and made again while it is read: everything in the new one is handled."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

import pytest
from fastapi_stream_confluent import BrokerUnavailable, KafkaBroker, KafkaMessage, PublishError, TopicPartition

from confluent_cluster import Cluster, fresh
from servers import Server
from waiting import until

SECONDS = 60.0
RENEWED = "was deleted and made again; reading it from its beginning"


@pytest.fixture
def url(confluent_server: Server) -> str:
    return confluent_server.url


@pytest.fixture
def cluster(url: str) -> Cluster:
    return Cluster(url)


@pytest.mark.parametrize("pattern", [False, True], ids=["topic", "pattern"])
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
@pytest.mark.parametrize("reset", ["latest", "earliest"])
@pytest.mark.parametrize("more", [False, True], ids=["fewer", "more"])
async def test_a_topic_made_again_is_read_from_its_beginning(
    url: str,
    cluster: Cluster,
    reset: str,
    group: bool,
    pattern: bool,
    more: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With fewer messages than before the old position is beyond the end, with more it is within the new log."""
    topic = fresh()
    await asyncio.to_thread(cluster.make, topic, 1)
    before, after = (10, 40) if more else (40, 10)
    handled: set[str] = set()
    broker = KafkaBroker(url)
    options = {"group_id": topic if group else None, "auto_offset_reset": reset}
    what = {"pattern": f"{topic}$"} if pattern else {}

    @broker.subscriber(*(() if pattern else (topic,)), **what, **options)  # type: ignore[arg-type]
    async def handler(msg: str, message: KafkaMessage) -> None:
        handled.add(msg)

    with caplog.at_level(logging.WARNING):
        async with broker:
            await asyncio.to_thread(cluster.publish, topic, *(b'"old %d"' % number for number in range(before)))
            await until(lambda: len(handled) == before, what="the old topic was read")
            await asyncio.to_thread(cluster.remake, topic)
            new = {f"new {number}" for number in range(after)}
            await asyncio.to_thread(cluster.publish, topic, *(b'"new %d"' % number for number in range(after)))
            await until(
                lambda: new <= handled, what=f"the new topic was read ({len(handled) - before})", seconds=SECONDS
            )
            # and it goes on from there
            await asyncio.to_thread(cluster.publish, topic, b'"last"')
            await until(lambda: "last" in handled, what="the last message")
            await until(lambda: RENEWED in caplog.text, what="the line in the log")
    said = [one for one in caplog.messages if RENEWED in one]
    assert len(said) == 1
    assert topic in said[0]
    if group:
        assert await asyncio.to_thread(cluster.committed, topic, topic) == after + 1


@pytest.mark.parametrize("reset", ["latest", "earliest"])
@pytest.mark.parametrize("committed", [3, 1000])
async def test_a_committed_offset_that_is_not_in_the_log(
    url: str, cluster: Cluster, reset: Literal["latest", "earliest"], committed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What is published from the start on is handled, and what is in the log before it too: nobody has handled it."""
    topic = fresh()
    await asyncio.to_thread(cluster.make, topic, 1)
    await asyncio.to_thread(cluster.publish, topic, *(b"%d" % number for number in range(20)))
    await asyncio.to_thread(cluster.cut, topic, 10)
    await asyncio.to_thread(cluster.commit, topic, topic, committed)
    handled: set[int] = set()
    broker = KafkaBroker(url)

    @broker.subscriber(topic, group_id=topic, auto_offset_reset=reset)
    async def handler(msg: int) -> None:
        handled.add(msg)

    async with broker:
        await asyncio.gather(*(broker.publish(number, topic) for number in range(20, 30)))
        await until(lambda: handled == set(range(10, 30)), what="all that is in the log was handled")
    assert await asyncio.to_thread(cluster.committed, topic, topic) == 30
    assert caplog.text.count("is not in the log any more") == 1


@pytest.mark.parametrize("named", [False, True], ids=["group", "partitions"])
@pytest.mark.parametrize("reset", ["latest", "none"])
async def test_a_restart_after_the_topic_was_made_again(
    url: str, cluster: Cluster, reset: Literal["latest", "none"], named: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The group's offset says of which topic it is: one that stayed behind means nothing for the new topic."""
    topic = fresh()
    await asyncio.to_thread(cluster.make, topic, 1)
    await asyncio.to_thread(cluster.commit, topic, topic, 0)
    handled: set[str] = set()

    def subscribed() -> KafkaBroker:
        broker = KafkaBroker(url)
        topics = () if named else (topic,)
        partitions = (TopicPartition(topic, 0),) if named else ()

        @broker.subscriber(*topics, partitions=partitions, group_id=topic, auto_offset_reset=reset)
        async def handler(msg: str) -> None:
            handled.add(msg)

        return broker

    async with subscribed():
        await asyncio.to_thread(cluster.publish, topic, *(b'"old %d"' % number for number in range(5)))
        await until(lambda: len(handled) == 5, what="the old topic was read")
    note = await asyncio.to_thread(cluster.note, topic, topic)
    await asyncio.to_thread(cluster.remake, topic)
    await asyncio.to_thread(cluster.publish, topic, *(b'"new %d"' % number for number in range(10)))
    await asyncio.to_thread(cluster.commit, topic, topic, 5, note)
    async with subscribed():
        await until(lambda: len(handled) == 15, what="the new topic was read from its beginning")
    assert caplog.text.count(RENEWED) == 1


async def test_publishing_goes_on_when_the_new_topic_has_fewer_partitions(url: str, cluster: Cluster) -> None:
    """The client still knows the partitions of the old one, and chooses among them."""
    topic, count = fresh(), 60
    await asyncio.to_thread(cluster.make, topic, 6)
    async with KafkaBroker(url) as broker:

        async def publish_all() -> list[object]:
            work = (broker.publish(number, topic, key=str(number)) for number in range(count))
            return await asyncio.gather(*work, return_exceptions=True)

        assert len(await publish_all()) == count
        await asyncio.to_thread(cluster.remake, topic, 2)
        # What the client has given to a partition that goes at that very moment is unavailable, and nobody's fault.
        failed = [one for one in await publish_all() if isinstance(one, BaseException)]
        assert not [one for one in failed if not isinstance(one, BrokerUnavailable)]
        assert not [one for one in await publish_all() if isinstance(one, BaseException)]
        with pytest.raises(PublishError, match="Unknown partition"):
            await broker.publish(0, topic, partition=5)
