"""A server that speaks Redis' protocol and says what a test wants said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

Words = list[bytes]
NEVER = object()
"""The answer of a command that waits at the server."""


def encoded(value: Any) -> bytes:
    """Write a value as RESP2: bytes, integers, None, lists, a text as a status, an exception as an error."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, str):
        return b"+%b\r\n" % value.encode()
    if isinstance(value, Exception):
        return b"-%b\r\n" % str(value).encode()
    return b"*%d\r\n" % len(value) + b"".join(map(encoded, value))


class WireServer:
    """Answers each command by its name: with a value, or with what a function of its words returns.

    Attributes:
        answers: by the name of the command, in upper case.
        commands: the words of every command that came.
        received: every byte that came.
        port: where it listens.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any | Callable[[Words], Any]] = {
            "PING": "PONG",
            "CLIENT": lambda words: 1 if words[1].upper() == b"ID" else "OK",
            "XLEN": 0,
            "XRANGE": [],
            "XREVRANGE": [],
            "LLEN": 0,
            "MEMORY": None,
            "XGROUP": "OK",
            "XPENDING": [],
            "XINFO": lambda words: Exception("ERR no such key") if words[1].upper() == b"STREAM" else [],
            "XACK": lambda words: len(words) - 3,
            "XCLAIM": [],
            "XAUTOCLAIM": [b"0-0", [], []],
            "SUBSCRIBE": lambda words: [b"subscribe", words[1], 1],
            "PSUBSCRIBE": lambda words: [b"psubscribe", words[1], 1],
            "XREADGROUP": lambda words: [[words[-2], []]] if words[-1] != b">" else NEVER,
            "XREAD": NEVER,
            "BLMPOP": NEVER,
        }
        self.commands: list[Words] = []
        self.received = bytearray()
        self.port = 0
        self.connections = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()

    never = NEVER

    def once(self, *values: Any) -> Callable[[Words], Any]:
        """Return an answer that gives each value once, and then waits."""
        left = list(values)
        return lambda words: left.pop(0) if left else NEVER

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self.connections += 1
        self._open.add(writer)
        try:
            while True:
                words = await self._words(reader)
                self.commands.append(words)
                answer = self.answers.get(words[0].decode().upper(), "OK")
                answer = answer(words) if callable(answer) else answer
                if answer is NEVER:
                    self._waiting.add(writer)
                    continue
                if [word.upper() for word in words[:2]] == [b"CLIENT", b"UNBLOCK"]:
                    for waiting in self._waiting:
                        waiting.write(encoded(None))
                    self._waiting.clear()
                writer.write(answer if isinstance(answer, bytearray) else encoded(answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            return
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    @property
    def has_waiting(self) -> bool:
        """Whether a command waits here: its connection sends no other one."""
        return bool(self._waiting)

    def cut(self) -> None:
        """End every connection."""
        for writer in self._open:
            writer.transport.abort()
        self._waiting.clear()

    async def _words(self, reader: asyncio.StreamReader) -> Words:
        count = int(await self._line(reader, b"*"))
        words = []
        for _ in range(count):
            size = int(await self._line(reader, b"$"))
            words.append((await reader.readexactly(size + 2))[:-2])
            self.received += words[-1]
        return words

    async def _line(self, reader: asyncio.StreamReader, kind: bytes) -> bytes:
        line = await reader.readuntil(b"\r\n")
        self.received += line
        if not line.startswith(kind):
            raise ValueError(f"{line!r} is no {kind!r}")
        return line[1:]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def names(self) -> Sequence[str]:
        """Return the names of the commands that came."""
        return [words[0].decode().upper() for words in self.commands]


@pytest.fixture
async def wire() -> AsyncIterator[WireServer]:
    server = WireServer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
    await server.close()
