"""Field tables of AMQP 0-9-1, as headers are: read in linear time whatever they hold, and written exactly.

The client library's reader copies the rest of a table for each of its values, and gives up on a time, a depth or a text
that it can't express: a sender chooses all of these. Its writer shortens names and halves the precision of numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from math import isfinite
from typing import Any

from fastapi_stream_core.headers import MOST_HEADERS

__all__ = (
    "CutTable",
    "ForeignText",
    "bytes_of",
    "find_integer",
    "read_table",
    "text_of",
    "time_of",
    "write_table",
    "write_time",
)

DEPTH = 32
"""Tables and arrays within each other; what is deeper stays bytes."""
NAME = 128
"""Bytes of a header's name, by AMQP 0-9-1."""
SHORT = 255
LENGTH = struct.Struct(">I")
NUMBERS = {
    ord("b"): struct.Struct(">b"),
    ord("B"): struct.Struct(">B"),
    ord("s"): struct.Struct(">h"),
    ord("u"): struct.Struct(">H"),
    ord("I"): struct.Struct(">i"),
    ord("i"): struct.Struct(">I"),
    ord("l"): struct.Struct(">q"),
    ord("L"): struct.Struct(">q"),
    ord("f"): struct.Struct(">f"),
    ord("d"): struct.Struct(">d"),
}
TEXT, BYTES, TABLE, ARRAY = ord("S"), ord("x"), ord("F"), ord("A")
BOOLEAN, DECIMAL, TIME, VOID = ord("t"), ord("D"), ord("T"), (ord("V"), 0)
INTEGRAL = frozenset(b"bBsuIilL")
SCALED = struct.Struct(">BI")
SECONDS = struct.Struct(">Q")
LONG = frozenset((TEXT, BYTES, TABLE, ARRAY))
SIZES = {
    **{kind: number.size for kind, number in NUMBERS.items()},
    **dict.fromkeys(LONG, LENGTH.size),
    BOOLEAN: 1,
    DECIMAL: SCALED.size,
    TIME: SECONDS.size,
    **dict.fromkeys(VOID, 0),
}
"""Bytes behind the kind of a value; of a long one those of its length, which are followed by as many."""
LATEST = 0xFFFFFFFF
"""Beyond this second, in the year 2106, a time is taken for milliseconds, as the client library does."""
INTEGERS = (
    (-(1 << 7), 1 << 7, b"b", struct.Struct(">b")),
    (-(1 << 15), 1 << 15, b"s", struct.Struct(">h")),
    (0, 1 << 16, b"u", struct.Struct(">H")),
    (-(1 << 31), 1 << 31, b"I", struct.Struct(">i")),
    (0, 1 << 32, b"i", struct.Struct(">I")),
    (-(1 << 63), 1 << 63, b"l", struct.Struct(">q")),
)
"""From, to, kind and form of integers: the smallest one that fits, as the client library writes those of a binding."""


def read_table(data: bytes) -> tuple[dict[str, Any], str | None]:
    """Read the bytes of a table, without its length.

    Returns:
        Its values, and what is wrong with the table: then it has those before the fault. So it has when the table, with
        what is within it, holds more than 1,000 values. Never raises.
    """
    table: dict[str, Any] = {}
    try:
        _Reader(data).read_pairs(0, len(data), table, 0)
    except (ValueError, IndexError, struct.error) as error:
        return table, str(error) if isinstance(error, ValueError) else "a table ends within a value"
    return table, None


class CutTable(dict[str, Any]):
    """What was read of a table that could not be read whole.

    Attributes:
        raw: the bytes of the table, without its length.
    """

    raw: bytes


def find_integer(data: bytes, name: str) -> int | None:
    """Find an integer in the bytes of a table, without its length, however many values the table has.

    Names and lengths are followed and values skipped, so that no value passes for a name, and nothing is made of what
    is not asked for. Never raises.

    Returns:
        The first value of that name, not within another table; None when there is none, or it is no integer.
    """
    encoded = name.encode()
    wanted = bytes((len(encoded),)) + encoded
    here, end = 0, len(data)
    try:
        while here < end:
            begin = here
            here += 1 + data[here]
            kind = data[here]
            here += 1
            behind = here + SIZES[kind]
            if kind in LONG:
                behind += LENGTH.unpack_from(data, here)[0]
            if data.startswith(wanted, begin):
                return NUMBERS[kind].unpack_from(data, here)[0] if kind in INTEGRAL else None
            here = behind
    except (IndexError, KeyError, struct.error):
        return None  # it ends within a name or a value, or has one of a kind that nobody knows
    return None


