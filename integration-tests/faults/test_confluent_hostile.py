"""Records that no client library would send, on a real Kafka: they and their neighbours are handled and committed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.codec import snappy_encode
from confluent_kafka import Consumer
from fastapi_stream_confluent import KafkaBroker, KafkaMessage, consumer, probe
from fastapi_stream_core.headers import MOST_HEADERS

from confluent_cluster import DEADLINE, Cluster, fresh, take
from faults import kafka_wire as wire
from record_batch import RawRecord, produce
from servers import Server, address_of
from waiting import until

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


class Watched(Consumer):
    """The client, which refuses a call from another thread: it could stop the interpreter for ever."""

    strangers: list[str]

    def __init__(self, *args: Any, **options: Any) -> None:
        self._owner = threading.get_ident()
        super().__init__(*args, **options)

    def __getattribute__(self, name: str) -> Any:
        if name != "_owner" and self._owner != threading.get_ident():
            Watched.strangers.append(name)
            raise RuntimeError(f"{name} on another thread")
        return super().__getattribute__(name)


@pytest.fixture(autouse=True)
def strangers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a sender does, only the thread of a consumer makes calls to it."""
    monkeypatch.setattr(Watched, "strangers", [], raising=False)
    monkeypatch.setattr(consumer, "Consumer", Watched)
    yield
    assert Watched.strangers == []


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


VICTIMS = 20


