"""A cluster that has just come back may name no broker; a client that forgot all of them is made anew."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi_stream_confluent import KafkaBroker
from fastapi_stream_core.testing.conformance import until

DEADLINE = 60.0
TOPIC = b"tea"
HOST = b"127.0.0.1"
FETCH, OFFSETS, METADATA, VERSIONS = 1, 2, 3, 18
APIS = ((0, 0, 3), (FETCH, 4, 4), (OFFSETS, 1, 1), (METADATA, 1, 1), (VERSIONS, 0, 3))
NOT_LEADER, NO_LEADER = 6, 5
NEVER: dict[str, Any] = {
    "enable_idempotence": False,
    "allow_auto_create_topics": False,
    "config": {"metadata.recovery.strategy": "none"},
}
"""With this the client never begins anew; by default that depends on which of its threads comes first."""


class Server:
    """A Kafka of one broker and one empty partition, as far as a producer and a consumer without a group ask for it.

    Attributes:
        names_none: whether its metadata names no broker.
        asked: counts the questions, by what is asked and whether a broker was named meanwhile.
    """

    def __init__(self) -> None:
        self.names_none = False
        self.asked: dict[tuple[int, bool], int] = {}
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"127.0.0.1:{self.port}"
        finally:
            server.close()
            for one in self._writers:
                one.close()
            await until(lambda: not self._writers, DEADLINE)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                api, version, number = struct.unpack_from(">hhi", await reader.readexactly(size))
                body = await self._answer(api, version)
                self.asked[api, self.names_none] = self.asked.get((api, self.names_none), 0) + 1
                writer.write(struct.pack(">ii", len(body) + 4, number) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went
        finally:
            writer.close()
            self._writers.discard(writer)

    async def _answer(self, api: int, version: int) -> bytes:
        name = struct.pack(">h", len(TOPIC)) + TOPIC
        if api == VERSIONS:
            if version < 3:
                return struct.pack(">hi", 0, len(APIS)) + b"".join(struct.pack(">hhh", *one) for one in APIS) + bytes(4)
            return bytes(2) + bytes([len(APIS) + 1]) + b"".join(struct.pack(">hhhx", *one) for one in APIS) + bytes(5)
        if api == METADATA:
            leader, error = (-1, NO_LEADER) if self.names_none else (1, 0)
            brokers = struct.pack(">iih", 1, 1, len(HOST)) + HOST + struct.pack(">ih", self.port, -1)
            partition = struct.pack(">hiiii", error, 0, leader, 0, 0)
            return (
                (bytes(4) if self.names_none else brokers)
                + struct.pack(">iih", leader, 1, 0)
                + name
                + struct.pack(">?i", False, 1)
                + partition
            )
        if api == OFFSETS:
            return struct.pack(">i", 1) + name + struct.pack(">iihqq", 1, 0, 0, -1, 0)
        await asyncio.sleep(0.05)  # so long a fetch waits for messages
        error = NOT_LEADER if self.names_none else 0
        return bytes(4) + struct.pack(">i", 1) + name + struct.pack(">iihqqii", 1, 0, error, 0, 0, 0, 0)


async def answers(broker: KafkaBroker) -> None:
    async def wait() -> None:
        while not await broker.ping(0.5):
            pass

    await asyncio.wait_for(wait(), DEADLINE)


async def test_a_producer_that_forgot_every_broker_is_replaced() -> None:
    server = Server()
    async with server.open() as address, KafkaBroker(address, **NEVER) as broker:
        assert await broker.ping()
        server.names_none = True
        assert await broker.ping()  # it answers, and names no broker
        await until(lambda: server.asked.get((METADATA, True), 0) > 0, DEADLINE)
        server.names_none = False
        await answers(broker)


async def test_a_consumer_that_forgot_every_broker_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    async with server.open() as address:
        broker = KafkaBroker(address, **NEVER)
        subscriber: Any = broker.subscriber(TOPIC.decode(), auto_offset_reset="earliest")

        @subscriber
        async def handler(msg: str) -> None: ...

        async with broker:
            await until(lambda: server.asked.get((FETCH, False), 0) > 0, DEADLINE)
            server.names_none = True
            await until(
                lambda: server.asked.get((FETCH, True), 0) > 0 and server.asked.get((METADATA, True), 0) > 0, DEADLINE
            )
            server.asked.clear()
            server.names_none = False
            await until(lambda: broker.report.counts.get("restarted", 0) > 0, DEADLINE)
            server.asked.clear()
            await until(lambda: server.asked.get((FETCH, False), 0) > 0 and subscriber.running, DEADLINE)
    assert "the client found no broker again" in caplog.text