class _Reader:
    """Reads the values of one table, and of those within it: no more than a message may have headers."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MOST_HEADERS

    def read_pairs(self, here: int, end: int, table: dict[str, Any], depth: int) -> None:
        """Read names and values into a table."""
        data = self._data
        while here < end:
            begin = here + 1
            here = begin + data[here]
            if here >= end:
                raise ValueError("a table ends within a name")
            name = text_of(data[begin:here])
            here, table[name] = self._read_value(here, end, depth)

    def _read_value(self, here: int, end: int, depth: int) -> tuple[int, Any]:
        """Return where the value ends, and the value."""
        data = self._data
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"a table has more than {MOST_HEADERS} values")
        kind = data[here]
        here += 1
        number = NUMBERS.get(kind)
        if number is not None:
            behind = here + number.size
            if behind > end:
                raise ValueError("a table ends within a number")
            return behind, number.unpack_from(data, here)[0]
        if kind in (TEXT, BYTES, TABLE, ARRAY):
            begin = here + 4
            behind = begin + LENGTH.unpack_from(data, here)[0]
            if behind > end:
                raise ValueError("a value is longer than its table")
            if kind == TEXT:
                return behind, _text_field(data[begin:behind])
            if kind == BYTES:
                return behind, bytearray(data[begin:behind])
            if depth >= DEPTH:
                return behind, data[begin:behind]
            if kind == ARRAY:
                values: list[Any] = []
                while begin < behind:
                    begin, value = self._read_value(begin, behind, depth + 1)
                    values.append(value)
                return behind, values
            table: dict[str, Any] = {}
            self.read_pairs(begin, behind, table, depth + 1)
            return behind, table
        if kind == BOOLEAN:
            return here + 1, bool(data[here])
        if kind in VOID:
            return here, None
        if kind == TIME:
            seconds = SECONDS.unpack_from(data, here)[0]
            time = time_of(seconds)
            return here + 8, seconds if time is None else time
        if kind == DECIMAL:
            scale, value = SCALED.unpack_from(data, here)
            return here + 5, Decimal((0, tuple(map(int, str(value))), -scale))
        raise ValueError(f"a table has a value of the unknown type {kind}")


class ForeignText(str):
    """A text that is not UTF-8, as if it were Latin-1, which has a character for every byte.

    Attributes:
        raw: the bytes of the wire; an answer carries the same ones.
    """

    raw: bytes


def text_of(data: bytes) -> str:
    """Return a short text in UTF-8, and any other one as a `ForeignText`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        text = ForeignText(data, "latin-1")
        text.raw = bytes(data)
        return text


def bytes_of(text: str) -> bytes:
    """Return the bytes of a short text: UTF-8, or what it was read from."""
    return text.raw if isinstance(text, ForeignText) else text.encode()


def _text_field(data: bytes) -> str | bytes:
    """Return a long string as text; bytes that are not UTF-8 stay bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def time_of(seconds: float) -> datetime | None:
    """Return a time of AMQP; None when there is no such date."""
    if seconds > LATEST:
        seconds /= 1000
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


def write_table(table: Mapping[str, Any]) -> bytes:
    """Return the bytes of a table, its length before them.

    Raises:
        ValueError: AMQP has no way to write one of the names or values.
    """
    return _write_pairs(table, 0)


def _write_pairs(table: Mapping[str, Any], depth: int) -> bytes:
    parts: list[bytes] = []
    for name, value in table.items():
        encoded = str(name).encode()
        if len(encoded) > NAME:
            raise ValueError(f"the name of the header {name[:40]!r}... has more than {NAME} bytes")
        parts.append(bytes((len(encoded),)))
        parts.append(encoded)
        parts.append(_write_value(name, value, depth))
    data = b"".join(parts)
    return LENGTH.pack(len(data)) + data


def _write_value(name: str, value: Any, depth: int) -> bytes:
    if isinstance(value, str):
        encoded = value.encode()
        return b"S" + LENGTH.pack(len(encoded)) + encoded
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        for least, beyond, kind, form in INTEGERS:
            if least <= value < beyond:
                return kind + form.pack(value)
        raise ValueError(f"the header {name[:40]!r} is an integer of more than 64 bits")
    if isinstance(value, float):
        if not isfinite(value):  # RabbitMQ ends the connection for it
            raise ValueError(
                f"the header {name[:40]!r} is {value}, and RabbitMQ takes finite numbers only; give a text"
            )
        return b"d" + struct.pack(">d", value)
    if isinstance(value, (bytes, bytearray)):
        return b"x" + LENGTH.pack(len(value)) + bytes(value)
    if value is None:
        return b"V"
    if isinstance(value, datetime):
        return b"T" + write_time(value)
    if isinstance(value, Decimal):
        return b"D" + _write_decimal(name, value)
    if depth >= DEPTH:
        raise ValueError(f"the header {name[:40]!r} has more than {DEPTH} tables and arrays within each other")
    if isinstance(value, Mapping):
        return b"F" + _write_pairs(value, depth + 1)
    if isinstance(value, Sequence):
        data = b"".join(_write_value(name, item, depth + 1) for item in value)
        return b"A" + LENGTH.pack(len(data)) + data
    raise ValueError(f"the header {name[:40]!r} is a {type(value).__name__}, which AMQP does not know")


def write_time(value: datetime) -> bytes:
    """Return the seconds of a time; one without a zone is in UTC.

    Raises:
        ValueError: it is before 1970.
    """
    seconds = int((value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)).timestamp())
    if seconds < 0:
        raise ValueError(f"the time {value.isoformat()} is before 1970")
    return SECONDS.pack(seconds)


def _write_decimal(name: str, value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if isinstance(exponent, int) and exponent > 0:
        digits, exponent = (*digits, *(0,) * min(exponent, 99)), 0
    number = int("".join(map(str, digits)) or "0")
    if not isinstance(exponent, int) or sign or number > 0xFFFFFFFF or exponent < -SHORT:
        raise ValueError(f"the header {name[:40]!r} is the decimal {value:.20g}, which AMQP can't express; give a text")
    return SCALED.pack(-exponent, number)
