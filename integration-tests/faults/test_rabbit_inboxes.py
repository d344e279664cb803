"""The address of an inbox is the sender's choice, and RabbitMQ ends the connection of who publishes to a forged one."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Literal
from uuid import uuid4

import aio_pika
import pytest
from aiormq import spec
from fastapi_stream_rabbit import RabbitMessage, RabbitRouter

from servers import Server

FORGED = ("amq.rabbitmq.reply-to.g1h2AA5yZXBseUA{}.zz", "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA{}.zz|")
EVIL = 100
GOOD = 60
OWN = 20


class Foreign(spec.Basic.Properties):
    """A reply address and a correlation id that are any bytes."""

    def __init__(self, reply_to: str, correlation_id: bytes) -> None:
        super().__init__(reply_to=reply_to)
        self.id = correlation_id

    def marshal(self) -> bytes:
        reply_to = (self.reply_to or "").encode()
        texts = (self.id, reply_to)
        return (0x0400 | 0x0200).to_bytes(2, "big") + b"".join(bytes((len(one),)) + one for one in texts)


@pytest.mark.parametrize("replies", ["plain", "any", ["amq.*"]])
async def test_a_forged_inbox_disturbs_nobody(
    rabbit_server: Server, replies: Literal["plain", "any"] | list[str]
) -> None:
    name, out = f"inboxes-{uuid4().hex[:10]}", f"inboxes-{uuid4().hex[:10]}"
    router = RabbitRouter(rabbit_server.url, replies=replies)
    runs: Counter[str] = Counter()
    outputs: Counter[str] = Counter()
    over = asyncio.Event()

    def look() -> None:
        if len(outputs) == GOOD + EVIL + OWN and router.broker.report.counts.get("replies_refused", 0) == EVIL:
            over.set()

    @router.subscriber(name)
    @router.publisher(out)
    async def handler(msg: str) -> str:
        runs[msg] += 1
        return msg

    @router.subscriber(out)
    async def count(msg: str) -> None:
        outputs[msg] += 1
        look()

    connection = await aio_pika.connect(rabbit_server.url)
    async with connection, router.broker as broker:
        channel = await connection.channel()
        for number in range(max(GOOD, EVIL)):
            if number < GOOD:
                await channel.default_exchange.publish(aio_pika.Message(b"good %d" % number), name)
            if number < EVIL:
                reply_to = FORGED[number % len(FORGED)].format(number)
                await channel.default_exchange.publish(aio_pika.Message(b"evil %d" % number, reply_to=reply_to), name)
        # Nobody else's publication fails, or is sent twice.
        await asyncio.gather(*(broker.publish(f"own {number}", out) for number in range(OWN)))
        await asyncio.wait_for(over.wait(), 60)
        assert set(runs.values()) == set(outputs.values()) == {1}
        assert len(runs) == GOOD + EVIL
        counts = broker.report.counts
        assert counts["replies_refused"] == EVIL
        assert not {"failed", "rejected", "restarted"} & set(counts)
        for queue in (name, out):
            await channel.queue_delete(queue)


@pytest.mark.parametrize("correlation_id", [bytes(range(0xA1, 0xB1)), b"\xff" * 200, "ü".encode() * 100])
async def test_an_answer_carries_the_bytes_of_its_correlation_id(rabbit_server: Server, correlation_id: bytes) -> None:
    name, inbox = f"inboxes-{uuid4().hex[:10]}", f"inboxes-{uuid4().hex[:10]}"
    router = RabbitRouter(rabbit_server.url)
    runs = 0

    @router.subscriber(name)
    @router.publisher(inbox)
    async def handler(msg: str) -> str:
        nonlocal runs
        runs += 1
        return msg

    answers: asyncio.Queue[bytes] = asyncio.Queue()

    @router.subscriber(inbox)
    async def answered(message: RabbitMessage) -> None:
        head = message.delivery.head
        answers.put_nowait(
            head[head.index(bytes((len(correlation_id),)) + correlation_id) + 1 :][: len(correlation_id)]
        )

    connection = await aio_pika.connect(rabbit_server.url)
    async with connection, router.broker:
        channel = await connection.channel()
        raw = await channel.get_underlay_channel()
        await raw.basic_publish(b"hi", routing_key=name, properties=Foreign(inbox, correlation_id))
        for _ in range(2):  # the answer and what is published
            assert await asyncio.wait_for(answers.get(), 30) == correlation_id
        assert runs == 1
