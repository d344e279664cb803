"""RabbitMQ without memory: it stops reading who publishes, and everything else goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import aio_pika
import pytest
from fastapi_stream_rabbit import BrokerUnavailable, RabbitBroker, RabbitQueue, RabbitRouter

from servers import Server
from waiting import until

DEADLINE = 60.0
ANSWERS = 1000
ALARM_SECONDS = 8.0
"""Time for several runs of a handler whose result waits a second for room."""


@asynccontextmanager
async def memory_alarm(server: Server) -> AsyncIterator[None]:
    """Let the server believe that it has no memory left."""
    await asyncio.to_thread(server.execute, "rabbitmqctl", "set_vm_memory_high_watermark", "0.000001")
    try:
        yield
    finally:
        await asyncio.to_thread(server.execute, "rabbitmqctl", "set_vm_memory_high_watermark", "0.6")


async def publish_on(broker: RabbitBroker, name: str, timeout: float | None = None) -> None:
    """Publish again and again: what is sent when the alarm begins may still be taken."""
    for _ in range(1000):
        await broker.publish(-1, name, timeout=timeout)


async def test_a_queue_drains_while_publishing_is_blocked(rabbit_server: Server) -> None:
    name, count = f"alarm-{uuid4().hex[:10]}", 300
    router = RabbitRouter(rabbit_server.url, publish_timeout=2.0)
    seen: set[int] = set()
    go = asyncio.Event()

    @router.subscriber(name, max_workers=2)
    async def handler(msg: int) -> None:
        await asyncio.wait_for(go.wait(), DEADLINE)
        seen.add(msg)

    async with router.broker as broker:
        await asyncio.gather(*(broker.publish(number, name, timeout=DEADLINE) for number in range(count)))
        async with memory_alarm(rabbit_server):
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable, match="alarm") as caught:
                await publish_on(broker, name)
            assert caught.value.seconds == 2.0
            assert time.monotonic() - began < DEADLINE
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable, match="alarm"):
                await broker.publish(-1, name, timeout=0.5)
            assert time.monotonic() - began < 2.0 + 5
            go.set()
            await until(lambda: set(range(count)) <= seen, what="emptying the queue")
            assert not await broker.ping()  # it would answer, and take nothing
            waiting = asyncio.ensure_future(broker.publish(count, name, timeout=DEADLINE))
            done, _ = await asyncio.wait((waiting,), timeout=0.2)
            assert not done
        assert await asyncio.wait_for(waiting, DEADLINE) is not None
        assert await broker.ping()
        await until(lambda: count in seen, what="what was published behind the alarm")
        assert "restarted" not in broker.report.counts
    async with await aio_pika.connect(rabbit_server.url) as connection, connection.channel() as channel:
        assert await (await channel.get_queue(name)).get(fail=False) is None  # everything was acknowledged
        await channel.queue_delete(name)


async def test_a_handler_does_not_run_again_while_its_result_is_not_taken(rabbit_server: Server) -> None:
    name = f"alarm-{uuid4().hex[:10]}"
    router = RabbitRouter(rabbit_server.url, publish_timeout=1.0)
    runs: list[int] = []
    go, begun, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @router.subscriber(RabbitQueue(f"{name}-in", auto_delete=True))
    @router.publisher(f"{name}-out")
    async def handler(msg: int) -> int:
        begun.set()
        await asyncio.wait_for(go.wait(), DEADLINE)
        runs.append(msg)
        return msg

    @router.subscriber(RabbitQueue(f"{name}-out", auto_delete=True))
    async def taken(msg: int) -> None:
        if msg == 1:
            over.set()

    async with router.broker as broker:
        await broker.publish(1, f"{name}-in", timeout=DEADLINE)
        await asyncio.wait_for(begun.wait(), DEADLINE)
        async with memory_alarm(rabbit_server):
            with pytest.raises(BrokerUnavailable, match="alarm"):
                await publish_on(broker, f"{name}-out")
            go.set()
            await until(lambda: broker.report.counts.get("paused") == 1, what="the pause")
            waited = asyncio.Event()
            asyncio.get_running_loop().call_later(ALARM_SECONDS, waited.set)
            await waited.wait()
            assert runs == [1]
        await asyncio.wait_for(over.wait(), DEADLINE)
    assert runs == [1, 1]
    assert "failed" not in broker.report.counts


async def test_no_answer_is_lost_during_an_alarm(rabbit_server: Server) -> None:
    """It waits for room as everything does that is published, though nothing else is published here."""
    name = f"alarm-{uuid4().hex[:10]}"
    router = RabbitRouter(rabbit_server.url, publish_timeout=1.0)
    answers: set[int] = set()
    go, begun = asyncio.Event(), asyncio.Event()

    @router.subscriber(RabbitQueue(f"{name}-in", auto_delete=True), max_workers=1)
    async def handler(msg: int) -> int:
        begun.set()
        await asyncio.wait_for(go.wait(), DEADLINE)
        return msg

    @router.subscriber(RabbitQueue(f"{name}-answers", auto_delete=True))
    async def answered(msg: int) -> None:
        answers.add(msg)

    async with router.broker as broker:
        async with RabbitRouter(rabbit_server.url).broker as sender:
            for number in range(ANSWERS):
                await sender.publish(number, f"{name}-in", reply_to=f"{name}-answers")
        await asyncio.wait_for(begun.wait(), DEADLINE)
        async with memory_alarm(rabbit_server):
            go.set()
            await until(lambda: broker.report.counts.get("paused") == 1, what="the pause")
        await until(lambda: len(answers) == ANSWERS, what="the last answer")
        assert not {"failed", "replies_refused"} & set(broker.report.counts)


async def test_a_stop_during_an_alarm_ends_who_publishes(rabbit_server: Server) -> None:
    name = f"alarm-{uuid4().hex[:10]}"
    router = RabbitRouter(rabbit_server.url)
    async with memory_alarm(rabbit_server):
        async with router.broker as broker:
            with pytest.raises(BrokerUnavailable, match="alarm"):
                await publish_on(broker, name, timeout=1.0)
            waiting = [asyncio.ensure_future(broker.publish("hi", name)) for _ in range(5)]
            done, _ = await asyncio.wait(waiting, timeout=0.2)
            assert not done
            began = time.monotonic()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert time.monotonic() - began < 9
    assert [type(one) for one in outcomes] == [BrokerUnavailable] * 5
    assert all("stopped" in str(one) for one in outcomes)
