"""What a sender may put into a record of a real Kafka, and what becomes of its neighbours."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import Counter
from typing import Literal
from uuid import uuid4

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_kafka import KafkaBroker, KafkaMessage, KafkaRouter, NackMessage

from faults.kafka_wire import batch, produce, record
from servers import Server
from test_kafka import committed, make_topic
from waiting import until

ODD = [
    pytest.param(record(1, b"odd", [(b"x-\xff\xfe", b"1")]), id="a name that is not UTF-8"),
    pytest.param(record(1, b"odd", [(b"", b"1"), (b"", None)]), id="names without a letter"),
    pytest.param(
        record(1, b"odd", [(b"content-type", None), (b"reply_to", b"\xff"), (b"correlation_id", b"\xff")]), id="no text"
    ),
    pytest.param(record(1, b"odd", [(b"n", None)] * 20_000), id="20,000 headers"),
    pytest.param(record(1, b"odd", key=b"", timestamp_delta=-1001), id="an empty key, a timestamp of -1"),
    pytest.param(record(1, b"odd", timestamp_delta=-(2**62)), id="a timestamp before all time"),
]


@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_record_is_a_message_like_its_neighbours(kafka_server: Server, odd: bytes, group: bool) -> None:
    url, topic = kafka_server.url, f"hostile-{uuid4().hex[:10]}"
    await make_topic(url, topic, 2)
    seen, router = Inbox(), KafkaRouter(url)

    @router.subscriber(topic, f"{topic}-other", group_id=topic if group else None)
    async def handler(msg: bytes, message: KafkaMessage) -> None:
        dict(message.headers)
        seen.put(msg)

    async with router.broker as broker:
        assert await produce(url, topic, batch(record(0, b"before"), odd, record(2, b"behind"))) == 0
        assert await seen.take_many(3) == [b"before", b"odd", b"behind"]
        await broker.publish(b"another", topic, partition=1)
        await broker.publish(b"other", f"{topic}-other")
        assert sorted(await seen.take_many(2)) == [b"another", b"other"]
        assert broker.report.counts.get("restarted", 0) == 0
        if group:
            await until(lambda: _committed(url, topic, 3))


@pytest.mark.parametrize("delta", [7, -1, 2**31 - 1, 2**40])
async def test_a_sender_does_not_number_its_records(kafka_server: Server, delta: int) -> None:
    url, topic = kafka_server.url, f"hostile-{uuid4().hex[:10]}"
    await make_topic(url, topic, 1)
    seen, router = Inbox(), KafkaRouter(url)

    @router.subscriber(topic, group_id=topic)
    async def handler(msg: bytes) -> None:
        seen.put(msg)

    async with router.broker as broker:
        code = await produce(url, topic, batch(record(0, b"before"), record(delta, b"odd"), record(2, b"behind")))
        await broker.publish(b"last", topic)
        while await seen.take() != b"last":
            pass
        if code == 0:
            assert {b"before", b"behind", b"last"} <= set(seen.all)
        await until(lambda: _committed(url, topic, 1 if code else 4))


async def _committed(url: str, topic: str, offset: int) -> bool:
    return await committed(url, topic, topic) == offset


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_sender_chooses_the_compression(
    kafka_server: Server, compression: Literal["gzip", "snappy", "lz4", "zstd"]
) -> None:
    topic = f"hostile-{uuid4().hex[:10]}"
    await make_topic(kafka_server.url, topic, 1)
    seen, router = Inbox(), KafkaRouter(kafka_server.url)

    @router.subscriber(topic, group_id=topic)
    async def handler(msg: bytes) -> None:
        seen.put(msg)

    async with router.broker, KafkaBroker(kafka_server.url, compression_type=compression) as sender:
        await sender.publish(b"x" * 10_000, topic)
        assert await seen.take() == b"x" * 10_000


GZIP = 1


async def test_what_was_given_back_is_read_again_before_what_the_client_can_not_read(
    kafka_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """It is found while a fetch waits for more; then what it stands behind fails, and too much waits behind that."""
    url, topic = kafka_server.url, f"hostile-{uuid4().hex[:10]}"
    await make_topic(url, topic, 2)
    seen, found, router = Counter[bytes](), asyncio.Event(), KafkaRouter(url)
    small, large = [b"a%d" % number for number in range(400)], [b"b%01000d" % number for number in range(200)]

    @router.subscriber(topic, group_id=topic, prefetch_bytes=1_600_000)
    async def handler(msg: bytes) -> None:
        seen[msg] += 1
        if msg == large[0]:
            await found.wait()
        if msg in (small[0], large[0]) and seen[msg] == 1:
            raise NackMessage(20.0 if msg in small else 1.0)

    async with router.broker as broker:
        for partition, bodies in enumerate((small, large)):
            await asyncio.gather(*(broker.publish(one, topic, partition=partition) for one in bodies))
            await until(lambda first=bodies[0]: seen[first])
        bomb = batch(
            gzip.compress(record(0, bytes(1_000_000))), attributes=GZIP, first_timestamp=int(time.time() * 1000)
        )
        assert await produce(url, topic, bomb, 1) == 0
        await until(lambda: "can't be read and is rejected" in caplog.text)
        found.set()
        await until(lambda: seen[large[0]] == 2)
        await broker.publish(b"last", topic, partition=1)
        await until(lambda: seen[b"last"])
        await until(lambda: seen[small[-1]])
    assert seen == {**dict.fromkeys((*small, *large, b"last"), 1), small[0]: 2, large[0]: 2}
