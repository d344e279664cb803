"""Batches of Kafka as no well-behaved client would send them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c

Pairs = Sequence[tuple[bytes, "bytes | None"]]


def number(value: int) -> bytes:
    """Return a number as the protocol writes one of variable length."""
    value = (value << 1) ^ (value >> 63)
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def nullable(value: bytes | None) -> bytes:
    return number(-1) if value is None else number(len(value)) + value


def record(
    delta: int, value: bytes | None, headers: Pairs = (), *, key: bytes | None = None, timestamp_delta: int = 0
) -> bytes:
    body = b"\0" + number(timestamp_delta) + number(delta) + nullable(key) + nullable(value) + number(len(headers))
    body += b"".join(nullable(name) + nullable(text) for name, text in headers)
    return number(len(body)) + body


def batch(*records: bytes, base: int = 0, attributes: int = 0, first_timestamp: int = 1000) -> bytes:
    """Return a batch with a right checksum, as long as nobody changes it."""
    count = len(records)
    tail = struct.pack(
        ">hiqqqhii", attributes, count - 1, first_timestamp, first_timestamp, -1, -1, -1, count
    ) + b"".join(records)
    rest = struct.pack(">ibI", 0, 2, calc_crc32c(tail)) + tail
    return struct.pack(">qi", base, len(rest)) + rest


async def produce(url: str, topic: str, data: bytes, partition: int = 0) -> int:
    """Send a batch as it is; return the error code of the cluster."""
    client = AIOKafkaClient(bootstrap_servers=url)
    await client.bootstrap()
    try:
        await client._wait_on_metadata(topic)
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request: Any = ProduceRequest(
            transactional_id=None, required_acks=-1, timeout=5000, topics=[(topic, [(partition, data)])]
        )
        answer = await client.send(leader, request)
        code: int = answer.topics[0][1][0][1]
        return code
    finally:
        await client.close()
