"""Which errors say that Kafka is away, and which that a message can't be published; `ping` says the truth."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi_stream_confluent import BrokerUnavailable, KafkaBroker, PublishError, SASLPlaintext

from confluent_cluster import Cluster, fresh
from servers import Server, open_server
from waiting import until


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = open_server("kafka")
    try:
        yield server
    finally:
        server.remove()


async def test_a_server_that_is_stopped_and_comes_back(server: Server) -> None:
    broker, topic = KafkaBroker(server.url, publish_timeout=3.0), fresh()
    async with broker:
        await broker.publish("before", topic)
        assert await broker.ping()
        await asyncio.to_thread(server.stop)
        try:
            assert not await broker.ping(1.0)
            began = time.monotonic()
            failures = await asyncio.gather(
                *(broker.publish(number, topic) for number in range(200)),
                broker.publish("to a topic that nobody knows yet", fresh()),
                return_exceptions=True,
            )
            assert time.monotonic() - began < 6
            assert {type(one) for one in failures} == {BrokerUnavailable}
            assert not await broker.ping(1.0)
        finally:
            await asyncio.to_thread(server.start)

        async def answers() -> None:
            while not await broker.ping(1.0):
                pass

        await asyncio.wait_for(answers(), 30)
        deadline = time.monotonic() + 30
        while True:  # the coordinator of the idempotent producer comes a little later
            try:
                await broker.publish("after", topic)
                break
            except BrokerUnavailable:
                assert time.monotonic() < deadline


async def test_a_queue_that_is_full_while_the_server_is_frozen(server: Server) -> None:
    config = {"queue.buffering.max.messages": 10}
    broker, topic = KafkaBroker(server.url, publish_timeout=2.0, config=config), fresh()
    async with broker:
        await broker.publish("before", topic)
        await asyncio.to_thread(server.pause)
        try:
            failures = await asyncio.gather(
                *(broker.publish(number, topic) for number in range(50)), return_exceptions=True
            )
            assert {type(one) for one in failures} == {BrokerUnavailable}
            assert not await broker.ping(0.5)
        finally:
            await asyncio.to_thread(server.unpause)


async def test_a_topic_that_is_away_for_a_moment(server: Server) -> None:
    """As of one that an operator makes again: no message is to blame, and its publication waits."""
    broker, topic, cluster = (
        KafkaBroker(server.url, config={"allow.auto.create.topics": False}),
        fresh(),
        Cluster(server.url),
    )
    await asyncio.to_thread(cluster.make, topic, 1)
    async with broker:
        await broker.publish("before", topic)
        await asyncio.to_thread(cluster.delete, topic)
        waiting = [asyncio.ensure_future(broker.publish(f"meanwhile {number}", topic)) for number in range(3)]
        done, _ = await asyncio.wait(waiting, timeout=3.0)
        assert not done
        await asyncio.to_thread(cluster.make, topic, 1)
        await asyncio.gather(*waiting)
        await asyncio.to_thread(cluster.delete, topic)
        with pytest.raises((PublishError, BrokerUnavailable)):
            await broker.publish("never", topic)


async def test_what_is_wrong_with_a_message_is_no_outage(server: Server) -> None:
    broker, topic = KafkaBroker(server.url, config={"allow.auto.create.topics": False}), fresh()
    async with KafkaBroker(server.url) as other:
        await other.publish("x", topic)
    async with broker:
        for value, where, partition in (
            ("a topic that does not exist", fresh(), None),
            ("a partition that does not exist", topic, 99),
            ("a name that is none", "a b", None),
            ("x" * 2_000_000, topic, None),
        ):
            with pytest.raises(PublishError):
                await broker.publish(value, where, partition=partition)
        for headers in ({"\udcff": "x"}, {"x": "\udcff"}, {"a\0b": "x"}):
            with pytest.raises(PublishError):
                await broker.publish("a header that can't be encoded", topic, headers=headers)
        await broker.publish("it holds up nobody", topic)
        assert await broker.ping()


async def test_credentials_that_are_refused_say_so_at_once(server: Server) -> None:
    """The server wants none, and closes the connection of who begins with some."""
    broker = KafkaBroker(server.url, security=SASLPlaintext("ann", "s3cret"), startup_timeout=8.0)
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        await broker.start()
    assert time.monotonic() - began < 5
    assert caught.value.seconds == 0
    assert "SASL" in str(caught.value)
    assert "s3cret" not in f"{caught.value!r} {caught.value}"


async def test_publishing_while_stopping(server: Server) -> None:
    broker, topic = KafkaBroker(server.url), fresh()
    await broker.start()
    await broker.publish("first", topic)
    stopping = asyncio.create_task(broker.stop())
    errors: list[BaseException] = []
    while not stopping.done():
        try:
            await broker.publish("late", topic)
        except Exception as error:
            errors.append(error)
            await asyncio.sleep(0)
    await stopping
    assert all("after" not in str(one) for one in errors)
    assert {type(one).__name__ for one in errors} <= {"BrokerUnavailable", "NotStarted"}


async def test_no_thread_is_left(server: Server) -> None:
    """Whatever the order of starts and stops is: every client of the library has threads, and none stays."""
    topic = fresh()
    broker = KafkaBroker(server.url)

    @broker.subscriber(topic, group_id=topic)
    async def handler(msg: str) -> None: ...

    def ours() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("kafka-")]

    async with broker:
        pass
    before = native_threads()
    for wait in (0.0, 0.01, 0.05, 0.2, 0.5, 1.0):
        starting = asyncio.create_task(broker.start())
        await asyncio.wait([starting], timeout=wait)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await broker.stop()
    await until(lambda: not ours(), what="the threads have ended")
    await until(lambda: native_threads() <= before, what="the library's threads have ended")


def native_threads() -> int:
    """How many threads of librdkafka there are."""
    names = [one.read_text() for one in Path("/proc/self/task").glob("*/comm")]
    return sum(name.startswith("rdk:") for name in names)
