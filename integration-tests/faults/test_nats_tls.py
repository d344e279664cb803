"""NATS with TLS, and without it where it was asked for, also after the connection was lost."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import BrokerUnavailable, NatsBroker, NatsUserPassword

from servers import ProcessServer, running

DEADLINE = 30.0
CERTIFICATES = Path(__file__).parents[1] / "certificates"
"""A key and a certificate for localhost and 127.0.0.1, self-signed, for tests only."""
TLS = ("--tls", "--tlscert", str(CERTIFICATES / "localhost.pem"), "--tlskey", str(CERTIFICATES / "localhost.key"))
USER = ("--user", "ann", "--pass", "hunter2")


class TlsServer(ProcessServer):
    """A server whose options may change."""

    options: tuple[str, ...] = (*TLS, *USER)

    def command(self) -> list[str]:
        return [*super().command(), *self.options]


@pytest.fixture
def server() -> Iterator[TlsServer]:
    with running(TlsServer()) as server:
        yield server


@pytest.fixture
def context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATES / "localhost.pem"))


async def test_a_server_that_loses_its_tls_gets_no_password(
    server: TlsServer, context: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """It consumes, is refused while the server has no TLS, and consumes again when it has."""
    security = NatsUserPassword("ann", "hunter2", ssl_context=context)
    broker, seen, refused = NatsBroker(server.url, security=security), Inbox(), asyncio.Event()

    @broker.subscriber("a")
    async def handler(msg: int) -> None:
        seen.put(msg)

    async def on_error(error: Exception) -> None:
        if "TLS was asked for" in str(error):
            refused.set()

    broker.options["error_cb"] = on_error
    with caplog.at_level(logging.WARNING):
        async with broker:
            await broker.publish(1, "a")
            assert await seen.take() == 1
            server.stop()
            server.options = USER
            server.start()
            await asyncio.wait_for(refused.wait(), DEADLINE)
            assert not await broker.ping(1)
            server.stop()
            server.options = (*TLS, *USER)
            server.start()
            await broker.publish(2, "a", timeout=DEADLINE)
            assert await seen.take() == 2
    assert "TLS was asked for and the server has none" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_certificate_that_is_not_trusted_is_said_at_once(server: TlsServer) -> None:
    broker = NatsBroker(server.url.replace("nats://", "tls://ann:hunter2@"), logger=None)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(BrokerUnavailable, match="certificate") as caught:
        await broker.start()
    assert loop.time() - began < 5
    assert " after " not in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_wrong_password_is_said_at_once(server: TlsServer, context: ssl.SSLContext) -> None:
    broker = NatsBroker(server.url, security=NatsUserPassword("ann", "wrong", ssl_context=context), logger=None)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(BrokerUnavailable, match="Authorization Violation") as caught:
        await broker.start()
    assert loop.time() - began < 5
    assert " after " not in str(caught.value)