@pytest.mark.parametrize("deltas", [(0, 7, 2), (0, 3, 2), (0, 2**31 - 1000, 2), (0, 9, 8, 7, 4), (0, 2**31 - 1000)])
@pytest.mark.parametrize("running", [True, False])
async def test_offsets_that_a_sender_made_up(
    confluent_server: Server, deltas: tuple[int, ...], running: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever they are, what others publish behind them is handled once and committed, now and after a restart."""
    url, topic = confluent_server.url, fresh()
    cluster = Cluster(url)
    await asyncio.to_thread(cluster.make, topic, 1)
    seen: Counter[bytes] = Counter()

    def subscribed() -> KafkaBroker:
        broker = KafkaBroker(url)

        @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
        async def handler(msg: bytes) -> None:
            seen[msg] += 1

        return broker

    async def poison() -> None:
        await asyncio.to_thread(cluster.publish, topic, b"first")
        assert await wire.produce(url, topic, wire.batch(*(wire.record(one, b"odd") for one in deltas))) == 0

    async def is_committed(offset: int) -> bool:
        return await asyncio.to_thread(cluster.committed, topic, topic) == offset

    victims = [b"%d" % number for number in range(VICTIMS)]
    if not running:
        await poison()
        await asyncio.to_thread(cluster.publish, topic, *victims)
    async with subscribed():
        if running:
            await poison()
            await until(lambda: seen[b"odd"] or "is rejected" in caplog.text)
            await asyncio.to_thread(cluster.publish, topic, *victims)
        end = 1 + len(deltas) + VICTIMS
        await until(lambda: all(seen[one] for one in victims))
        await until(lambda: is_committed(end))
    async with subscribed():
        await asyncio.to_thread(cluster.publish, topic, b"last")
        await until(lambda: seen[b"last"])
        await until(lambda: is_committed(end + 1))
    assert {seen[one] for one in (b"first", b"last", *victims)} == {1}


def batch(*records: bytes, attributes: int = 0) -> bytes:
    """A batch of now: the cluster does not delete it for its age."""
    return wire.batch(*records, attributes=attributes, first_timestamp=int(time.time() * 1000))


def bad_length(delta: int) -> bytes:
    """A record whose value has -2 bytes: null for the cluster."""
    body = b"\0\0" + wire.number(delta) + wire.nullable(None) + wire.number(-2) + wire.number(0)
    return wire.number(len(body)) + body


def two_streams() -> bytes:
    """A batch with a stream of snappy for each record: the cluster reads one after the other."""
    return batch(*(snappy_encode(wire.record(number, b"odd")) for number in range(2)), attributes=SNAPPY)


SNAPPY = 2
UNREADABLE = {
    "a length": (batch(wire.record(0, b"before"), bad_length(1), wire.record(2, b"behind")), 3),
    "the first of a batch": (batch(bad_length(0), wire.record(1, b"before"), wire.record(2, b"behind")), 3),
    "nothing else": (batch(bad_length(0)), 1),
    "a compression": (two_streams(), 2),
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("group", [True, False])
async def test_what_the_client_can_not_read_is_rejected_alone(
    confluent_server: Server, kind: str, group: bool, caplog: pytest.LogCaptureFixture
) -> None:
    url, topic = confluent_server.url, fresh()
    data, count = UNREADABLE[kind]
    cluster = Cluster(url)
    await asyncio.to_thread(cluster.make, topic, 1)
    broker, seen = KafkaBroker(url), Counter[bytes]()

    @broker.subscriber(topic, group_id=topic if group else None, auto_offset_reset="earliest")
    async def handler(msg: bytes) -> None:
        seen[msg] += 1

    async with broker:
        assert await wire.produce(url, topic, data) == 0
        assert await wire.produce(url, topic, data) == 0
        await broker.publish(b"last", topic)
        await until(lambda: seen[b"last"])
        readable = dict.fromkeys((b"before", b"behind"), 2) if count == 3 else {}
        assert seen == {**readable, b"last": 1}
        assert caplog.text.count("can't be read and is rejected") == broker.report.counts["rejected"]
        assert broker.report.counts.get("restarted", 0) == 0
        if group:
            await until(lambda: _is_committed(cluster, topic, 2 * count + 1))
    assert "the client says" not in caplog.text


async def _is_committed(cluster: Cluster, topic: str, offset: int) -> bool:
    return await asyncio.to_thread(cluster.committed, topic, topic) == offset


@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_many_that_the_client_can_not_read(
    confluent_server: Server, seconds: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "ONE_BY_ONE_SECONDS", seconds)
    url, topic = confluent_server.url, fresh()
    await asyncio.to_thread(Cluster(url).make, topic, 1)
    broker, seen = KafkaBroker(url), Counter[bytes]()

    @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
    async def handler(msg: bytes) -> None:
        seen[msg] += 1

    victims = [b"%d" % number for number in range(VICTIMS)]
    assert await wire.produce(url, topic, batch(*map(bad_length, range(200)))) == 0
    await asyncio.to_thread(Cluster(url).publish, topic, *victims)
    async with broker:
        await until(lambda: len(seen) == VICTIMS)
    assert seen == dict.fromkeys(victims, 1)
    assert "offset 0: can't be read and is rejected, it goes on at offset 200" in caplog.text


async def test_what_was_given_back_is_read_again_before_what_the_client_can_not_read(
    confluent_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The bytes of those before it leave no room, so nothing is fetched when it is found; then the first one fails."""
    url, topic = confluent_server.url, fresh()
    cluster = Cluster(url)
    await asyncio.to_thread(cluster.make, topic, 1)
    broker, seen, found = KafkaBroker(url), Counter[int](), asyncio.Event()

    @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest", prefetch_bytes=1_600_000)
    async def handler(msg: bytes) -> None:
        number = int(msg.split()[0])
        seen[number] += 1
        if number == 0 and seen[0] == 1:
            await found.wait()
            raise ValueError("once")

    count = 36
    await asyncio.to_thread(cluster.publish, topic, *(b"%d " % number + bytes(45_000) for number in range(count)))
    assert await wire.produce(url, topic, batch(bad_length(0))) == 0
    await asyncio.to_thread(cluster.publish, topic, b"%d" % count)
    async with broker:
        await until(lambda: "can't be read and is rejected" in caplog.text)
        found.set()
        await until(lambda: seen[count])
        assert seen == {0: 2, **dict.fromkeys(range(1, count + 1), 1)}
        await until(lambda: _is_committed(cluster, topic, count + 2))
