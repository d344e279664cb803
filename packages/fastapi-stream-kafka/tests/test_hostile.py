"""Records as a hostile sender, or a bad disk, makes them: each fails alone, or not at all."""

from __future__ import annotations

import gzip
import random
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import cramjam
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.codec import snappy_encode
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from fastapi_stream_kafka import KafkaMessage
from fastapi_stream_kafka.salvage import TRIES, Salvage

ORDERS = TopicPartition("orders", 0)
MOST = 1_000_000
Pairs = Sequence[tuple[bytes, "bytes | None"]]


def number(value: int) -> bytes:
    value = ((value << 1) ^ (value >> 63)) & ((1 << 64) - 1)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def nullable(value: bytes | None) -> bytes:
    return number(-1) if value is None else number(len(value)) + value


def record(delta: int, value: bytes | None, headers: Pairs = (), *, key: bytes | None = None, time: int = 0) -> bytes:
    body = b"\0" + number(time) + number(delta) + nullable(key) + nullable(value) + number(len(headers))
    return nullable(body + b"".join(nullable(name) + nullable(text) for name, text in headers))


PACK: dict[int, Callable[[bytes], Any]] = {
    0: bytes,
    1: gzip.compress,
    2: cramjam.snappy.compress_raw,
    3: cramjam.lz4.compress,
    4: cramjam.zstd.compress,
    7: bytes,
}


def batch(*records: bytes, base: int = 0, attributes: int = 0, last_delta: int | None = None) -> bytes:
    count, body = len(records), bytes(PACK.get(attributes & 7, bytes)(b"".join(records)))
    delta = count - 1 if last_delta is None else last_delta
    tail = struct.pack(">hiqqqhii", attributes, delta, 1000, 1000, -1, -1, -1, count) + body
    rest = struct.pack(">ibI", 0, 2, calc_crc32c(tail)) + tail
    return struct.pack(">qi", base, len(rest)) + rest


class Reader:
    """The client's own objects over the bytes of an answer, and what is read out of them."""

    def __init__(self) -> None:
        self.passed: list[tuple[int, int]] = []
        self.reasons: list[str] = []
        self.salvage = Salvage(self._unreadable, MOST)

    def _unreadable(self, partition: TopicPartition, offset: int, goes_on: int, reason: str) -> None:
        assert partition == ORDERS
        self.passed.append((offset, goes_on))
        self.reasons.append(reason)

    async def read(
        self, data: bytes, position: int = 0, aborted: Sequence[tuple[int, int]] = ()
    ) -> tuple[list[ConsumerRecord[bytes, bytes]], int]:
        """Return the records, and where the client fetches next.

        Args:
            data: an answer.
            position: where it was fetched.
            aborted: the producers of aborted transactions, with their first offsets.
        """
        assignment = Assignment([ORDERS])
        assignment.state_value(ORDERS).seek(position)
        part: Any = PartitionRecords(
            ORDERS, MemoryRecords(data), list(aborted), position, None, None, True, READ_COMMITTED
        )
        part._records_iterator = self.salvage.records(part, data)
        result: Any = FetchResult(ORDERS, assignment=assignment, partition_records=part, backoff=0)
        found: list[ConsumerRecord[bytes, bytes]] = []
        while result.has_more():
            found += result.getall(3)
        return found, assignment.state_value(ORDERS).position


async def read(
    data: bytes, position: int = 0, aborted: Sequence[tuple[int, int]] = ()
) -> tuple[list[tuple[int, bytes | None]], int, Reader]:
    reader = Reader()
    records, goes_on = await reader.read(data, position, aborted)
    return [(one.offset, one.value) for one in records], goes_on, reader


AFTER = batch(record(0, b"after"), base=3)
TRANSACTIONAL, CONTROL = 0x10, 0x20
NEIGHBOURS = [(0, b"before"), (2, b"behind"), (3, b"after")]


