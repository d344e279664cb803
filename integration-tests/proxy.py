"""A connection to a server that a test can look into, cut and give back."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from servers import address_of, free_port


class Proxy:
    """Stands between a client and the server: cuts connections, refuses new ones, keeps what the client sends."""

    def __init__(self, url: str) -> None:
        self.target = address_of(url)
        self.port = free_port()
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()
        self.sent = bytearray()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Proxy:
        await self.open()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.cut()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """End every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
            self._writers |= {writer, server_writer}
            await asyncio.gather(self._pump(reader, server_writer, True), self._pump(server_reader, writer, False))
        except (OSError, asyncio.CancelledError):
            return

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: bool) -> None:
        try:
            while data := await reader.read(65536):
                if client:
                    self.sent += data
                writer.write(data)
                await writer.drain()
        finally:
            writer.transport.abort()


class Jam(Proxy):
    """A proxy that reads nothing from the client while it is jammed.

    Attributes:
        last: what the client may say yet, and then it is jammed; empty for none.
        heard: what the server said.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.last = b""
        self.heard = bytearray()
        self.clear = asyncio.Event()
        self.clear.set()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: bool) -> None:
        try:
            while data := await reader.read(65536):
                if client:
                    await self.clear.wait()
                    self.sent += data
                    if self.last and self.last in data:
                        self.clear.clear()
                else:
                    self.heard += data
                writer.write(data)
                await writer.drain()
        finally:
            writer.transport.abort()
