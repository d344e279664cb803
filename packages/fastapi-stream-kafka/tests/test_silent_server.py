"""A server that takes a connection, says which requests it knows, and no more: it has just started, or is stuck."""

from __future__ import annotations

import asyncio
import gc
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_kafka import BrokerUnavailable, KafkaBroker

API_VERSIONS = 18
SECONDS = 15.0
KNOWN = b"".join(struct.pack(">hhh", api, 0, 1) for api in range(19))


@asynccontextmanager
async def silent_server(asked: asyncio.Event) -> AsyncIterator[str]:
    """Yield the address of a server that sets `asked` when a request waits for its answer; end when nobody is left."""
    open_connections = set[asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        try:
            while size := await reader.read(4):
                request = await reader.readexactly(*struct.unpack(">i", size))
                api, _, number = struct.unpack_from(">hhi", request)
                if api != API_VERSIONS:
                    asked.set()
                    continue
                answer = struct.pack(">ihi", number, 0, len(KNOWN) // 6) + KNOWN
                writer.write(struct.pack(">i", len(answer)) + answer)
        finally:
            writer.close()
            open_connections.remove(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
    await until(lambda: not open_connections)


@pytest.mark.parametrize("count", [1, 2], ids=["one server", "two servers"])
async def test_a_start_that_is_given_up_closes_its_connections(count: int) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    asked = asyncio.Event()
    async with silent_server(asked) as address, silent_server(asked) as other:
        addresses = [address, other][:count]
        starting = asyncio.create_task(KafkaBroker(addresses, startup_timeout=SECONDS).start())
        await asyncio.wait_for(asked.wait(), SECONDS)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        del starting
        gc.collect()
    assert not complaints


async def test_a_start_that_takes_too_long_closes_its_connections() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    asked = asyncio.Event()
    async with silent_server(asked) as address:
        with pytest.raises(BrokerUnavailable):
            await KafkaBroker(address, startup_timeout=1).start()
        assert asked.is_set()
        gc.collect()
    assert not complaints
