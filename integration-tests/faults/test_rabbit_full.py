"""A queue of RabbitMQ that is full and rejects what is published."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import uuid4

import aio_pika
import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_rabbit import BrokerUnavailable, RabbitBroker, RabbitQueue

from servers import Server
from waiting import until

DEADLINE = 40.0
FULL_SECONDS = 3.0
"""Time for several tries to publish."""
COUNT = 10
ROOM = 3
AT_ONCE_SECONDS = 3.0
STUCK_SECONDS = 8.0
"""Less than `publish_timeout`, twice."""
PROCESS = {
    "classic": '{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{0}">>)), P = amqqueue:get_pid(Q)',
    "quorum": 'P = {{list_to_atom("%2F_{0}"), node()}}',
}
"""How an operator's console finds the process of a queue."""


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_a_full_queue_costs_no_message(rabbit_server: Server, kind: str) -> None:
    """It is a broker that is away for writing: what should be published waits until there is room."""
    name = f"full-{uuid4().hex[:10]}"
    broker, seen = RabbitBroker(rabbit_server.url, publish_timeout=1.0), Inbox()

    @broker.subscriber(name)
    @broker.publisher(f"{name}-out")
    async def handler(msg: int) -> int:
        seen.put(msg)
        return msg

    outputs: list[bytes] = []
    async with await aio_pika.connect(rabbit_server.url) as connection:
        channel = await connection.channel()
        arguments = {"x-max-length": ROOM, "x-overflow": "reject-publish", "x-queue-type": kind}
        queue = await channel.declare_queue(f"{name}-out", durable=True, arguments=arguments)  # type: ignore[arg-type]
        async with broker:
            count = 0

            async def is_paused() -> bool:
                """Publish one more: a quorum queue takes some beyond its limit."""
                nonlocal count
                await broker.publish(count, name, timeout=DEADLINE)
                count += 1
                return count >= COUNT and "paused" in broker.report.counts

            await until(is_paused)
            with pytest.raises(BrokerUnavailable, match="is full"):
                await asyncio.wait_for(broker.publish(9, f"{name}-out", timeout=0.5), 10)
            over = asyncio.Event()
            asyncio.get_running_loop().call_later(FULL_SECONDS, over.set)
            await over.wait()
            deadline = asyncio.get_running_loop().time() + DEADLINE
            while len(set(outputs)) < count:
                assert asyncio.get_running_loop().time() < deadline, outputs
                message = await queue.get(fail=False, no_ack=True)
                if message is not None:
                    outputs.append(message.body)
                await asyncio.sleep(0.02)
        assert sorted(map(int, outputs)) == list(range(count))
        assert not {"failed", "rejected"} & set(broker.report.counts)
        for each in (name, f"{name}-out"):
            await channel.queue_delete(each)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_an_answer_to_a_full_queue_holds_nobody(rabbit_server: Server, kind: str) -> None:
    """Its sender chose the address: an answer that RabbitMQ does not take is refused, and the next one is handled."""
    name = f"full-{uuid4().hex[:10]}"
    broker, seen = RabbitBroker(rabbit_server.url), Inbox()

    @broker.subscriber(name, max_workers=1)
    async def handler(msg: str) -> str:
        seen.put(msg)
        return msg

    async with await aio_pika.connect(rabbit_server.url) as connection:
        channel = await connection.channel()
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish", "x-queue-type": kind}
        await channel.declare_queue(f"{name}-answers", durable=True, arguments=arguments)  # type: ignore[arg-type]
        async with broker:
            for _ in range(ROOM):  # a quorum queue takes some more than it may
                with suppress(aio_pika.exceptions.DeliveryError):
                    await channel.default_exchange.publish(aio_pika.Message(b"full"), f"{name}-answers")
            await broker.publish("evil", name, reply_to=f"{name}-answers")
            await broker.publish("honest", name)
            assert await seen.take(AT_ONCE_SECONDS) == "evil"
            assert await seen.take(AT_ONCE_SECONDS) == "honest"
        assert seen.all == ["evil", "honest"]
        assert broker.report.counts == {"replies_refused": 1}
        for each in (name, f"{name}-answers"):
            await channel.queue_delete(each)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_an_answer_that_its_queue_does_not_confirm_holds_nobody_for_long(
    rabbit_server: Server, kind: str
) -> None:
    name = f"stuck-{uuid4().hex[:10]}"
    broker, seen = RabbitBroker(rabbit_server.url), Inbox()

    @broker.subscriber(RabbitQueue(name, auto_delete=True), max_workers=1)
    async def handler(msg: str) -> str:
        seen.put(msg)
        return msg

    async with await aio_pika.connect(rabbit_server.url) as connection:
        channel = await connection.channel()
        arguments = {"x-queue-type": kind}
        await channel.declare_queue(f"{name}-answers", durable=True, arguments=arguments)  # type: ignore[arg-type]
        process = PROCESS[kind].format(f"{name}-answers")
        # It confirms nothing, as a queue that has lost its quorum.
        await asyncio.to_thread(rabbit_server.execute, "rabbitmqctl", "eval", f"{process}, sys:suspend(P).")
        async with broker:
            await broker.publish("evil", name, reply_to=f"{name}-answers")
            await broker.publish("honest", name)
            assert await seen.take(DEADLINE) == "evil"
            assert await seen.take(STUCK_SECONDS) == "honest"
            # Nor does it hold up what else is published.
            assert await asyncio.wait_for(broker.publish("more", name), AT_ONCE_SECONDS) is not None
            assert await seen.take(STUCK_SECONDS) == "more"
        assert seen.all == ["evil", "honest", "more"]
        assert broker.report.counts == {"replies_refused": 1}
        await asyncio.to_thread(rabbit_server.execute, "rabbitmqctl", "eval", f"{process}, sys:resume(P).")
        await channel.queue_delete(f"{name}-answers")
