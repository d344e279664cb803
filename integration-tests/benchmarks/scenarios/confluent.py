"""Kafka by confluent-kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from threading import Event, Thread
from typing import Any

from . import kafka
from .kafka import HEADERS
from .scenario import Send, Take

# The peer reads in one and the same group when none is named, so each run of the default has a topic of its own.
DEFAULT = replace(kafka.DEFAULT, store="", against_peer=(15, 30))
AT_LEAST_ONCE = replace(kafka.AT_LEAST_ONCE, against_peer=(25, 40), by_rate=False, peer_messages=5000)
AT_MOST_ONCE = kafka.AT_MOST_ONCE
BATCH = replace(kafka.BATCH, store="")


class Confluent(kafka.Kafka):
    name = "confluent"
    package = "fastapi_stream_confluent"
    peer_package = "faststream.confluent.fastapi"
    kinds = (DEFAULT, AT_LEAST_ONCE, AT_MOST_ONCE, BATCH)
    raw_note = (
        "confluent: raw is consume(1), then consume(499) without waiting, in a thread; at least once by stored offsets."
    )
    publish_note = "confluent: FastStream publishes with acks=all and not idempotent; raw and ours idempotent."

    async def raw(self, take: Take, over: asyncio.Event, ready: Callable[[], None]) -> None:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {
                "bootstrap.servers": self.url,
                "group.id": self.group or self.token,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": self.group is not None,
                "enable.auto.offset.store": self.kind is AT_MOST_ONCE,
                "auto.commit.interval.ms": 1000,
            }
        )
        loop = asyncio.get_running_loop()

        def assigned(*_: Any) -> None:
            loop.call_soon_threadsafe(ready)

        def poll() -> list[Any]:
            first = consumer.consume(1, 0.5)  # returns with the first message; a larger number would wait to be full
            return first + consumer.consume(499, 0) if first else first

        with ThreadPoolExecutor(1) as thread:
            consumer.subscribe([self.address], on_assign=assigned)
            while not over.is_set():
                messages = await loop.run_in_executor(thread, poll)
                for message in messages:
                    take(message.value())
                if messages and self.at_least_once:
                    newest = messages[-1]
                    stored = TopicPartition(newest.topic(), newest.partition(), newest.offset() + 1)
                    consumer.store_offsets(offsets=[stored])
            await loop.run_in_executor(thread, consumer.close)

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Send]:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.url, "acks": "all", "enable.idempotence": True, "linger.ms": 0})
        loop, over = asyncio.get_running_loop(), Event()

        def poll() -> None:
            while not over.is_set():
                producer.poll(0.1)

        def settle(future: asyncio.Future[None], error: Any) -> None:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(RuntimeError(str(error)))

        def send(body: bytes) -> asyncio.Future[None]:
            future: asyncio.Future[None] = loop.create_future()
            producer.produce(
                self.address,
                body,
                headers=HEADERS,
                on_delivery=lambda error, _: loop.call_soon_threadsafe(settle, future, error),
            )
            return future

        thread = Thread(target=poll)
        thread.start()
        try:
            yield send
        finally:
            over.set()
            thread.join()
