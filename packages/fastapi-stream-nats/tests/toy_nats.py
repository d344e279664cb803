"""A server of a few lines that speaks the protocol of NATS, remembers what it gets and sends what a test wants."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class ToyServer:
    """Says INFO, answers PING, and knows which subscription has which number.

    Args:
        info: what it says of itself.

    Attributes:
        got: every byte, of all connections.
        connections: how many there were.
        subscriptions: the number of each subject, of the last connection.
        refusal: what is said to who connects, before the connection is closed.
    """

    def __init__(self, **info: Any) -> None:
        self.info = {"server_id": "toy", "version": "2.12.0", "headers": True, "max_payload": 1048576, **info}
        self.got = bytearray()
        self.connections = 0
        self.subscriptions: dict[str, int] = {}
        self.refusal = b""
        self.arrived = asyncio.Condition()
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ToyServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """End, and be no more where clients expect it."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """End the connection."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.connections += 1
        writer.write(b"INFO " + json.dumps(self.info).encode() + b"\r\n")
        try:
            while data := await reader.readuntil(b"\n"):
                words = data.split(b" ")
                self.got += data
                if words[0].strip() == b"PING":
                    writer.write(b"PONG\r\n")
                elif words[0] == b"SUB":
                    self.subscriptions[words[1].decode()] = int(words[-1])
                elif words[0] in (b"PUB", b"HPUB"):
                    self.got += await reader.readexactly(int(words[-1]) + 2)
                async with self.arrived:
                    self.arrived.notify_all()
                if words[0] == b"CONNECT" and self.refusal:
                    writer.write(self.refusal)
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def send(self, data: bytes, *cuts: int) -> None:
        """Send bytes in pieces that end at the given places."""
        assert self._writer is not None
        for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            self._writer.write(data[begin:end])
            await self._writer.drain()
            await asyncio.sleep(0)

    async def until(self, text: bytes, seconds: float = 10, times: int = 1) -> None:
        """Wait until something arrived."""
        async with self.arrived:
            await asyncio.wait_for(self.arrived.wait_for(lambda: self.got.count(text) >= times), seconds)


def message(subject: bytes, number: int, body: bytes = b"", headers: bytes = b"", reply: bytes = b"") -> bytes:
    """A message as the server sends it."""
    back = b" " + reply if reply else b""
    if headers:
        sizes = (len(headers), len(headers) + len(body))
        return b"HMSG %b %d%b %d %d\r\n%b%b\r\n" % (subject, number, back, *sizes, headers, body)
    return b"MSG %b %d%b %d\r\n%b\r\n" % (subject, number, back, len(body), body)
