"""What the client library writes to a channel that RabbitMQ ended goes nowhere, and RabbitMQ gets its answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiormq import spec
from fastapi_stream_rabbit.delivery import Delivery
from fastapi_stream_rabbit.stream import Deliveries
from fastapi_stream_rabbit.writer import Writer
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

CLOSE = spec.Channel.Close(404, "gone", 60, 40)


class Socket:
    """Notes what is written."""

    def __init__(self) -> None:
        self.data = b""
        self.protocol: Any = asyncio.Protocol()

    def write(self, data: bytes) -> None:
        self.data += data

    def is_closing(self) -> bool:
        return False

    async def drain(self) -> None: ...

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


class Connection:
    """A connection: what RabbitMQ sends is read, and the client library writes."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.socket = Socket()
        self.deliveries = Deliveries(cast("Any", self.socket), loop)
        self.writer = Writer(cast("Any", self.socket), loop)
        self.deliveries.when_ended = self.writer.end

    async def written(self, *values: bytes) -> bytes:
        """Write, and return what the socket got."""
        self.socket.data = b""
        for value in values:
            self.writer.write(value)
        await self.writer.drain()
        return self.socket.data


def publication(channel: int, body: bytes = b"body") -> bytes:
    values: list[Any] = [spec.Basic.Publish(routing_key="q"), ContentHeader(0, len(body)), ContentBody(body)]
    return b"".join(marshal(value, channel) for value in values)


def ignore(delivery: Delivery) -> None: ...


@pytest.mark.parametrize("consumed", [False, True], ids=["published", "consumed"])
async def test_nothing_follows_the_end_of_a_channel(consumed: bool) -> None:
    connection = Connection()
    if consumed:
        connection.deliveries.expect(cast("Any", SimpleNamespace(number=1)), "tag", ignore)
    before = publication(1)
    connection.writer.write(before)
    connection.socket.protocol.data_received(marshal(CLOSE, 1))
    answer = marshal(spec.Channel.CloseOk(), 1)
    assert await connection.written(publication(1)) == before + answer
    assert await connection.written(answer, marshal(CLOSE, 1)) == b""
    others = publication(2, b"\xce" * 300) + marshal(Heartbeat(), 0)
    assert await connection.written(publication(1) + others, publication(1)) == others


async def test_a_channel_that_is_opened_again_is_written_to() -> None:
    connection = Connection()
    for _ in range(3):
        opened = marshal(spec.Channel.Open(), 7) + publication(7)
        assert await connection.written(publication(7) if connection.socket.data else b"", opened) == opened
        connection.socket.protocol.data_received(marshal(CLOSE, 7))
        connection.socket.protocol.data_received(marshal(CLOSE, 7))
        assert await connection.written(publication(7)) == marshal(spec.Channel.CloseOk(), 7)


async def test_other_ends_change_nothing() -> None:
    connection = Connection()
    connection.socket.protocol.data_received(
        marshal(spec.Channel.CloseOk(), 1) + marshal(ContentBody(b"\x00\x14\x00\x28\x00\x00"), 2)
    )
    assert await connection.written(publication(1), publication(2)) == publication(1) + publication(2)
