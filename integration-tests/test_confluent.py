"""What is the confluent package's own on a real Kafka: positions, commits, rebalances, and a server that is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Annotated, Any

import pytest
from fastapi import Path
from fastapi_stream_confluent import (
    AckPolicy,
    BrokerUnavailable,
    KafkaBroker,
    KafkaMessage,
    KafkaResponse,
    KafkaRouter,
    PublishError,
    SASLPlaintext,
    SetupError,
    TopicPartition,
)
from fastapi_stream_core.subscription import Status

from confluent_cluster import DEADLINE, Cluster, fresh, take
from servers import Server, free_port
from waiting import until


@pytest.fixture
def url(confluent_server: Server) -> str:
    return confluent_server.url


@pytest.fixture
def cluster(url: str) -> Cluster:
    return Cluster(url)


# Start ---------------------------------------------------------------------------------------------------------------


async def test_a_broker_that_is_away_is_named_without_the_password(caplog: pytest.LogCaptureFixture) -> None:
    security = SASLPlaintext("ann", "s3cret")
    router = KafkaRouter(f"127.0.0.1:{free_port()}", startup_timeout=1.0, security=security)
    began = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(BrokerUnavailable) as caught:
        await router.broker.start()
    assert time.monotonic() - began < 4
    assert router.broker.address in str(caught.value)
    assert "refused" in str(caught.value)
    assert "s3cret" not in f"{caught.value!r} {caught.value} {caplog.text} {security!r} {router.broker!r}"
    assert not router.broker.running


async def test_options_that_do_not_go_together_are_a_setup_error(url: str) -> None:
    """The client looks at them together when it is made."""
    broker = KafkaBroker(url, config={"group.protocol": "consumer"})

    @broker.subscriber(fresh(), group_id=fresh(), session_timeout_ms=20_000)
    async def handler(msg: str) -> None: ...

    with pytest.raises(SetupError, match=r"session\.timeout\.ms"):
        await broker.start()
    assert not broker.running


async def test_a_group_that_the_cluster_leads(url: str, cluster: Cluster) -> None:
    """What the first member of a group handled is committed: the second goes on behind it."""
    topic, group = fresh(), fresh()
    await asyncio.to_thread(cluster.make, topic, 1)
    seen: asyncio.Queue[int] = asyncio.Queue()

    def member() -> KafkaBroker:
        broker = KafkaBroker(url, config={"group.protocol": "consumer"})

        @broker.subscriber(topic, group_id=group, auto_offset_reset="earliest")
        async def handler(msg: int) -> None:
            seen.put_nowait(msg)

        return broker

    for begin in (0, 10):
        async with member() as broker:
            for number in range(begin, begin + 10):
                await broker.publish(number, topic)
            assert await take(seen, 10) == [*range(begin, begin + 10)]
    assert seen.empty()


@pytest.mark.parametrize("group", [None, "group"])
async def test_a_topic_that_must_not_be_made_is_waited_for(
    url: str, cluster: Cluster, group: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    broker = KafkaBroker(url, allow_auto_create_topics=False)
    topic = fresh()
    seen: asyncio.Queue[int] = asyncio.Queue()

    @broker.subscriber(topic, group_id=group and f"{topic}-{group}")
    async def handler(msg: int) -> None:
        seen.put_nowait(msg)

    async with broker:
        assert topic not in await asyncio.to_thread(cluster.topics)
        (subscriber,) = broker.subscribers
        await until(lambda: subscriber.status is Status.BACKING_OFF, what="the subscription backs off")
        assert not subscriber.running
        assert caplog.text.count(f"the topic {topic} does not exist; it is read as soon as somebody makes it") == 1
        await asyncio.to_thread(cluster.make, topic, 1)
        await broker.publish(1, topic)
        assert await take(seen) == [1]
        await until(lambda: subscriber.running, what="the subscription runs")
        assert "restarted" not in broker.report.counts


async def test_a_new_group_begins_where_it_was_started(url: str, cluster: Cluster) -> None:
    """`latest` is committed at once, so that what is published before the first message was handled is not lost."""
    topic = fresh()
    seen: asyncio.Queue[str] = asyncio.Queue()

    def subscribed() -> KafkaBroker:
        broker = KafkaBroker(url)

        @broker.subscriber(topic, group_id=topic)
        async def handler(msg: str) -> None:
            seen.put_nowait(msg)

        return broker

    async with subscribed():
        pass
    await asyncio.to_thread(cluster.publish, topic, b'"while it was away"')
    async with subscribed():
        assert await take(seen) == ["while it was away"]


async def test_earliest_reads_what_is_there(url: str, cluster: Cluster) -> None:
    topic = fresh()
    await asyncio.to_thread(cluster.publish, topic, b"1", b"2")
    seen: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    broker = KafkaBroker(url)

    @broker.subscriber(topic, auto_offset_reset="earliest")
    async def alone(msg: int) -> None:
        seen.put_nowait(("alone", msg))

    @broker.subscriber(topic, auto_offset_reset="earliest", group_id=fresh())
    async def grouped(msg: int) -> None:
        seen.put_nowait(("grouped", msg))

    async with broker:
        assert sorted(await take(seen, 4)) == [("alone", 1), ("alone", 2), ("grouped", 1), ("grouped", 2)]


async def test_no_reset_without_an_offset_fails(url: str) -> None:
    broker = KafkaBroker(url)

    @broker.subscriber(fresh(), group_id=fresh(), auto_offset_reset="none")
    async def handler(msg: str) -> None: ...

    with pytest.raises(SetupError, match="auto_offset_reset='none'"):
        await broker.start()


async def test_partitions_are_named(url: str, cluster: Cluster) -> None:
    topic = fresh()
    await asyncio.to_thread(cluster.make, topic, 3)
    seen: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    broker = KafkaBroker(url)

    @broker.subscriber(partitions=[TopicPartition(topic, 1)])
    async def one(msg: int) -> None:
        seen.put_nowait(("one", msg))

    @broker.subscriber(partitions=[TopicPartition(topic, 1, 1), TopicPartition(topic, 2)], group_id=topic)
    async def two(msg: int, message: KafkaMessage) -> None:
        assert message.partition in (1, 2)
        seen.put_nowait(("two", msg))

    async with KafkaBroker(url) as publisher:
        await publisher.publish(-1, topic, partition=1)
    async with broker:
        for number, partition in enumerate((0, 1, 1, 2)):
            await broker.publish(number, topic, partition=partition)
        assert sorted(await take(seen, 5)) == [("one", 1), ("one", 2), ("two", 1), ("two", 2), ("two", 3)]
    assert await asyncio.to_thread(cluster.committed, topic, topic, 1) == 3


@pytest.mark.parametrize("group", [None, "group"])
async def test_a_topic_that_comes_to_match_a_pattern_is_read_from_its_beginning(url: str, group: str | None) -> None:
    name = fresh()
    seen: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    broker = KafkaBroker(url)

    @broker.subscriber(pattern=f"{name}.{{kind}}", group_id=group and f"{name}-{group}")
    async def handler(msg: str, kind: Annotated[str, Path()]) -> None:
        seen.put_nowait((msg, kind))

    async with broker:
        await broker.publish("a", f"{name}.x")
        assert await take(seen) == [("a", "x")]
        await broker.publish("b", f"{name}.x")
        await broker.publish("c", f"{name}.y")
        assert sorted(await take(seen, 2)) == [("b", "x"), ("c", "y")]


# Commits -------------------------------------------------------------------------------------------------------------


async def test_only_what_is_contiguous_is_committed(url: str, cluster: Cluster) -> None:
    topic = fresh()
    release = asyncio.Event()
    done: asyncio.Queue[int] = asyncio.Queue()
    broker = KafkaBroker(url)

    @broker.subscriber(topic, group_id=topic, max_workers=10)
    async def handler(msg: int) -> None:
        if msg == 3:
            await asyncio.wait_for(release.wait(), DEADLINE)
        done.put_nowait(msg)

    async with broker:
        for number in range(10):
            await broker.publish(number, topic)
        await take(done, 9)

        async def committed(position: int) -> None:
            deadline = time.monotonic() + DEADLINE
            while await asyncio.to_thread(cluster.committed, topic, topic) != position:
                assert time.monotonic() < deadline

        await committed(3)
        release.set()
        await committed(10)


async def test_commits_are_few(url: str, cluster: Cluster) -> None:
    topic = fresh()
    count = 2000
    await asyncio.to_thread(cluster.publish, topic, *(b"%d" % number for number in range(count)))
    done: asyncio.Queue[int] = asyncio.Queue()
    broker = KafkaBroker(url)

    @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
    async def handler(msg: int) -> None:
        done.put_nowait(msg)

    began = time.monotonic()
    async with broker:
        before = await asyncio.to_thread(cluster.end, "__consumer_offsets")
        assert await take(done, count) == list(range(count))
    seconds = time.monotonic() - began
    assert await asyncio.to_thread(cluster.committed, topic, topic) == count
    commits = await asyncio.to_thread(cluster.end, "__consumer_offsets") - before
    assert commits <= 10 * seconds + 5


async def test_a_clean_stop_commits_what_was_handled_and_no_more(url: str, cluster: Cluster) -> None:
    topic = fresh()
    await asyncio.to_thread(cluster.publish, topic, *(b"%d" % number for number in range(50)))
    handled: list[int] = []
    enough = asyncio.Event()

    def subscribed() -> KafkaBroker:
        broker = KafkaBroker(url)

        @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
        async def handler(msg: int) -> None:
            await asyncio.sleep(0.001)
            handled.append(msg)
            if len(handled) in (20, 50):
                enough.set()

        return broker

    async with subscribed():
        await asyncio.wait_for(enough.wait(), DEADLINE)
    assert await asyncio.to_thread(cluster.committed, topic, topic) == len(handled) < 50
    enough.clear()
    async with subscribed():
        await asyncio.wait_for(enough.wait(), DEADLINE)
    assert handled == list(range(50))


# Groups --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["roundrobin", "cooperative-sticky"])
async def test_members_that_come_and_go_share_the_messages(url: str, cluster: Cluster, strategy: Any) -> None:
    topic = fresh()
    await asyncio.to_thread(cluster.make, topic, 4)
    handled: Counter[int] = Counter()
    by: dict[str, int] = {"one": 0, "two": 0}

    def member(name: str) -> KafkaBroker:
        broker = KafkaBroker(url)

        @broker.subscriber(
            topic, group_id=topic, auto_offset_reset="earliest", partition_assignment_strategy=(strategy,)
        )
        async def handler(msg: int) -> None:
            await asyncio.sleep(0.002)
            handled[msg] += 1
            by[name] += 1

        return broker

    publisher = KafkaBroker(url)
    async with publisher:
        sent = 0

        async def send(count: int) -> None:
            nonlocal sent
            for number in range(sent, sent + count):
                await publisher.publish(number, topic, partition=number % 4)
            sent += count

        async with member("one"):
            await send(100)
            async with member("two"):
                await send(200)
                await until(lambda: by["two"] > 20, what="the second member's share")
            await send(100)
            await until(lambda: len(handled) == 400, what="handling everything")
    assert set(handled) == set(range(400))
    assert set(handled.values()) == {1}, "a rebalance repeats nothing that was finished"


async def test_a_handler_that_takes_long_keeps_its_membership(url: str, cluster: Cluster) -> None:
    """More messages than there is room for, and nothing is taken for longer than the group's patience."""
    topic = fresh()
    await asyncio.to_thread(cluster.publish, topic, *(b"%d" % number for number in range(700)))
    handled: list[int] = []
    broker = KafkaBroker(url)

    @broker.subscriber(
        topic, group_id=topic, auto_offset_reset="earliest", max_poll_interval_ms=6000, session_timeout_ms=6000
    )
    async def handler(msg: int) -> None:
        if msg == 0:
            tick = asyncio.Event()
            asyncio.get_running_loop().call_later(8.0, tick.set)
            await tick.wait()
        handled.append(msg)

    async with broker:
        await until(lambda: len(handled) == 700, what="handling everything")
    assert handled == list(range(700))
    assert broker.report.counts.get("late", 0) == 0
    assert await asyncio.to_thread(cluster.committed, topic, topic) == 700


