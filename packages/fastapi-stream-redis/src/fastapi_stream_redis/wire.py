"""Bodies together with their headers in one value, because Redis has no headers.

The envelope that is written: 8 bytes of magic, the version (2 bytes), where the headers and where the body begin
(4 bytes each); then the number of headers (2 bytes) and for each its name and its value, each behind its length
(2 bytes); then the body. All numbers are big-endian. Two older forms are read, too: a JSON object with `data` and
`headers`, and the bare body.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING

from fastapi_stream_core.errors import PublishError
from fastapi_stream_core.headers import MOST_HEADERS, Headers, HeaderValue, text_name, text_or_bytes
from pydantic_core import SchemaValidator, core_schema, to_json

if TYPE_CHECKING:
    from fastapi_stream_core.response import Outgoing

__all__ = ("DATA_FIELD", "MessageFormat", "at_a_glance", "entry_data", "headers_of", "joined", "opened", "pack")

CORRELATION_ID = b"\x00\x0ecorrelation_id"
BEFORE_ID = len(CORRELATION_ID) + 2
"""Bytes of the header with the correlation id before its value."""
MAGIC = b"\x89BIN\r\n\x1a\n"
HEAD = MAGIC + b"\x00\x01\x00\x00\x00\x12"
"""Magic, version 1, and the headers right behind the 18 bytes of the head."""
TABLE = 18
LONGEST = 0xFFFF
DATA_FIELD = b"__data__"
"""The field of a stream's entry that the envelope is in."""


class MessageFormat(Enum):
    """How messages are written."""

    BINARY = "binary"
    """An envelope with headers."""
    RAW = "raw"
    """The bare body: headers, ids and reply address are not sent."""


def pack(message: Outgoing, form: MessageFormat) -> bytes:
    """Return a message as it is stored in Redis.

    Raises:
        PublishError: a header is longer than the envelope can hold.
    """
    if form is MessageFormat.RAW:
        return message.body
    headers = message.wire_headers()
    # First what is different in each message: what is behind it is then the same in many of them.
    headers.sort(key=_is_no_correlation_id)
    parts = [b""]
    for pair in headers:
        for text in pair:
            data = text.encode() if isinstance(text, str) else text
            if len(data) > LONGEST:
                raise PublishError(message.address, f"the header {pair[0][:40]!r} is longer than {LONGEST} bytes")
            parts.append(len(data).to_bytes(2, "big"))
            parts.append(data)
    parts[0] = len(headers).to_bytes(2, "big")
    table = b"".join(parts)
    return b"".join((HEAD, (TABLE + len(table)).to_bytes(4, "big"), table, message.body))


def _is_no_correlation_id(pair: tuple[str, HeaderValue]) -> bool:
    return pair[0] != "correlation_id"


def headers_of(head: bytes) -> Headers:
    """Return the headers in what `at_a_glance` found before a body."""
    return Headers(_table(head)) if head else Headers()


def joined(head: bytes, body: bytes) -> bytes:
    """Return the value of Redis that was taken apart."""
    return head if head.startswith(b"{") else head + body


_Basics = tuple["str | None", "str | None"]
_NOTHING: _Basics = (None, None)


class _Shapes:
    """What the headers of most messages say, so that they need not be read for each one; bounded in bytes.

    Attributes:
        by_prefix: by an envelope up to the correlation id: where the headers behind that begin and end, and what all
            of them say.
    """

    def __init__(self) -> None:
        self.by_prefix: dict[bytes, tuple[int, int, dict[bytes, _Basics]]] = {}
        self._room = MOST_KNOWN

    def learn(self, prefix: bytes, begin: int, end: int, rest: bytes, basics: _Basics) -> None:
        """Note what one message says."""
        cost = len(prefix) + 2 * len(rest) + KNOWN_OVERHEAD
        if cost > self._room:
            self.by_prefix.clear()
            self._room = MOST_KNOWN
        self._room -= cost
        self.by_prefix.setdefault(prefix, (begin, end, {}))[2][rest] = basics


LONGEST_KNOWN = 512
MOST_KNOWN = 256 * 1024
KNOWN_OVERHEAD = 512
_SHAPES = _Shapes()


