"""Reads what aiokafka can't: a record that its sender made badly fails alone.

The client decodes a batch in its background; one header name that is not UTF-8 is an error there, without end and for
every topic of the consumer. Here the rest of such a batch is read leniently, from the bytes that the client was given.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from fastapi_stream_core.headers import text_name

from .unpack import CODECS, TooLarge, unpack

__all__ = ("Salvage", "Unreadable", "guarded_consumer")

Unreadable = Callable[[TopicPartition, int, int, str], None]
"""Told of what is passed over: the partition, the first offset, the offset where it goes on, and why."""

TRIES = 3
"""How often a batch with a wrong checksum is fetched before it is passed over."""
_FRAME = struct.Struct(">qi")
_HEADER = struct.Struct(">qiibIhiqqqhii")
_COMPRESSION, _APPEND_TIME, _CONTROL = 0x07, 0x08, 0x20
_INT64 = 1 << 64


class Salvage:
    """Gives out the records of the answers of one consumer, those too that the client refuses.

    Args:
        unreadable: told of what even here can't be read.
        most: most bytes that a compressed batch may hold.
    """

    def __init__(self, unreadable: Unreadable, most: int) -> None:
        self._unreadable = unreadable
        self._most = most
        self._failed: dict[TopicPartition, tuple[int, int]] = {}

    def records(self, part: Any, data: bytes) -> Iterator[ConsumerRecord[bytes, bytes]]:
        """Return the records of one answer.

        Args:
            part: the client's own iterator over them; its `next_fetch_offset` moves on.
            data: the bytes that it reads.
        """
        while True:
            batches = part._records = _Batches(data, part.next_fetch_offset, self._most)
            try:
                for record in part._unpack_records():
                    offset = record.offset
                    if offset != batches.goes_on:
                        batches.check(offset)
                    batches.goes_on = offset + 1
                    yield record
                return
            except Exception as error:
                if isinstance(error, _WrongNumber):
                    part.next_fetch_offset = max(batches.goes_on, batches.begins)
                batch = next((one for one in _split(data) if one.ends > part.next_fetch_offset), None)
                if batch is None:
                    raise
                if isinstance(error, UnsupportedCodecError) and batch.codec < len(CODECS):
                    raise  # a library is missing here: nothing is wrong with the message
                if not batch.crc_is_right():
                    if self._may_try_again(part._tp, batch.begins):
                        return
                    self._pass_over(part, batch.ends, error)
                elif isinstance(error, TooLarge):
                    self._pass_over(part, batch.ends, error)
                else:
                    yield from self._read(part, batch, error)
                data = data[batch.stop :]

    def _may_try_again(self, partition: TopicPartition, offset: int) -> bool:
        """Tell whether a batch may have been damaged on its way; then it is fetched again."""
        before, count = self._failed.get(partition, (offset, 0))
        count = count + 1 if before == offset else 1
        self._failed[partition] = (offset, count)
        return count < TRIES

    def _pass_over(self, part: Any, ends: int, error: Exception | str) -> None:
        reason = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._unreadable(part._tp, part.next_fetch_offset, ends, reason)
        part.next_fetch_offset = ends

    def _read(self, part: Any, batch: _Batch, error: Exception) -> Iterator[ConsumerRecord[bytes, bytes]]:
        try:
            for offset, record in batch.records(part._tp, self._most):
                if offset < part.next_fetch_offset:
                    continue
                if isinstance(record, str):
                    self._pass_over(part, offset + 1, record)
                else:
                    part.next_fetch_offset = offset + 1
                    yield record
        except Exception as worse:
            self._pass_over(part, batch.ends, worse if batch.magic > 1 else error)
        part.next_fetch_offset = max(part.next_fetch_offset, batch.ends)


class _WrongNumber(CorruptRecordException):
    """A sender counted the records of its batch wrongly, which the cluster does not check."""


class _Batches:
    """The batches of an answer, as the client reads them.

    Attributes:
        begins: the first offset of the current batch.
        ends: the offset after its last one.
        goes_on: the offset of the next record, where there are no gaps.
    """

    def __init__(self, data: bytes, goes_on: int, most: int) -> None:
        self._most = most
        self._at = 0
        self._data = data
        self._records = MemoryRecords(data)
        self._split = _split(data)
        self._batch: Any = None
        self._whole: _Batch | None = None
        self.begins = self.ends = self.goes_on = self._entered = goes_on

    def has_next(self) -> bool:
        if self.goes_on < self.ends and not self._is_left_out():
            self._check_gap(self.ends)
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        self._batch = batch = self._records.next_batch()
        self._entered = self.goes_on
        self.begins, self.ends = batch.base_offset if hasattr(batch, "base_offset") else self.goes_on, batch.next_offset
        start, self._at = self._at, self._at + _FRAME.size + _FRAME.unpack_from(self._data, self._at)[1]
        if isinstance(batch, DefaultRecordBatch) and batch.compression_type and not batch.is_control_batch:
            return _Unpacked(batch, self._data[start : self._at], self._most)
        return batch

    def _is_left_out(self) -> bool:
        """Tell whether the client gives out nothing of the batch: it marks a transaction, or is of an aborted one."""
        return self._batch.is_control_batch or (self._batch.is_transactional and self.goes_on == self._entered)

    def check(self, offset: int) -> None:
        """Tell whether a record may follow, also with a gap before it that is left by one that was compacted.

        Raises:
            CorruptRecordException: it is not of its batch, or the batch has no gap there.
        """
        if not self.begins <= offset < self.ends:
            raise _WrongNumber(f"offset {offset}, in a batch from {self.begins} to before {self.ends}")
        if offset != max(self.goes_on, self.begins):
            self._check_gap(offset)

    def _check_gap(self, offset: int) -> None:
        goes_on = max(self.goes_on, self.begins)
        if self._whole is None or self._whole.ends != self.ends:
            self._whole = next((one for one in self._split if one.ends == self.ends), None)
        if offset < goes_on or (self._whole is not None and self._whole.has_no_gaps):
            raise _WrongNumber(f"offset {offset} instead of {goes_on}, in a batch that ends before {self.ends}")


class _Unpacked:
    """A compressed batch as the client reads it; it is unpacked here, where there is a bound."""

    def __init__(self, batch: Any, data: bytes, most: int) -> None:
        self._batch = batch
        self._data = data
        self._most = most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Any:
        header = list(_HEADER.unpack_from(self._data))
        body = unpack(header[5] & _COMPRESSION, self._data[_HEADER.size :], self._most)
        header[1], header[5] = _HEADER.size - _FRAME.size + len(body), header[5] & ~_COMPRESSION
        return iter(DefaultRecordBatch(_HEADER.pack(*header) + body))


class _Batch:
    """One batch of the wire, from `data[start:stop]`; offsets go from `begins` to before `ends`."""

    def __init__(self, data: bytes, start: int, stop: int) -> None:
        self.stop = stop
        self._data = memoryview(data)[start:stop]
        self.begins = _FRAME.unpack_from(data, start)[0]
        self.ends = self.begins + 1
        self.magic = self._data[16] if len(self._data) > 16 else 0
        self.codec = 0
        self.has_no_gaps = False
        if self.magic > 1 and len(self._data) >= _HEADER.size:
            header = _HEADER.unpack_from(self._data)
            self._crc, self._attributes, delta, self._first, self._last = header[4:9]
            self._count = header[12]
            self.ends = self.begins + max(delta, 0) + 1
            self.codec = self._attributes & _COMPRESSION
            self.has_no_gaps = self._count == self.ends - self.begins

    def crc_is_right(self) -> bool:
        return (
            self.magic < 2 or len(self._data) < _HEADER.size or bool(calc_crc32c(bytes(self._data[21:])) == self._crc)
        )

    def records(self, partition: TopicPartition, most: int) -> Iterator[tuple[int, ConsumerRecord[bytes, bytes] | str]]:
        """Return the records with their offsets; in place of one that can't be read, why."""
        if self.magic < 2:
            raise CorruptRecordException("a record of an old format can't be read")
        if self._attributes & _CONTROL:
            return
        body = bytes(self._data[_HEADER.size :])
        if self.codec:
            body = unpack(self.codec, body, most)
        cursor, offset = _Cursor(body, 0, len(body)), self.begins - 1
        # Without gaps a record's place is its offset; what the sender says of it is nothing to rely on.
        for _ in range(self._count):
            record = cursor.part(cursor.number())
            offset += 1
            try:
                record.at += 1
                timestamp = self._last if self._attributes & _APPEND_TIME else _int64(self._first + record.number())
                said = self.begins + record.number()
                if not self.has_no_gaps and offset <= said < self.ends:
                    offset = said
                key, value = record.data(), record.data()
                count = record.number()
                headers = tuple((text_name(record.part(record.number()).rest()), record.data()) for _ in range(count))
                if count < 0 or record.at != record.end:
                    raise CorruptRecordException("its parts are not as long as the whole")
            except CorruptRecordException as error:
                yield offset, f"{type(error).__name__}: {error}"
                continue
            yield (
                offset,
                ConsumerRecord(
                    partition.topic,
                    partition.partition,
                    offset,
                    timestamp,
                    int(bool(self._attributes & _APPEND_TIME)),
                    key,
                    value,
                    None,
                    -1 if key is None else len(key),
                    -1 if value is None else len(value),
                    headers,
                ),
            )


