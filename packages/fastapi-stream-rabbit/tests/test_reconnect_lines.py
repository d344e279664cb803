"""What is in the log while RabbitMQ is away: one line at once, and then less and less."""

import asyncio
import logging

import pytest
from fastapi_stream_core.report import Report
from fastapi_stream_rabbit.connection import Address, Link
from yarl import URL

ATTEMPTS = 5
DEADLINE = 30.0


async def test_attempts_that_fail_alike_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    attempts, enough = 0, asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()
        if attempts == ATTEMPTS:
            enough.set()

    logger = logging.getLogger("fastapi_stream.rabbit")
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        link = Link(Address(URL(f"amqp://127.0.0.1:{port}/"), f"amqp://127.0.0.1:{port}"), Report(logger))
        with caplog.at_level(logging.WARNING, logger.name):
            waiting = asyncio.ensure_future(link.channel())
            await asyncio.wait_for(enough.wait(), DEADLINE)
            await link.close()
        with pytest.raises(ConnectionError):
            await waiting
    lines = [record.getMessage() for record in caplog.records if record.name == logger.name]
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"no connection to amqp://127.0.0.1:{port}, again soon: ")