class TestRecords:
    @pytest.mark.parametrize("attributes", [0, 1, TRANSACTIONAL, TRANSACTIONAL | 1])
    @pytest.mark.parametrize(
        "odd",
        [
            record(1, b"odd", [(b"\xff\xfe", b"1")]),
            record(1, b"odd", [(b"", None)] * 5000),
            record(1, b"odd", time=-(2**63)),
            record(1, b"odd", time=2**63 - 1, key=b""),
            record(2**40, b"odd"),
            record(2**31 - 1, b"odd"),
            record(-(2**31), b"odd", [(b"\xff", b"")]),
            record(0, b"odd"),
            record(2, b"odd"),
        ],
    )
    async def test_an_odd_one_is_read(self, odd: bytes, attributes: int) -> None:
        data = batch(record(0, b"before"), odd, record(2, b"behind"), attributes=attributes) + AFTER
        found, goes_on, reader = await read(data)
        assert (found, goes_on, reader.passed) == ([NEIGHBOURS[0], (1, b"odd"), *NEIGHBOURS[1:]], 4, [])

    async def test_a_name_is_shown_as_far_as_it_is_text(self) -> None:
        records, _ = await Reader().read(batch(record(0, b"", [(b"x-\xff", b"\xff"), (b"y", None)])))
        message = KafkaMessage(records[0], records[0].value, 0, ORDERS)
        assert list(message.pairs) == [("x-\\xff", b"\xff"), ("y", None)]
        assert (message.headers.multi_items(), message.reply_to) == ([("x-\\xff", b"\xff")], None)

    @pytest.mark.parametrize(
        "broken",
        [
            nullable(b"\0\0" + number(1) + number(2**31 - 1)),
            nullable(b"\0\0" + number(1) + number(-1) + number(-1) + number(-5)),
            nullable(b"\0\0" + number(1) + number(-1) + number(-1) + number(2**31 - 1)),
            nullable(b"\0" + b"\xff" * 11),
            nullable(b""),
        ],
    )
    async def test_a_broken_one_is_passed_over(self, broken: bytes) -> None:
        found, goes_on, reader = await read(batch(record(0, b"before"), broken, record(2, b"behind")) + AFTER)
        assert (found, goes_on, reader.passed) == (NEIGHBOURS, 4, [(1, 2)])
        assert "CorruptRecordException" in reader.reasons[0]

    async def test_a_length_beyond_the_batch_takes_the_rest_of_it(self) -> None:
        found, goes_on, reader = await read(batch(record(0, b"before"), number(2**30), record(2, b"behind")) + AFTER)
        assert (found, goes_on, reader.passed) == ([(0, b"before"), (3, b"after")], 4, [(1, 3)])

    async def test_what_was_compacted_keeps_its_offsets(self) -> None:
        data = batch(record(0, b"before"), record(2, b"behind", [(b"\xff", None)]), last_delta=2) + AFTER
        found, goes_on, _ = await read(data)
        assert (found, goes_on) == (NEIGHBOURS, 4)

    async def test_what_was_compacted_is_read_by_the_client(self) -> None:
        data = batch(*(record(delta, b"v") for delta in (0, 2, 5, 9)), last_delta=11) + batch(record(4, b"w"), base=12)
        found, goes_on, reader = await read(data + batch(record(0, b"x"), record(3, b"y"), base=30, last_delta=4))
        assert [offset for offset, _ in found] == [0, 2, 5, 9, 12, 30, 33]
        assert (goes_on, reader.passed) == (35, [])

    async def test_it_goes_on_in_the_middle_of_a_batch(self) -> None:
        found, goes_on, _ = await read(batch(record(0, b"a"), record(1, b"b", [(b"\xff", b"")]), record(2, b"c")), 1)
        assert (found, goes_on) == ([(1, b"b"), (2, b"c")], 3)

    @pytest.mark.parametrize("attributes", [0, 1, TRANSACTIONAL, TRANSACTIONAL | 1])
    @pytest.mark.parametrize("deltas", [(0, 1, 3), (0, 3, 2), (0, 3, 1), (0, 1, 1), (3, 3, 3), (2, 1, 0), (1, 2, 3)])
    async def test_their_places_are_their_offsets(self, deltas: tuple[int, ...], attributes: int) -> None:
        """Whatever the sender says, the record after the batch is read, and none of the batch is left out."""
        data = batch(*(record(one, b"%d" % place) for place, one in enumerate(deltas)), attributes=attributes)
        found, goes_on, reader = await read(data + AFTER)
        assert (found, goes_on, reader.passed) == ([(0, b"0"), (1, b"1"), (2, b"2"), (3, b"after")], 4, [])