def at_a_glance(data: bytes) -> tuple[bytes, bytes, _Basics] | None:
    """Return what stands before the body of a value of Redis, the body, and what every message is asked for.

    That is content type and reply address. The correlation id is another in each message, the other headers are mostly
    those of the message before. So what most messages say is known without reading their headers.

    Returns:
        None for a value that has to be read for that, which takes as long as its sender likes.
    """
    at = data.find(CORRELATION_ID, TABLE, LONGEST_KNOWN)
    shape = _SHAPES.by_prefix.get(data[: at + BEFORE_ID]) if at > 0 else None
    if shape is not None:
        begin, end, known = shape
        basics = known.get(data[begin:end])
        if basics is not None:
            return data[:end], data[end:], basics
    if data.startswith(MAGIC) or _may_be_old(data):
        return None
    return b"", data, _NOTHING


def opened(data: bytes) -> tuple[bytes, bytes, Headers]:
    """Return what stands before the body of a value of Redis, the body, and the headers. Reads all of them."""
    if not data.startswith(MAGIC):
        found = _old_envelope(data)
        return (b"", data, Headers()) if found is None else (data, found[0], _old_headers(found[1]))
    end = int.from_bytes(data[14:18], "big")
    if not TABLE <= end <= len(data):
        return b"", data, Headers()
    head = data[:end]
    headers = headers_of(head)
    at = head.find(CORRELATION_ID, TABLE, LONGEST_KNOWN)
    if head.startswith(HEAD) and at > 0 and _is_header(head, at):
        begin = at + BEFORE_ID + int.from_bytes(head[at + BEFORE_ID - 2 : at + BEFORE_ID], "big")
        if begin <= end <= begin + LONGEST_KNOWN:
            basics = headers.text("content-type"), headers.text("reply_to")
            _SHAPES.learn(head[: at + BEFORE_ID], begin, end, head[begin:], basics)
    return head, data[end:], headers


def _is_header(data: bytes, at: int) -> bool:
    """Tell whether a header begins here, and not something within one."""
    begin = TABLE + 2
    while begin < at:
        begin += 2 + int.from_bytes(data[begin : begin + 2], "big")
        begin += 2 + int.from_bytes(data[begin : begin + 2], "big")
    return begin == at


def _table(head: bytes) -> list[tuple[str, HeaderValue]]:
    """Read the headers of an envelope; what is cut off is left out."""
    at, end = int.from_bytes(head[10:14], "big"), len(head)
    pairs: list[tuple[str, HeaderValue]] = []
    if not TABLE <= at <= end:
        return pairs
    count = int.from_bytes(head[at : at + 2], "big")
    at += 2
    for _ in range(min(count, MOST_HEADERS)):
        middle = at + 2 + (head[at] << 8 | head[at + 1]) if at + 2 <= end else end
        last = middle + 2 + (head[middle] << 8 | head[middle + 1]) if middle + 2 <= end else end + 1
        if last > end:
            break
        try:
            pairs.append((head[at + 2 : middle].decode(), head[middle + 2 : last].decode()))
        except UnicodeDecodeError:
            pairs.append((text_name(head[at + 2 : middle]), text_or_bytes(head[middle + 2 : last])))
        at = last
    return pairs


# It makes nothing of the rest, however much that is.
_OLD = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            "data": core_schema.typed_dict_field(core_schema.str_schema(strict=True)),
            "headers": core_schema.typed_dict_field(core_schema.dict_schema(strict=True)),
        },
        extra_behavior="ignore",
    )
)


def _may_be_old(data: bytes) -> bool:
    return data.startswith(b"{") and b'"headers"' in data


def _old_envelope(data: bytes) -> tuple[bytes, dict[str, object]] | None:
    if not _may_be_old(data):
        return None
    try:
        found = _OLD.validate_json(data)
    except ValueError:
        return None
    return found["data"].encode(), found["headers"]


def _old_headers(known: dict[str, object]) -> Headers:
    return Headers([(name, str(value)) for name, value in islice(known.items(), MOST_HEADERS) if value is not None])


def entry_data(fields: Sequence[bytes]) -> bytes:
    """Return the value of a stream's entry, whose names and values take turns.

    An entry that somebody else wrote, with fields of its own, is a JSON object of them; a single field `data` is the
    value itself.
    """
    if len(fields) == 2 and fields[0] in (DATA_FIELD, b"data"):
        return fields[1]
    known = dict(zip(fields[::2], fields[1::2], strict=False))
    if DATA_FIELD in known:
        return known[DATA_FIELD]
    return to_json({name.decode(errors="replace"): value.decode(errors="replace") for name, value in known.items()})
