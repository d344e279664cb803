"""Reads hostile records with a subscriber on the broker inside of librdkafka, in a process that they may end.

Argument: a seed. Prints one line of JSON: how many records were handled, and what was committed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from fastapi_stream_confluent import KafkaBroker, KafkaMessage
from fastapi_stream_core.headers import MOST_HEADERS

from record_batch import RawRecord, produce

TOPIC = "hostile"
COUNT = 200
PARTITIONS = 4  # the number that librdkafka gives every topic
NAMES = (
    *(b"content-type", b"correlation_id", b"reply_to", b"message_id", b"Content-Type", b"", b"\x00", b"a\x00b"),
    *(b"\xff\xfe", b"reply_to\xff", b"\xed\xa0\x80", b"\xf0\x9f\x92", "ä".encode("latin-1"), "ä".encode(), b"x" * 300),
)
VALUES = (None, b"", b"1", b"\xff", b"application/json", b"text/plain; charset=none", b"\x00", b"y" * 3000, b"\r\nX: 1")
BODIES = (None, b"", b"1", b"null", b"{", b"\xff\xfe", b'"text"', b"[" * 2000, b"z" * 20_000)


def hostile(chance: random.Random) -> RawRecord:
    count = chance.choice((0, 0, 1, 2, 5, 2000 if chance.random() < 0.02 else 3))
    headers = [(chance.choice(NAMES), chance.choice(VALUES)) for _ in range(count)]
    return RawRecord(chance.choice((None, b"", b"k", b"\xff")), chance.choice(BODIES), headers)


def look(message: KafkaMessage) -> None:
    """Ask for everything that a sender chooses, and for the headers more than once."""
    record: Any = message.raw_message
    for _ in range(3):
        assert (record.headers() or [])[:MOST_HEADERS] == list(message.pairs)
        assert all(isinstance(name, str) for name, _ in message.pairs)
    assert isinstance(record, Message)
    assert isinstance(message.headers.multi_items(), list)
    assert message.correlation_id
    assert message.message_id
    assert repr(message)
    assert message.size >= len(message.body)
    assert all(isinstance(one, (str, type(None))) for one in (message.content_type, message.reply_to))
    assert isinstance(message.key, (bytes, type(None)))


async def main(seed: int) -> None:
    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    server = next(iter(cluster.list_topics(TOPIC, timeout=10).brokers.values()))
    chance = random.Random(seed)
    broker = KafkaBroker(f"{server.host}:{server.port}", replies="off", logger=None)
    handled: set[tuple[int, int]] = set()
    everything = asyncio.Event()

    @broker.subscriber(TOPIC, group_id="readers", auto_offset_reset="earliest")
    async def handler(message: KafkaMessage) -> None:
        look(message)
        handled.add((message.partition, message.offset))
        if len(handled) == COUNT:
            everything.set()

    for partition in range(PARTITIONS):
        records = [hostile(chance) for _ in range(COUNT // PARTITIONS)]
        await asyncio.to_thread(produce, (server.host, server.port), TOPIC, records, partition)
    async with broker:
        with suppress(asyncio.TimeoutError):  # the test sees it in what was handled
            await asyncio.wait_for(everything.wait(), 30)
    reader = Consumer({"bootstrap.servers": f"{server.host}:{server.port}", "group.id": "readers"})
    committed = reader.committed([TopicPartition(TOPIC, number) for number in range(PARTITIONS)], timeout=10)
    reader.close()
    print(json.dumps({"handled": len(handled), "committed": [one.offset for one in committed]}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
