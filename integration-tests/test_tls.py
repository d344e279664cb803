"""TLS that was asked for: to a server that speaks none nothing is sent but the beginning of a TLS handshake."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi_stream_core import BrokerUnavailable

from durable import BROKERS

HANDSHAKE = b"\x16\x03"
INFO = (
    b'INFO {"server_id": "A", "version": "2.12.0", "max_payload": 1048576, "headers": true, "auth_required": true}\r\n'
)
"""What a NATS server says first."""
CLASSES = {"rabbit": "RabbitBroker", "nats": "NatsBroker", "redis": "RedisBroker"}
SCHEMES = {"rabbit": ("amqp", "amqps"), "nats": ("nats", "tls"), "redis": ("redis", "rediss")}
WAYS = {
    "use_ssl": BROKERS,
    "ssl_context": [kind for kind in BROKERS if kind != "confluent"],  # librdkafka makes its own
    "scheme": SCHEMES,  # an address of Kafka has none
}
CASES = [(kind, way) for way, kinds in WAYS.items() for kind in kinds]


@asynccontextmanager
async def plain_server(greeting: bytes) -> AsyncIterator[tuple[int, list[bytearray]]]:
    """Give the port of a server that answers nothing, and what each of its connections received."""
    connections: list[bytearray] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = bytearray()
        connections.append(received)
        try:
            writer.write(greeting)
            with contextlib.suppress(ConnectionError):  # the client does not like what it found
                while data := await reader.read(65_536):
                    received += data
        finally:
            writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()


def broker_with_tls(kind: str, way: str, port: int, seconds: float) -> Any:
    package = importlib.import_module(f"fastapi_stream_{kind}")
    security = importlib.import_module(f"fastapi_stream_{kind}.security")
    make = getattr(package, CLASSES.get(kind, "KafkaBroker"))
    options: dict[str, Any] = {"startup_timeout": seconds, "logger": None}
    if kind in SCHEMES:
        plain, encrypted = SCHEMES[kind]
        if way == "scheme":
            return make(f"{encrypted}://user:sesame@127.0.0.1:{port}", **options)
        address = f"{plain}://127.0.0.1:{port}"
    else:
        address = f"127.0.0.1:{port}"
    if way == "ssl_context":
        given = security.BaseSecurity(ssl_context=ssl.create_default_context())
        if kind in SCHEMES:
            address = address.replace("://", "://user:sesame@")
    else:
        given = security.SASLPlaintext("user", "sesame", use_ssl=True)
    return make(address, security=given, **options)


@pytest.mark.parametrize(("kind", "way"), CASES)
async def test_a_server_without_tls_learns_nothing(kind: str, way: str) -> None:
    async with plain_server(INFO if kind == "nats" else b"") as (port, connections):
        for seconds in (1.0, 10.0):  # a busy machine may not connect within one
            with pytest.raises(BrokerUnavailable) as caught:
                await broker_with_tls(kind, way, port, seconds).start()
            if connections:
                break
    assert connections
    assert all(received[:2] in (b"", HANDSHAKE) for received in connections)
    assert all(b"sesame" not in received for received in connections)
    assert any(connections) or kind == "nats"  # which refuses before it sends anything
    assert "sesame" not in str(caught.value)