class _Cursor:
    """Reads from `data[at:end]`, and never beyond."""

    __slots__ = ("at", "data_", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data_, self.at, self.end = data, at, end

    def number(self) -> int:
        """Read a number of variable length."""
        value = shift = 0
        while self.at < self.end and shift < 70:
            byte = self.data_[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return _int64((value >> 1) ^ -(value & 1))
            shift += 7
        raise CorruptRecordException("a number does not end")

    def part(self, length: int) -> _Cursor:
        """Return the next bytes as something to read from, and go on behind them."""
        begin, self.at = self.at, self.at + length
        if length < 0 or self.at > self.end:
            raise CorruptRecordException(f"a length of {length} does not fit into its record")
        return _Cursor(self.data_, begin, self.at)

    def rest(self) -> bytes:
        return bytes(self.data_[self.at : self.end])

    def data(self) -> bytes | None:
        """Read bytes behind their length; a negative one means null."""
        length = self.number()
        return None if length < 0 else self.part(length).rest()


def _int64(number: int) -> int:
    """Return a number as the 64 bits of the wire hold it."""
    number %= _INT64
    return number - _INT64 if number >= _INT64 >> 1 else number


def _split(data: bytes) -> Iterator[_Batch]:
    """Return the whole batches of an answer; its last one may be cut off."""
    start = 0
    while start + _FRAME.size <= len(data):
        stop = start + _FRAME.size + max(_FRAME.unpack_from(data, start)[1], 0)
        if stop > len(data):
            return
        yield _Batch(data, start, stop)
        start = stop


def guarded_consumer(salvage: Salvage, options: dict[str, Any]) -> AIOKafkaConsumer:
    """Return a consumer whose records come by way of `salvage`.

    What the client fetched is taken where its fetcher keeps it. A version of the client that keeps it elsewhere works
    as it comes.
    """
    return _Consumer(salvage, options)


class _Consumer(AIOKafkaConsumer):
    def __init__(self, salvage: Salvage, options: dict[str, Any]) -> None:
        self._salvage = salvage
        super().__init__(**options)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_client" and type(value) is AIOKafkaClient:
            value.__class__ = _Client
        # The only moment when the fetcher is there and has not begun.
        if name == "_fetcher" and hasattr(value, "_client") and isinstance(value._records, OrderedDict):
            answers = _Answers(value._client)
            value._client = answers
            value._records = _Kept(self._salvage, answers.data)
        super().__setattr__(name, value)


class _Client(AIOKafkaClient):
    """Connections that make no topic by asking for it: a topic that was deleted would come back with one partition."""

    async def _get_conn(self, *args: Any, **options: Any) -> Any:
        connection = await super()._get_conn(*args, **options)
        return None if connection is None else _Connection(connection)


class _Connection:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def send(self, request: Any, **options: Any) -> Any:
        if isinstance(request, MetadataRequest):
            request = MetadataRequest(request._topics, allow_auto_topic_creation=False)
        return self._connection.send(request, **options)


class _Answers:
    """The client's connections, as a fetcher uses them; the bytes of each answer are noted.

    Attributes:
        data: the last bytes of each partition, until they are taken.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.data: dict[tuple[str, int], bytes] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        response = await self._client.send(node_id, request, **options)
        if getattr(response, "API_KEY", None) == 1:
            for topic, partitions in response.topics:
                for partition, *_, records in partitions:
                    if records:
                        self.data[topic, partition] = records
        return response


class _Kept(OrderedDict[TopicPartition, Any]):
    """What a fetcher has fetched: each answer is read by way of `salvage`."""

    def __init__(self, salvage: Salvage, data: dict[tuple[str, int], bytes]) -> None:
        super().__init__()
        self._salvage = salvage
        self._data = data

    def __setitem__(self, partition: TopicPartition, result: Any) -> None:
        data = self._data.pop(partition, None)
        part: Any = getattr(result, "_partition_records", None)
        if data is not None and hasattr(part, "_records_iterator"):
            part._records_iterator = self._salvage.records(part, data)
        super().__setitem__(partition, result)
