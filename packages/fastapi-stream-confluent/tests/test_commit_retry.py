"""A commit that came into the middle of a rebalance is made again, of what is still the same partition and ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from fastapi_stream_confluent import KafkaBroker
from fastapi_stream_confluent.consumer import ConsumerThread
from fastapi_stream_confluent.transport import KafkaTransport
from fastapi_stream_core.dispatch import Dispatcher

DEADLINE = 30.0
TOPIC = "tea"
LANE = (TOPIC, 0)


@pytest.fixture
def address() -> Iterator[str]:
    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    server = next(iter(cluster.list_topics(TOPIC, timeout=DEADLINE).brokers.values()))
    yield f"{server.host}:{server.port}"
    cluster.flush(0)


class Rebalancing:
    """The client's consumer while its group rebalances: it commits nothing."""

    def __init__(self, commits: Callable[[], None]) -> None:
        self._commits = commits

    def commit(self, **_: Any) -> None:
        self._commits()
        raise KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))


@pytest.mark.parametrize("meanwhile", ["nothing", "made again", "taken again"])
async def test_a_commit_in_a_rebalance(
    address: str, meanwhile: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = KafkaBroker(address, allow_auto_create_topics=False)
    subscription = broker.subscriber(
        partitions=[TopicPartition(*LANE)], group_id="readers", auto_offset_reset="earliest"
    )

    @subscription
    async def handler(msg: str) -> None: ...

    async with KafkaBroker(address) as publishing:
        await publishing.publish("hi", TOPIC, partition=0)
    transport = KafkaTransport(broker)
    source: Any = transport.source(subscription)
    source.dispatcher = Dispatcher(subscription)
    await source.start()
    try:
        messages = []
        while not messages:
            messages = await asyncio.wait_for(source.fetch(1), DEADLINE)
        loop, refused, post = asyncio.get_running_loop(), asyncio.Event(), ConsumerThread.post
        rebalances, jobs = True, list[object]()

        def post_refused(thread: ConsumerThread, job: Callable[[Consumer], object]) -> None:
            jobs.append(job)
            told = Rebalancing(lambda: loop.call_soon_threadsafe(refused.set))
            post(thread, lambda client: job(told if rebalances else client))  # type: ignore[arg-type]

        monkeypatch.setattr(ConsumerThread, "post", post_refused)
        source.ack(messages[0])
        flushing = asyncio.create_task(source.flush())
        await asyncio.wait_for(refused.wait(), DEADLINE)
        if meanwhile == "made again":
            source.forget(LANE)
        elif meanwhile == "taken again":
            source.offsets[LANE].revoked()
            source.offsets[LANE].assigned(messages[0].offset + 1)
        rebalances = False
        await asyncio.wait_for(flushing, DEADLINE)
        assert "a commit failed" not in caplog.text
        assert len(jobs) == (2 if meanwhile == "nothing" else 1)
        assert meanwhile != "nothing" or source.offsets[LANE].committable() is None
    finally:
        await source.close()
        await transport.close()