async def test_a_partition_waits_for_its_failed_message_and_the_others_go_on(url: str, cluster: Cluster) -> None:
    topic = fresh()
    await asyncio.to_thread(cluster.make, topic, 2)
    seen: list[tuple[int, int]] = []
    broker = KafkaBroker(url)

    @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
    async def handler(msg: int, message: KafkaMessage) -> None:
        seen.append((message.partition, msg))
        if msg == 0 and message.attempt < 4:
            raise ValueError("not yet")

    async with broker:
        for number in range(5):
            await broker.publish(number, topic, partition=0)
        await until(lambda: seen, what="the first delivery")
        for number in range(5):
            await broker.publish(10 + number, topic, partition=1)
        await until(lambda: len(seen) == 13, what="handling everything")
    assert [msg for partition, msg in seen if partition == 0] == [0, 0, 0, 0, 1, 2, 3, 4]
    assert [msg for partition, msg in seen if partition == 1] == [10, 11, 12, 13, 14]
    assert seen.index((1, 14)) < seen.index((0, 1)), "the other partition did not wait"


# Publishing ----------------------------------------------------------------------------------------------------------


async def test_what_is_on_the_wire(url: str, cluster: Cluster) -> None:
    topic = fresh()
    broker = KafkaBroker(url)
    async with broker:
        await broker.publish(
            {"a": 1}, topic, key="k", correlation_id="c", reply_to="back", headers={"x": ["1", b"\xff"]}
        )
        await broker.publish(None, topic, key=b"k", timestamp_ms=12345, correlation_id="c")
        await broker.publish(KafkaResponse(b"", key="r", timestamp_ms=5), topic, correlation_id="c")
        confirmed = await broker.publish("text", topic, correlation_id="c")
    assert (confirmed.topic(), confirmed.partition(), confirmed.offset()) == (topic, 0, 3)
    record = await asyncio.to_thread(cluster.record, topic)
    assert (record.key(), record.value()) == (b"k", b'{"a":1}')
    assert record.headers() == [
        ("content-type", b"application/json"),
        ("correlation_id", b"c"),
        ("reply_to", b"back"),
        ("x", b"1"),
        ("x", b"\xff"),
    ]
    tombstone = await asyncio.to_thread(cluster.record, topic, 1)
    assert (tombstone.key(), tombstone.value(), tombstone.timestamp()[1]) == (b"k", None, 12345)
    empty = await asyncio.to_thread(cluster.record, topic, 2)
    assert (empty.key(), empty.value(), empty.timestamp()[1]) == (b"r", b"", 5)
    text = await asyncio.to_thread(cluster.record, topic, 3)
    assert text.headers() == [("content-type", b"text/plain"), ("correlation_id", b"c")]


