"""What the client library writes to the socket of a connection."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

__all__ = ("Writer",)

FRAME = struct.Struct(">BHI")
"""Kind, channel and length of a frame."""
METHOD = 1
OPEN = b"\x00\x14\x00\x0a"
"""Class and method of `channel.open`."""
CLOSE_OK = b"\x00\x14\x00\x29\xce"
"""Class and method of `channel.close-ok`, and the end of the frame."""


class Writer:
    """The client library's writer, which writes once in a turn of the event loop.

    When RabbitMQ ends a channel it waits for the answer, and what follows that ends the connection, with all that is
    published or consumed on it. The client library leaves the answer out when it is busy, and lets follow what waited
    for a place in its queue. So the answer is written here, at once, and nothing until the channel is opened again.

    Args:
        writer: what it writes to.
        loop: the event loop.
    """

    def __init__(self, writer: asyncio.StreamWriter, loop: asyncio.AbstractEventLoop) -> None:
        self._writer = writer
        self._loop = loop
        self._waiting: list[bytes] = []
        self._ended: set[int] = set()

    def write(self, data: bytes) -> None:
        if self._ended:
            data = self._without_ended(data)
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def end(self, number: int) -> None:
        """Answer the end of a channel; what is written to it is dropped from now on, as RabbitMQ does."""
        if number in self._ended:
            return
        self.write(FRAME.pack(METHOD, number, len(CLOSE_OK) - 1) + CLOSE_OK)
        self._ended.add(number)

    def _without_ended(self, data: bytes) -> bytes:
        """Return whole frames without those of channels that were ended."""
        kept, here = [], 0
        while here < len(data):
            kind, number, length = FRAME.unpack_from(data, here)
            begin, here = here, here + 8 + length
            if number in self._ended:
                if kind != METHOD or not data.startswith(OPEN, begin + 7):
                    continue
                self._ended.discard(number)
            kept.append(data[begin:here])
        return b"".join(kept)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._writer.is_closing():
            self._writer.write(b"".join(waiting))

    async def drain(self) -> None:
        self._flush()
        await self._writer.drain()

    def write_eof(self) -> None:
        self._flush()
        self._writer.write_eof()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)
