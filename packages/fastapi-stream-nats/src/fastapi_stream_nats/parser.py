"""The protocol of NATS as the server speaks it, read many messages at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from nats.errors import ProtocolError
from nats.protocol.parser import Parser as ClientParser

__all__ = ("Parser", "Sink", "Wire")

Wire: TypeAlias = "tuple[bytes, bytes, bytes, bytes | None]"
"""One message off the wire: subject, reply subject, body, header block."""
Sink: TypeAlias = Callable[["list[Wire]", int], None]
"""Takes messages off the wire, in their order, and the bytes of all their bodies. It must not raise."""

END = b"\r\n"
STREAK = 500
"""Messages that are taken off the wire before the event loop gets its turn."""


class Parser(ClientParser):
    """Gives messages of known subscriptions to their sinks, and everything else, by pieces, to the client's parser.

    The client's parser takes two regular expressions, a copy of the buffer's rest and a coroutine for each message.
    This one takes none of them.

    Attributes:
        sinks: by the number of the subscription, as it is on the wire.
    """

    def __init__(self, client: Any) -> None:
        self.sinks: dict[bytes, Sink] = {}
        self._stats: dict[str, int] = client.stats
        self._life = 0
        super().__init__(client)

    def reset(self) -> None:
        super().reset()
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0
        self._streak = 0
        self._life += 1

    async def parse(self, data: bytes = b"") -> None:
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._need:
            return
        buffer = data if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._have, life = [], 0, self._life
        begin, size = 0, len(buffer)
        while begin < size:
            begin = self._deliver(buffer, begin)
            end = _end(buffer, begin)
            if end > size:
                break
            if end > begin:
                await super().parse(buffer[begin:end])
                if self._life != life:  # the connection was lost meanwhile, and with it what the buffer holds
                    return
                if self.buf:
                    raise ProtocolError("nats: unknown protocol")
            begin = end
        else:
            end = size
        if begin < size:
            self._parts, self._have, self._need = [buffer[begin:]], size - begin, end - begin
        else:
            self._need = 0
        if self._streak >= STREAK:  # the client reads on without a pause as long as there is something in its buffer
            self._streak = 0
            await asyncio.sleep(0)

    def _deliver(self, buffer: bytes, begin: int) -> int:
        """Give complete messages to their sinks, up to the first thing that is none; return where that begins."""
        find, sinks, size = buffer.find, self.sinks, len(buffer)
        line, subject, reply, sink, first, length = b"", b"", b"", None, 0, 0
        taker: Sink | None = None
        run: list[Wire] = []
        while True:
            middle = find(END, begin)
            if middle < 0:
                break
            if buffer[begin:middle] != line:  # messages of the same size often have the same line
                words = buffer[begin:middle].split()
                try:
                    sink = sinks.get(words[2])
                    headed = words[0] == b"HMSG"
                    if sink is None or not (headed or words[0] == b"MSG"):
                        break
                    reply = words[3] if len(words) == (6 if headed else 5) else b""
                    first, length = int(words[-2]) if headed else 0, int(words[-1])
                except (IndexError, ValueError):
                    break
                if not 0 <= first <= length:
                    break
                line, subject = buffer[begin:middle], words[1]
            body = middle + 2
            if body + length + 2 > size:
                break
            if sink is not taker:
                if run and taker is not None:
                    self._hand_over(taker, run)
                taker, run = sink, []
            begin = body + length
            if first:
                run.append((subject, reply, buffer[body + first : begin], buffer[body : body + first]))
            else:
                run.append((subject, reply, buffer[body:begin], None))
            begin += 2
        if run and taker is not None:
            self._hand_over(taker, run)
        return begin

    def _hand_over(self, sink: Sink, run: list[Wire]) -> None:
        self._streak += len(run)
        self._stats["in_msgs"] += len(run)
        size = sum([len(wire[2]) for wire in run])
        self._stats["in_bytes"] += size
        sink(run, size)


def _end(buffer: bytes, begin: int) -> int:
    """Return where the next piece ends, a line or a message; behind the buffer when it is not all there.

    Raises:
        ProtocolError: it is a message without a length.
    """
    middle = buffer.find(END, begin)
    if middle < 0:
        return len(buffer) + (begin < len(buffer))
    words = buffer[begin:middle].split()
    if not words or words[0] not in (b"MSG", b"HMSG"):
        return middle + 2
    if not words[-1].isdigit():
        raise ProtocolError("nats: malformed MSG")
    return middle + 2 + int(words[-1]) + 2