ODD_PLACES: list[dict[str, Any]] = [
    {"key": 3},
    {"key": "\ud800"},
    {"partition": -1},
    {"partition": 2**40},
    {"partition": "1"},
    {"timestamp_ms": -1},
    {"timestamp_ms": 2**70},
    {"timestamp_ms": 1.5},
]


async def test_a_place_that_the_wire_does_not_have(url: str, cluster: Cluster) -> None:
    topic = fresh()
    await asyncio.to_thread(cluster.make, topic, 1)
    async with KafkaBroker(url) as broker:
        for odd in ODD_PLACES:
            with pytest.raises(PublishError):
                await broker.publish("odd", topic, **odd)
        assert (await broker.publish("right", topic)).offset() == 0


async def test_none_is_a_null_record_on_every_way(url: str, cluster: Cluster) -> None:
    topic = fresh()
    await asyncio.to_thread(cluster.make, topic, 1)
    broker = KafkaBroker(url)
    publisher = broker.publisher(topic)
    async with broker:
        await broker.publish(None, topic, key=b"gone")
        await broker.publish(None, topic)
        await broker.publish(None, topic, partition=0, timestamp_ms=5)
        await broker.publish(None, topic, headers={"x": "1"}, reply_to="answers")
        await broker.publish(KafkaResponse(None), topic)
        await publisher.publish(None)
        await broker.publish(b"", topic)
    found = [await asyncio.to_thread(cluster.record, topic, offset) for offset in range(7)]
    nulls = [(None, None)] * 5
    assert [(one.key(), one.value()) for one in found] == [(b"gone", None), *nulls, (None, b"")]


