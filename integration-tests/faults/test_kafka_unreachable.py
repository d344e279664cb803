"""Why a start found no Kafka: what is at the address says it, and both clients' errors tell it the same way."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import fastapi_stream_confluent
import fastapi_stream_kafka
import pytest
from fastapi_stream_core.errors import BrokerUnavailable
from fastapi_stream_core.security import BaseSecurity

from programs import ROOT
from servers import free_port

CERTIFICATES = ROOT / "integration-tests" / "certificates"
BROKERS = {"aiokafka": fastapi_stream_kafka.KafkaBroker, "confluent": fastapi_stream_confluent.KafkaBroker}
TIMEOUT = 1.0


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything and say nothing."""
    try:
        while await reader.read(4096):
            pass
    except OSError:
        pass
    finally:
        writer.close()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the connection with the first bytes, as Kafka does when they are of something else."""
    await reader.read(100)
    writer.close()


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as a server of another protocol."""
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    writer.close()


async def keeping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as a server of another protocol, and wait for more."""
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await silent(reader, writer)


@asynccontextmanager
async def listening(serve: Any, secure: bool) -> AsyncIterator[int]:
    context = None
    if secure:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATES / "localhost.pem", CERTIFICATES / "localhost.key")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize("client", BROKERS)
@pytest.mark.parametrize(
    ("serve", "secure", "tls", "said"),
    [
        (closing, False, True, "in the handshake of TLS: does it speak TLS there"),
        (web, False, True, "wrong.version.number"),
        (silent, False, True, "no answer in Kafka's protocol"),
        (silent, True, False, "the server speaks TLS there, and the client was not told to"),
        (closing, False, False, "the server closed the connection at once: is it Kafka"),
        (web, False, False, "what answers there does not speak Kafka's protocol"),
        (keeping, False, False, "what answers there does not speak Kafka's protocol"),
        (silent, False, False, "no answer in Kafka's protocol"),
    ],
    ids=[
        "TLS, plain",
        "TLS, web",
        "TLS, silent",
        "plain, TLS",
        "plain, closes",
        "plain, web",
        "plain, web that waits",
        "plain, silent",
    ],
)
async def test_the_error_of_a_start_says_what_is_there(
    client: str, serve: Any, secure: bool, tls: bool, said: str
) -> None:
    async with listening(serve, secure) as port:
        security = BaseSecurity(use_ssl=True) if tls else None
        broker = BROKERS[client](f"127.0.0.1:{port}", security=security, startup_timeout=TIMEOUT, logger=None)
        with pytest.raises(BrokerUnavailable) as caught:
            await broker.start()
    assert re.search(said, str(caught.value), re.IGNORECASE)
    assert str(caught.value).count("the broker at") == 1
    assert str(port) in str(caught.value)


@pytest.mark.parametrize("client", BROKERS)
async def test_nobody_is_there(client: str) -> None:
    broker = BROKERS[client](f"127.0.0.1:{free_port()}", startup_timeout=TIMEOUT, logger=None)
    with pytest.raises(BrokerUnavailable, match="refused the connection"):
        await broker.start()


@pytest.mark.parametrize("client", BROKERS)
async def test_a_name_that_nobody_knows(client: str) -> None:
    broker = BROKERS[client]("nobody.invalid:9092", startup_timeout=TIMEOUT, logger=None)
    with pytest.raises(BrokerUnavailable, match="gaierror"):
        await broker.start()
