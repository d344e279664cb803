"""Records that no client library would send, on a real Kafka: they and their neighbours are handled and committed."""

from __future__ import annotations

import asyncio

import pytest
from fastapi_stream_confluent import KafkaBroker, KafkaMessage
from fastapi_stream_core.headers import MOST_HEADERS

from confluent_cluster import DEADLINE, Cluster, fresh, take
from record_batch import RawRecord, produce
from servers import Server, address_of

RECORDS = (
    RawRecord(value=b"0"),
    RawRecord(key=b"", value=b"1", headers=[(b"\xff\xfe", b"x"), (b"x-kind", b"broken"), (b"content-type\xff", b"y")]),
    RawRecord(value=b"2", headers=[(b"correlation_id", b"\xff"), (b"reply_to\xff", b"q"), (b"x-null", None)]),
    RawRecord(key=b"\xff", value=None, headers=[(b"\xff", None)]),
    RawRecord(value=b"", headers=[(b"", b""), (b"content-type", b"\xff")]),
    RawRecord(value=b"5", headers=[(b"n%d" % number, b"") for number in range(5000)]),
    RawRecord(value=b"6", headers=[(b"\xff", b"") for _ in range(500)]),
    RawRecord(value=b"7"),
)


@pytest.mark.parametrize("batch", [False, True])
async def test_names_of_headers_that_are_no_text(confluent_server: Server, batch: bool) -> None:
    url, topic = confluent_server.url, fresh()
    cluster = Cluster(url)
    await asyncio.to_thread(cluster.make, topic, 1)
    await asyncio.to_thread(produce, address_of(url), topic, RECORDS)
    seen: asyncio.Queue[KafkaMessage] = asyncio.Queue()
    broker = KafkaBroker(url)
    if batch:

        @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest", batch=True)
        async def several(message: KafkaMessage) -> None:
            for one in message.messages:  # type: ignore[attr-defined]
                seen.put_nowait(one)

    else:

        @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
        async def alone(message: KafkaMessage) -> None:
            seen.put_nowait(message)

    async with broker:
        messages = await take(seen, len(RECORDS))
        assert [one.offset for one in messages] == list(range(len(RECORDS)))
        assert [one.key for one in messages[:4]] == [None, b"", None, b"\xff"]
        assert messages[1].headers.multi_items() == [("x-kind", "broken")]
        assert messages[1].raw_message.headers() == messages[1].raw_message.headers() == [("x-kind", b"broken")]
        assert messages[2].headers["correlation_id"] == b"\xff"
        assert messages[2].reply_to is None
        assert messages[3].headers.multi_items() == []
        assert len(messages[5].headers) == MOST_HEADERS
        assert broker.report.counts.get("failed", 0) == 0

        async def all_committed() -> None:
            while await asyncio.to_thread(cluster.committed, topic, topic) != len(RECORDS):
                pass

        await asyncio.wait_for(all_committed(), DEADLINE)