async def test_an_answer_of_none_and_a_published_one_are_null_records(url: str) -> None:
    topic = fresh()
    answers, out = f"{topic}-answers", f"{topic}-out"
    seen: asyncio.Queue[Any] = asyncio.Queue()
    broker = KafkaBroker(url)

    @broker.subscriber(answers)
    @broker.subscriber(out)
    async def sink(message: KafkaMessage) -> None:
        seen.put_nowait((message.address, message.raw_message.value()))

    @broker.subscriber(topic)
    @broker.publisher(out)
    async def handler(msg: str) -> Any:
        return KafkaResponse(None) if msg == "published" else None

    async with broker:
        await broker.publish("answered", topic, reply_to=answers)
        assert await take(seen) == [(answers, None)]
        await broker.publish("published", topic)
        assert await take(seen) == [(out, None)]


async def test_a_tombstone_is_none_and_a_key_is_bytes(url: str) -> None:
    topic = fresh()
    seen: asyncio.Queue[Any] = asyncio.Queue()
    broker = KafkaBroker(url)

    @broker.subscriber(topic)
    async def handler(body: dict[str, int] | None, message: KafkaMessage) -> None:
        seen.put_nowait((body, message.key, message.raw_message.value(), message.message_id))

    async with broker:
        await broker.publish(None, topic, key="k", timestamp_ms=77)
        assert await take(seen) == [(None, b"k", None, "0-77")]


