"""Records as no client library would send them: a batch of Kafka written byte by byte, and a producer for it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PRODUCE = 0
VERSION = 3
JUST_MADE = (3, 5, 6)
"""Errors of a topic that was made a moment ago: it is unknown, or has no leader."""


@dataclass(frozen=True)
class RawRecord:
    """One record; names of headers are bytes, as the wire has them."""

    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[bytes, bytes | None]] = ()


def produce(address: tuple[str, int], topic: str, records: Iterable[RawRecord], partition: int = 0) -> None:
    """Append records to a partition, and return when the broker has them."""
    batch = record_batch(list(records), int(time.time() * 1000))
    request = b"".join(
        (
            struct.pack(">hhi", PRODUCE, VERSION, 1),
            _text("test"),
            struct.pack(">h", -1),  # no transaction
            struct.pack(">hii", -1, 10_000, 1),  # acks, milliseconds, topics
            _text(topic),
            struct.pack(">iii", 1, partition, len(batch)),
            batch,
        )
    )
    deadline = time.monotonic() + 10
    while (error := _send(address, topic, request)) in JUST_MADE and time.monotonic() < deadline:
        pass
    if error:
        raise RuntimeError(f"the broker refused the batch with error {error}")


def _send(address: tuple[str, int], topic: str, request: bytes) -> int:
    with socket.create_connection(address, 10) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _read(connection, 4))
        answer = _read(connection, size)
    # Behind the correlation id: one topic with its name, one partition with its number and the error.
    error: int = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(topic.encode()) + 4 + 4)[0]
    return error


def record_batch(records: Sequence[RawRecord], time_ms: int) -> bytes:
    """Return a batch in the format of Kafka 0.11 and later."""
    body = struct.pack(">hiqqqhii", 0, len(records) - 1, time_ms, time_ms, -1, -1, -1, len(records)) + b"".join(
        _record(number, one) for number, one in enumerate(records)
    )
    checked = struct.pack(">iBI", -1, 2, _crc32c(body)) + body
    return struct.pack(">qi", 0, len(checked)) + checked


def _record(number: int, record: RawRecord) -> bytes:
    headers = b"".join(_bytes(name) + _bytes(value) for name, value in record.headers)
    body = b"\0\0" + _varint(number) + _bytes(record.key) + _bytes(record.value)
    body += _varint(len(record.headers)) + headers
    return _varint(len(body)) + body


def _bytes(value: bytes | None) -> bytes:
    return _varint(-1) if value is None else _varint(len(value)) + value


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded


def _varint(number: int) -> bytes:
    rest = number * 2 if number >= 0 else -number * 2 - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = CRC_TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ 0x82F63B78 if value & 1 else value >> 1
    return value


CRC_TABLE = [_crc_entry(number) for number in range(256)]


def _read(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionError("the broker closed the connection")
        data += piece
    return bytes(data)
