"""A sender that speaks AMQP 1.0, as far as RabbitMQ 4 needs it to take a message."""

from __future__ import annotations

import asyncio
import struct
from urllib.parse import urlsplit

NULL, FALSE = b"\x40", b"\x42"
OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
SOURCE, TARGET, PROPERTIES, DATA, MECHANISM = 0x28, 0x29, 0x73, 0x75, 0x41
ACCEPTED = b"\x00\x53\x24"
SECONDS = 30.0


def symbol(text: str) -> bytes:
    return b"\xb3" + struct.pack(">I", len(text)) + text.encode()


def string(text: str) -> bytes:
    return b"\xb1" + struct.pack(">I", len(text)) + text.encode()


def binary(data: bytes) -> bytes:
    return b"\xb0" + struct.pack(">I", len(data)) + data


def number(value: int) -> bytes:
    return b"\x70" + struct.pack(">I", value)


def described(code: int, *fields: bytes) -> bytes:
    """Return a list with its descriptor, as all methods and sections are written."""
    body = b"".join(fields)
    return b"\x00\x53" + bytes([code]) + b"\xd0" + struct.pack(">II", len(body) + 4, len(fields)) + body


def frame(body: bytes, kind: int = 0) -> bytes:
    return struct.pack(">IBBH", len(body) + 8, 2, kind, 0) + body


async def send(url: str, queue: str, body: bytes, *, content_type: str) -> None:
    """Send one message to a queue, and wait until RabbitMQ has accepted it."""
    await asyncio.wait_for(_send(url, queue, body, content_type), SECONDS)


async def _send(url: str, queue: str, body: bytes, content_type: str) -> None:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)

    async def method(code: int) -> bytes:
        while True:
            size = int.from_bytes((head := await reader.readexactly(8))[:4], "big")
            found = await reader.readexactly(size - len(head))
            if found[2:3] == bytes([code]):
                return found

    try:
        writer.write(b"AMQP\x03\x01\x00\x00")
        await reader.readexactly(8)
        login = f"\0{place.username}\0{place.password}".encode()
        writer.write(frame(described(MECHANISM, symbol("PLAIN"), binary(login)), 1))
        await method(0x44)  # the outcome of the login
        writer.write(b"AMQP\x00\x01\x00\x00")
        await reader.readexactly(8)
        writer.write(frame(described(OPEN, string("sender"), string("vhost:/"))))
        writer.write(frame(described(BEGIN, NULL, number(0), number(100), number(100))))
        source, target = described(SOURCE, string("here")), described(TARGET, string(f"/queues/{queue}"))
        modes = (b"\x50\x00", b"\x50\x00")
        writer.write(
            frame(described(ATTACH, string("link"), number(0), FALSE, *modes, source, target, NULL, NULL, number(0)))
        )
        await method(FLOW)
        message = described(PROPERTIES, *[NULL] * 6, symbol(content_type)) + b"\x00\x53" + bytes([DATA]) + binary(body)
        transfer = described(TRANSFER, number(0), number(0), binary(b"0"), number(0), FALSE, FALSE)
        writer.write(frame(transfer + message))
        assert ACCEPTED in await method(DISPOSITION)
    finally:
        writer.close()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])