async def test_more_messages_than_the_clients_queue_takes(url: str, cluster: Cluster) -> None:
    topic = fresh()
    broker = KafkaBroker(url, config={"queue.buffering.max.messages": 10})
    async with broker:
        await asyncio.gather(*(broker.publish(number, topic) for number in range(300)))
    assert await asyncio.to_thread(cluster.end, topic) == 300


async def test_what_kafka_refuses_is_an_error(url: str) -> None:
    broker = KafkaBroker(url)
    topic = fresh()
    async with broker:
        await broker.publish("fine", topic)
        with pytest.raises(PublishError, match="too large"):
            await broker.publish(b"x" * 2_000_000, topic)
        with pytest.raises(PublishError, match="partition"):
            await broker.publish("x", topic, partition=77)
        with pytest.raises(PublishError, match="name of a topic consists of"):
            await broker.publish("x", "not a topic!")


async def test_publishing_waits_for_a_server_that_is_away(confluent_server: Server) -> None:
    topic = fresh()
    patient, hasty = (
        KafkaBroker(confluent_server.url, publish_timeout=60),
        KafkaBroker(confluent_server.url, publish_timeout=2),
    )
    async with patient, hasty:
        await patient.publish("before", topic)
        confluent_server.pause()
        try:
            waiting = asyncio.ensure_future(patient.publish("meanwhile", topic))
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable, match=r"publish.*127\.0\.0\.1"):
                await hasty.publish("lost", topic)
            assert time.monotonic() - began < 3
            assert not waiting.done()
        finally:
            confluent_server.unpause()
        assert (await waiting).offset() >= 1


