"""The protocol of NATS as the server speaks it, read many messages at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeAlias

from nats.errors import ProtocolError
from nats.protocol.parser import Parser as ClientParser

from .subject import fields

__all__ = ("Parser", "Sink", "Wire")

Wire: TypeAlias = "tuple[bytes, bytes, bytes, bytes | None]"
"""One message off the wire: subject, reply subject, body, header block."""
Sink: TypeAlias = Callable[["list[Wire]"], None]
"""Takes messages off the wire, in their order. It must not raise."""

END = b"\r\n"
MOST_DIGITS = 10
"""Of a length: the server takes messages of less than 2 GiB."""
STREAK = 500
"""Messages that are taken off the wire before the event loop gets its turn."""


class Parser(ClientParser):
    """Gives messages of known subscriptions to their sinks, and everything else to the client.

    The client's parser takes two regular expressions, a copy of the buffer's rest and a coroutine for each message,
    and splits a line at characters that may be part of a subject. This one takes none of them.

    Attributes:
        sinks: by the number of the subscription, as it is on the wire.
    """

    def __init__(self, client: Any) -> None:
        self.sinks: dict[bytes, Sink] = {}
        self._client = client
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
        """Take what came off the wire.

        Raises:
            ProtocolError: it can't be understood; the client then connects again.
        """
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._need:
            return
        try:
            await self._parse(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))
        except (ProtocolError, OSError):
            raise
        except Exception as error:  # at any other error the client would stop to read, and say that it is connected
            await self._client._error_cb(error)
            raise ProtocolError(f"nats: {error!r}") from error
        if self._streak >= STREAK:  # the client reads on without a pause as long as there is something in its buffer
            self._streak = 0
            await asyncio.sleep(0)

    async def _parse(self, buffer: bytes) -> None:
        self._parts, self._have, life = [], 0, self._life
        begin, size = 0, len(buffer)
        while begin < size:
            begin = self._deliver(buffer, begin)
            end = _end(buffer, begin)
            if end > size:
                break
            if end > begin:
                await self._pass_on(buffer[begin:end])
                if self._life != life:  # the connection was lost meanwhile, and with it what the buffer holds
                    return
            begin = end
        else:
            end = size
        if begin < size:
            self._parts, self._have, self._need = [buffer[begin:]], size - begin, end - begin
        else:
            self._need = 0

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
                words = fields(buffer[begin:middle])
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
        self._stats["in_bytes"] += sum([len(wire[2]) for wire in run])
        sink(run)

    async def _pass_on(self, piece: bytes) -> None:
        """Give one line, or one message of the client's own subscriptions, to the client.

        Raises:
            ProtocolError: it is none.
        """
        line, _, rest = piece.partition(END)
        words, client = fields(line), self._client
        kind = words[0] if words else b""
        if kind in (b"MSG", b"HMSG"):
            number, reply, first, body = _message(words, rest[:-2])
            await client._process_msg(number, words[1], reply, body[first:], body[:first] or None)
        elif kind == b"PING":
            await client._process_ping()
        elif kind == b"PONG":
            await client._process_pong()
        elif kind == b"-ERR":
            await client._process_err(line[4:].strip().decode("utf-8", "backslashreplace"))
        elif kind == b"INFO":
            await client._process_info(json.loads(line[4:]))
        elif kind != b"+OK":
            raise ProtocolError("nats: unknown protocol")


def _message(words: list[bytes], body: bytes) -> tuple[int, bytes, int, bytes]:
    """Return number of the subscription, reply subject, length of the headers, and headers with body.

    Raises:
        ProtocolError: it is no message.
    """
    least = 5 if words[0] == b"HMSG" else 4
    if not least <= len(words) <= least + 1 or not words[2].isdigit():
        raise ProtocolError("nats: malformed MSG")
    first = words[-2] if least == 5 else b"0"
    if not first.isdigit() or int(first) > len(body):
        raise ProtocolError("nats: malformed MSG")
    return int(words[2]), words[3] if len(words) > least else b"", int(first), body


def _end(buffer: bytes, begin: int) -> int:
    """Return where the next piece ends, a line or a message; behind the buffer when it is not all there.

    Raises:
        ProtocolError: it is a message without a length.
    """
    middle = buffer.find(END, begin)
    if middle < 0:
        return len(buffer) + (begin < len(buffer))
    words = fields(buffer[begin:middle])
    if not words or words[0] not in (b"MSG", b"HMSG"):
        return middle + 2
    if not words[-1].isdigit() or len(words[-1]) > MOST_DIGITS:
        raise ProtocolError("nats: malformed MSG")
    return middle + 2 + int(words[-1]) + 2
