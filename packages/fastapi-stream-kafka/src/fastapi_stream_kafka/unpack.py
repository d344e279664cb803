"""Unpacking compressed batches, to no more than a bound: a few kilobytes may hold any number of zeros."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from aiokafka import codec as client_codec
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError

__all__ = ("CODECS", "TooLarge", "unpack")

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
GZIP, SNAPPY, LZ4 = 1, 2, 3
cramjam: Any = getattr(client_codec, "cramjam", None)
"""The library of the client; None when it is not installed."""
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEAD = 16
_GZIP_WINDOW = 31
LEAST_ROOM, USUAL = 65536, 16
"""Room for what is unpacked, in bytes and as a factor; when it is not enough, there is a second try with all of it."""


class TooLarge(CorruptRecordException):
    """A batch holds more than may be unpacked."""


def unpack(codec: int, data: bytes, most: int) -> bytes:
    """Return what a compressed batch holds.

    Args:
        codec: the number of its compression, not 0.
        data: its body.
        most: most bytes that it may hold; not much more than these are ever unpacked.

    Raises:
        TooLarge: it holds more.
        UnsupportedCodecError: the compression is unknown, or its library is missing.
        Exception: the data is damaged.
    """
    if codec == GZIP:
        return _gzip(data, most)
    if codec >= len(CODECS):
        raise UnsupportedCodecError(f"the compression {codec} is unknown")
    if cramjam is None:
        raise UnsupportedCodecError(f"Libraries for {CODECS[codec]} compression codec not found")
    if codec == SNAPPY:
        return _snappy(data, most)
    return _into(cramjam.lz4 if codec == LZ4 else cramjam.zstd, data, most)


def _into(module: Any, data: bytes, most: int) -> bytes:
    size = min(most, max(LEAST_ROOM, len(data) * USUAL))
    while True:
        room = bytearray(size)
        try:
            count = module.decompress_into(data, room)
        except cramjam.DecompressionError as error:
            if "write whole buffer" not in str(error):
                raise
            if size == most:
                raise TooLarge(_reason(most)) from None
            size = most
        else:
            return bytes(memoryview(room)[:count])


def _gzip(data: bytes, most: int) -> bytes:
    found: list[bytes] = []
    left = most
    while data:
        one = zlib.decompressobj(_GZIP_WINDOW)
        part = one.decompress(data, left + 1)
        left -= len(part)
        if left < 0:
            raise TooLarge(_reason(most))
        if not one.eof:
            raise CorruptRecordException("the compressed data ends too early")
        found.append(part)
        data = one.unused_data.lstrip(b"\0")
    return b"".join(found)


def _snappy(data: bytes, most: int) -> bytes:
    blocks = [data]
    if data[: len(_XERIAL)] == _XERIAL:
        blocks, at = [], _XERIAL_HEAD
        while at < len(data):
            (size,) = struct.unpack_from(">i", data, at)
            if size < 0:
                raise CorruptRecordException(f"a block of {size} bytes")
            blocks.append(data[at + 4 : at + 4 + size])
            at += 4 + size
    if sum(map(cramjam.snappy.decompress_raw_len, blocks)) > most:
        raise TooLarge(_reason(most))
    return b"".join(bytes(cramjam.snappy.decompress_raw(one)) for one in blocks)


def _reason(most: int) -> str:
    return f"the batch unpacks to more than {most} bytes, half of prefetch_bytes"