class TestBatches:
    @pytest.mark.parametrize("attributes", [0, TRANSACTIONAL])
    async def test_the_end_of_a_transaction_is_left_out(self, attributes: int) -> None:
        end = batch(record(0, b"\0\0\0\0\0\0", key=b"\0\0\0\1"), base=1, attributes=TRANSACTIONAL | CONTROL)
        data = batch(record(0, b"before"), attributes=attributes) + end + batch(record(0, b"after"), base=2)
        found, goes_on, reader = await read(data)
        assert (found, goes_on, reader.passed) == ([(0, b"before"), (2, b"after")], 3, [])

    async def test_an_aborted_transaction_is_left_out(self) -> None:
        aborted = batch(record(0, b"lost"), record(1, b"lost"), base=1, attributes=TRANSACTIONAL)
        data = batch(record(0, b"before")) + aborted + AFTER
        for position in (0, 2):  # also from the middle of it
            found, goes_on, reader = await read(data, position, [(-1, 1)])
            assert (found[-1], goes_on, reader.passed) == ((3, b"after"), 4, [])
            assert len(found) == (position == 0) + 1

    async def test_an_unknown_compression(self) -> None:
        data = batch(record(0, b"lost"), record(1, b"lost"), record(2, b"lost"), attributes=6) + AFTER
        found, goes_on, reader = await read(data)
        assert (found, goes_on, reader.passed) == ([(3, b"after")], 4, [(0, 3)])

    @pytest.mark.parametrize("codec", [1, 2, 3, 4])
    async def test_one_that_holds_more_than_may_be_unpacked(self, codec: int) -> None:
        bomb = record(0, bytes(100 * MOST))
        data = batch(record(0, b"before")) + batch(bomb, record(1, b"lost"), base=1, attributes=codec) + AFTER
        tracemalloc.start()
        found, goes_on, reader = await read(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (found, goes_on, reader.passed) == ([(0, b"before"), (3, b"after")], 4, [(1, 3)])
        assert "prefetch_bytes" in reader.reasons[0]
        assert peak < 20 * MOST  # what is compressed of it has its place too

    @pytest.mark.parametrize("codec", [1, 2, 3, 4])
    @pytest.mark.parametrize("size", [0, 10, 70_000, MOST - 100])
    async def test_one_that_may_be_unpacked(self, codec: int, size: int) -> None:
        data = batch(record(0, bytes(size)), record(1, b"v"), attributes=codec) + batch(record(0, b"w"), base=2)
        found, goes_on, reader = await read(data)
        assert (found, goes_on, reader.passed) == ([(0, bytes(size)), (1, b"v"), (2, b"w")], 3, [])

    async def test_blocks_of_snappy(self) -> None:
        plain = record(0, b"x" * 100_000) + record(1, b"v")
        data = bytearray(batch(record(0, b"x"), record(1, b"v"), attributes=7))
        packed = snappy_encode(plain)
        tail = data[21:61] + packed
        tail[1] = 2
        data = data[:8] + struct.pack(">iibI", 9 + len(tail), 0, 2, calc_crc32c(bytes(tail))) + tail
        found, goes_on, reader = await read(bytes(data))
        assert (found, goes_on, reader.passed) == ([(0, b"x" * 100_000), (1, b"v")], 2, [])

    @pytest.mark.parametrize("codec", [1, 2, 3, 4])
    async def test_one_whose_compressed_data_is_damaged(self, codec: int) -> None:
        data = bytearray(batch(record(0, b"lost"), record(1, b"lost"), record(2, b"lost"), attributes=codec))
        tail = data[21:-5]
        data = data[:8] + struct.pack(">iibI", 9 + len(tail), 0, 2, calc_crc32c(bytes(tail))) + tail
        found, goes_on, reader = await read(bytes(data) + AFTER)
        assert (found, goes_on, reader.passed) == ([(3, b"after")], 4, [(0, 3)])

    async def test_a_wrong_checksum_is_fetched_again_before_it_is_passed_over(self) -> None:
        good = batch(record(0, b"before"))
        bad = bytearray(batch(record(0, b"odd"), record(1, b"odd"), base=1))
        bad[-3] ^= 1
        reader = Reader()
        records, goes_on = await reader.read(good + bad + AFTER)
        assert ([one.value for one in records], goes_on, reader.passed) == ([b"before"], 1, [])
        for _ in range(TRIES - 2):
            assert await reader.read(bytes(bad) + AFTER, 1) == ([], 1)
        records, goes_on = await reader.read(bytes(bad) + AFTER, 1)
        assert ([one.value for one in records], goes_on, reader.passed) == ([b"after"], 4, [(1, 3)])

    @pytest.mark.parametrize("seed", range(40))
    async def test_whatever_comes_the_position_moves_on(self, seed: int) -> None:
        chance = random.Random(seed)
        data = bytearray()
        for base in range(0, 30, 3):
            body = [record(delta, b"v", [(b"n", b"1")]) for delta in range(3)]
            spoilt = bytearray(body[1])
            for _ in range(chance.randrange(1, 4)):
                spoilt[chance.randrange(1, len(spoilt))] = chance.randrange(256)
            body[1] = bytes(spoilt)
            data += batch(*body, base=base, attributes=chance.choice([0, 0, 1, 5]))
        found, goes_on, reader = await read(bytes(data))
        offsets = [offset for offset, _ in found]
        assert goes_on == 30
        assert offsets == sorted(set(offsets))
        assert all(0 <= one < 30 for one in offsets)
        covered = set(offsets).union(*(range(*one) for one in reader.passed))
        readable = {base + delta for base in range(0, 30, 3) for delta in range(3)}
        assert covered == readable
