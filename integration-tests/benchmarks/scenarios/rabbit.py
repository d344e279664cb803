"""RabbitMQ by aio-pika."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from order import BODY, CORRELATION_ID

from .scenario import Kind, Scenario, Send, Take

AT_LEAST_ONCE = Kind(
    "at least once", against_peer=(1.6, 2.5), messages=10_000, peer_messages=5000, latency=True, publish="queue"
)
AT_MOST_ONCE = Kind("at most once", messages=10_000, peer_messages=5000)
PREFETCH = 100
FILL_SECONDS = 30


class Rabbit(Scenario):
    name = "rabbit"
    kinds = (AT_LEAST_ONCE, AT_MOST_ONCE)
    raw_note = (
        "rabbit: raw is queue.consume(callback) of a plain connection; at least once with one ack of 50 messages."
    )
    publish_note = (
        "rabbit: FastStream publishes messages that a restart of RabbitMQ loses; raw and ours persistent ones."
    )

    def fill(self, count: int) -> None:
        asyncio.run(self._fill(count))

    async def _fill(self, count: int) -> None:
        import aio_pika

        async with await aio_pika.connect(self.url) as connection:
            unconfirmed = await connection.channel(publisher_confirms=False)
            await unconfirmed.declare_queue(self.address, durable=True)
            for _ in range(count):
                await unconfirmed.default_exchange.publish(self._message(BODY), self.address)
            await unconfirmed.close()  # the broker answers when it has taken all of them
            channel = await connection.channel()
            found, deadline = 0, time.monotonic() + FILL_SECONDS
            while found != count:  # the queue counts what the channel handed to it a little later
                found = (await channel.declare_queue(self.address, durable=True)).declaration_result.message_count or 0
                if found != count and time.monotonic() > deadline:
                    raise RuntimeError(f"{self.address!r} has {found} of {count} messages")

    def _message(self, body: bytes) -> Any:
        from aio_pika import DeliveryMode, Message

        return Message(
            body,
            content_type="application/json",
            correlation_id=CORRELATION_ID,
            delivery_mode=DeliveryMode.PERSISTENT,
        )

    async def raw(self, take: Take, over: asyncio.Event, ready: Callable[[], None]) -> None:
        import aio_pika

        handled, settled = 0, asyncio.Event()

        async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal handled
            take(message.body)
            handled += 1
            if self.kind is AT_LEAST_ONCE and (handled % (PREFETCH // 2) == 0 or over.is_set()):
                await message.ack(multiple=True)
            if over.is_set():
                settled.set()

        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            await channel.set_qos(PREFETCH)
            queue = await channel.declare_queue(self.address, durable=True)
            await queue.consume(handle, no_ack=self.kind is AT_MOST_ONCE)
            ready()
            await settled.wait()

    def ours(self) -> tuple[Any, Any]:
        from fastapi_stream_rabbit import AckPolicy, RabbitRouter

        router = RabbitRouter(self.url, logger=None)
        return router, lambda: router.subscriber(self.address, **self._options(AckPolicy))

    def peer(self) -> tuple[Any, Any]:
        from faststream import AckPolicy
        from faststream.rabbit.fastapi import RabbitRouter

        router = RabbitRouter(self.url, logger=None)
        return router, lambda: router.subscriber(self.address, **self._options(AckPolicy))

    def _options(self, policy: Any) -> dict[str, Any]:
        return {"ack_policy": policy.ACK_FIRST} if self.kind is AT_MOST_ONCE else {}

    async def unsettled(self, count: int) -> int:
        import aio_pika

        async with await aio_pika.connect(self.url) as connection:
            queue = await (await connection.channel()).declare_queue(self.address, durable=True)
            return int(queue.declaration_result.message_count or 0)

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Send]:
        import aio_pika

        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            exchange = channel.default_exchange
            yield lambda body: exchange.publish(self._message(body), self.address)

    def destination(self) -> dict[str, Any]:
        return {"queue": self.address}
