"""What a sender writes to a real RabbitMQ fails as a message of its own, if at all."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from fastapi_stream_rabbit import RabbitQueue, RabbitRouter
from fastapi_stream_rabbit.properties import Properties

from servers import Server

DEADLINE = 20.0
ID = b"\xe9" * 255
"""A correlation id that AMQP carries and that is no text: in UTF-8 it would have 510 bytes."""


@pytest.fixture(params=["stream", "library"], autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads the deliveries: our stream, or the client library as in versions that let nobody in."""
    if request.param == "library":
        monkeypatch.setattr("fastapi_stream_rabbit.connection.streams", lambda: None)


def question(reply_to: str) -> Properties:
    """Return properties with the correlation id as it is."""
    properties = Properties({"correlation_id": "?" * len(ID), "reply_to": reply_to, "delivery_mode": 1})
    properties.encoded = properties.encoded.replace(b"?" * len(ID), ID)
    return properties


async def test_an_answer_to_a_correlation_id_that_is_no_text_is_sent_once(
    rabbit_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"hostile-{uuid4().hex[:10]}"
    router = RabbitRouter(rabbit_server.url)
    runs: list[bytes] = []
    answers: list[Any] = []
    over = asyncio.Event()

    @router.subscriber(RabbitQueue(name, auto_delete=True), max_workers=1)
    async def handler(msg: bytes) -> bytes:
        runs.append(msg)
        return msg

    @router.subscriber(RabbitQueue(f"{name}-answers", auto_delete=True))
    async def answered(msg: bytes) -> None:
        answers.append(msg)
        if len(answers) == 2:
            over.set()

    with caplog.at_level(logging.WARNING):
        async with router.broker as broker:
            async with await aio_pika.connect(rabbit_server.url) as connection, connection.channel() as channel:
                protocol: Any = await channel.get_underlay_channel()
                await protocol.basic_publish(b"hostile", routing_key=name, properties=question(f"{name}-answers"))
            await broker.publish(b"honest", name, reply_to=f"{name}-answers")
            await asyncio.wait_for(over.wait(), DEADLINE)
            assert broker.report.counts == {}
        async with await aio_pika.connect(rabbit_server.url) as connection, connection.channel() as channel:
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):  # nothing was left in it
                await channel.declare_queue(name, passive=True)
    assert runs == [b"hostile", b"honest"]
    assert sorted(answers) == [b"honest", b"hostile"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