# A server that comes back --------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
async def test_everything_goes_on_after_a_restart(confluent_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    topic = fresh()
    seen: dict[str, list[int]] = {"alone": [], "grouped": []}
    broker = KafkaBroker(confluent_server.url, publish_timeout=60)

    @broker.subscriber(topic)
    async def alone(msg: int) -> None:
        seen["alone"].append(msg)

    @broker.subscriber(topic, group_id=topic)
    async def grouped(msg: int) -> None:
        seen["grouped"].append(msg)

    with caplog.at_level(logging.INFO):
        async with broker:
            await broker.publish(0, topic)
            await until(lambda: seen == {"alone": [0], "grouped": [0]}, what="the first message")
            await asyncio.to_thread(confluent_server.stop)
            assert not await broker.ping(0.5)
            await asyncio.to_thread(confluent_server.start)
            back = time.monotonic()
            await broker.publish(1, topic)
            await until(lambda: seen["alone"][-1] == 1, what="consuming again")
            assert time.monotonic() - back < 10
            await until(lambda: seen["grouped"][-1] == 1, what="consuming again in the group")
            assert await broker.ping(5.0)
    assert seen == {"alone": [0, 1], "grouped": [0, 1]}
    assert len(caplog.text) < 30_000


@pytest.mark.timeout(180)
async def test_a_handler_goes_on_while_the_membership_is_lost(confluent_server: Server, cluster: Cluster) -> None:
    """The message comes again to the same process and waits for the outcome of its first run."""
    topic = fresh()
    release, started = asyncio.Event(), asyncio.Event()
    runs: list[tuple[int, str]] = []
    broker = KafkaBroker(confluent_server.url)

    @broker.subscriber(topic, group_id=topic, session_timeout_ms=6000, heartbeat_interval_ms=500)
    async def handler(msg: int) -> None:
        runs.append((msg, "begin"))
        started.set()
        await asyncio.wait_for(release.wait(), 100)
        runs.append((msg, "end"))

    async with broker, KafkaBroker(confluent_server.url) as publisher:
        await publisher.publish(0, topic)
        await asyncio.wait_for(started.wait(), DEADLINE)
        confluent_server.pause()
        try:
            tick = asyncio.Event()
            asyncio.get_running_loop().call_later(9.0, tick.set)
            await tick.wait()
        finally:
            confluent_server.unpause()
        await publisher.publish(1, topic)
        members = asyncio.ensure_future(asyncio.to_thread(cluster.await_member, topic))
        await asyncio.wait_for(members, DEADLINE)
        release.set()
        await until(lambda: (1, "end") in runs, what="the second message")
    assert runs == [(0, "begin"), (0, "end"), (1, "begin"), (1, "end")]
    assert await asyncio.to_thread(cluster.committed, topic, topic) == 2


@pytest.mark.timeout(180)
async def test_a_copy_that_was_handled_while_it_waited_does_not_run_again(url: str) -> None:
    """A rebalance does not wait for the handler, and brings its message again; then the first run fails."""
    topic = fresh()
    release = asyncio.Event()
    runs: list[int] = []
    broker, other = KafkaBroker(url), KafkaBroker(url)

    @broker.subscriber(topic, group_id=topic, max_workers=2, max_poll_interval_ms=6000, session_timeout_ms=6000)
    async def handler(msg: int) -> None:
        runs.append(msg)
        if runs == [0, 1]:
            joined.set()
        if runs == [0]:
            await asyncio.wait_for(release.wait(), DEADLINE)
            raise ValueError("the first run")

    @other.subscriber(f"{topic}-other", group_id=topic)
    async def elsewhere(msg: int) -> None: ...

    joined = asyncio.Event()
    async with broker:
        await broker.publish(0, topic)
        await until(lambda: runs == [0], what="the first run")
        async with other:
            await broker.publish(1, topic)
            await asyncio.wait_for(joined.wait(), DEADLINE)
            release.set()
            await until(lambda: runs[2:3] == [0], what="the second run")
            await broker.publish(2, topic)  # behind the copy, which waits for the second run
            await until(lambda: 2 in runs, what="the last message")
    assert runs == [0, 1, 0, 2]


async def test_a_topic_that_is_deleted_and_made_again_is_read_again(url: str, cluster: Cluster) -> None:
    topic = fresh()
    seen: list[int] = []
    broker = KafkaBroker(url)

    @broker.subscriber(topic)
    async def handler(msg: int) -> None:
        seen.append(msg)

    async with broker:
        await broker.publish(0, topic)
        await until(lambda: seen == [0], what="the first message")
        await asyncio.to_thread(cluster.delete, topic)
        deadline = time.monotonic() + DEADLINE
        while 1 not in seen and time.monotonic() < deadline:
            await broker.publish(1, topic)
        assert 1 in seen


# Options -------------------------------------------------------------------------------------------------------------


async def test_a_batch_is_of_one_partition(url: str, cluster: Cluster) -> None:
    topic = fresh()
    await asyncio.to_thread(cluster.publish, topic, *(b"%d" % number for number in range(25)))
    batches: list[list[int]] = []
    broker = KafkaBroker(url)

    @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest", batch=True, max_records=10)
    async def handler(numbers: list[int]) -> None:
        batches.append(numbers)

    async with broker:
        await until(lambda: sum(map(len, batches)) == 25, what="handling everything")
    assert [number for batch in batches for number in batch] == list(range(25))
    assert max(map(len, batches)) == 10
    assert await asyncio.to_thread(cluster.committed, topic, topic) == 25


async def test_acknowledging_first_is_at_most_once(url: str, cluster: Cluster) -> None:
    topic = fresh()
    started: asyncio.Queue[int] = asyncio.Queue()
    broker = KafkaBroker(url, graceful_timeout=0.1)

    @broker.subscriber(topic, group_id=topic, ack_policy=AckPolicy.ACK_FIRST)
    async def handler(msg: int) -> None:
        started.put_nowait(msg)
        await asyncio.Event().wait()

    async with broker:
        await broker.publish(1, topic)
        await take(started)
    assert await asyncio.to_thread(cluster.committed, topic, topic) == 1
