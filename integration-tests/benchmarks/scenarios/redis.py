"""Redis by redis-py: channels, lists, and streams without and with a group."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any

from order import BODY, CORRELATION_ID

from .scenario import Kind, Scenario, Send, Take

CHANNEL = Kind("channel", live=True, against_peer=(8, 15), messages=20_000, latency=True, publish="channel")
LIST = Kind("list", messages=5000, peer_messages=3000, latency=True, publish="list")
LIST_BATCH = Kind("list, batch of 100", batch=True, messages=30_000, peer_messages=30_000)
STREAM = Kind("stream", "stream", against_peer=(12, 22), latency=True, publish="stream")
GROUP = Kind("stream group, at least once", "stream", against_peer=(16, 30), peer_messages=3000, latency=True)
GROUP_FIRST = Kind("stream group, at most once", "stream", peer_messages=3000)
LISTS = (LIST, LIST_BATCH)
GROUPS = (GROUP, GROUP_FIRST)


def envelope(body: bytes) -> bytes:
    """Return a message as FastStream and ours write it: the headers, with their places and lengths, before the body."""
    headers = (("content-type", "application/json"), ("correlation_id", CORRELATION_ID))
    table = len(headers).to_bytes(2, "big")
    for pair in headers:
        table += b"".join(len(text).to_bytes(2, "big") + text.encode() for text in pair)
    return b"\x89BIN\r\n\x1a\n\x00\x01" + (18).to_bytes(4, "big") + (18 + len(table)).to_bytes(4, "big") + table + body


ENVELOPE = envelope(BODY)


def bare(data: bytes) -> bytes:
    """Return the body in an envelope."""
    return data[int.from_bytes(data[14:18], "big") :]


def command(*words: bytes) -> bytes:
    """Return a command as it is sent."""
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))


class Redis(Scenario):
    name = "redis"
    kinds = (CHANNEL, LIST, LIST_BATCH, STREAM, GROUP, GROUP_FIRST)
    raw_note = (
        "redis: raw is pubsub.listen(), BLPOP, LPOP 100, XREAD COUNT 100, XREADGROUP COUNT 100 and one XACK of them."
    )
    publish_note = (
        "redis: raw is one command a call, for which redis-py takes as many connections as there are tasks;"
        " a pipeline filled by hand saves that."
    )

    def fill(self, count: int) -> None:
        key = self.address.encode()
        if self.kind in LISTS:
            self._send(command(b"RPUSH", key, ENVELOPE), count)
        elif self.kind is not CHANNEL:
            self._send(command(b"XADD", key, b"*", b"__data__", ENVELOPE), count)

    def send(self, count: int) -> None:
        self._send(command(b"PUBLISH", self.address.encode(), ENVELOPE), count)

    def _send(self, one: bytes, count: int) -> None:
        """Send a command many times, and take the answers meanwhile, so that neither side has to wait."""
        from servers import address_of

        with socket.create_connection(address_of(self.url)) as connection:
            taking = Thread(target=_answers, args=(connection, count))
            taking.start()
            for begin in range(0, count, 500):
                connection.sendall(one * min(500, count - begin))
            taking.join()

    async def raw(self, take: Take, over: asyncio.Event, ready: Callable[[], None]) -> None:
        from redis.asyncio import Redis as Client

        client = Client.from_url(self.url)
        if self.kind is CHANNEL:
            await self._raw_channel(client, take, over, ready)
        elif self.kind in LISTS:
            ready()
            await self._raw_list(client, take, over)
        elif self.kind is STREAM:
            ready()
            await self._raw_stream(client, take, over)
        else:
            self._make_group()
            ready()
            await self._raw_group(client, take, over)
        await client.aclose()

    async def _raw_channel(self, client: Any, take: Take, over: asyncio.Event, ready: Callable[[], None]) -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(self.address)
            await channel.get_message(ignore_subscribe_messages=False, timeout=5)
            ready()
            async for message in channel.listen():
                take(bare(message["data"]))
                if over.is_set():
                    break

    async def _raw_list(self, client: Any, take: Take, over: asyncio.Event) -> None:
        while not over.is_set():
            if self.kind is LIST_BATCH:
                found = await client.lpop(self.address, 100) or ()
            else:
                found = (await client.blpop(self.address, 1) or ())[1:]
            for data in found:
                take(bare(data))

    async def _raw_stream(self, client: Any, take: Take, over: asyncio.Event) -> None:
        last = b"0"
        while not over.is_set():
            found = await client.xread({self.address: last}, count=100, block=1000)
            for number, fields in _entries(found):
                take(bare(fields[b"__data__"]))
                last = number

    async def _raw_group(self, client: Any, take: Take, over: asyncio.Event) -> None:
        no_ack = self.kind is GROUP_FIRST
        while not over.is_set():
            found = await client.xreadgroup(self.token, "one", {self.address: ">"}, count=100, block=1000, noack=no_ack)
            entries = _entries(found)
            for _, fields in entries:
                take(bare(fields[b"__data__"]))
            if entries and not no_ack:
                await client.xack(self.address, self.token, *(number for number, _ in entries))

    def ours(self) -> tuple[Any, Any]:
        from fastapi_stream_redis import AckPolicy, ListSub, RedisRouter, StreamSub

        router = RedisRouter(self.url, logger=None)
        return router, lambda: router.subscriber(**self._options(ListSub, StreamSub, AckPolicy))

    def peer(self) -> tuple[Any, Any]:
        from faststream import AckPolicy
        from faststream.redis import ListSub, StreamSub
        from faststream.redis.fastapi import RedisRouter

        router = RedisRouter(self.url, logger=None)
        return router, lambda: router.subscriber(**self._options(ListSub, StreamSub, AckPolicy))

    def _options(self, list_sub: Any, stream_sub: Any, policy: Any) -> dict[str, Any]:
        if self.kind is CHANNEL:
            return {"channel": self.address}
        if self.kind in LISTS:
            batch = self.kind is LIST_BATCH
            return {"list": list_sub(self.address, batch=True, max_records=100) if batch else self.address}
        if self.kind is STREAM:
            return {"stream": stream_sub(self.address, last_id="0")}
        self._make_group()  # from the first entry; the peer would make it at the end of the stream
        group = stream_sub(self.address, group=self.token, consumer="one")
        return {"stream": group, "ack_policy": policy.ACK_FIRST if self.kind is GROUP_FIRST else policy.NACK_ON_ERROR}

    def _make_group(self) -> None:
        from redis import Redis as Client

        with Client.from_url(self.url) as client:
            client.xgroup_create(self.address, self.token, "0", mkstream=True)

    async def unsettled(self, count: int) -> int:
        from redis.asyncio import Redis as Client

        if self.kind not in GROUPS:
            return 0
        async with Client.from_url(self.url) as client:
            return int((await client.xpending(self.address, self.token))["pending"])

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Send]:
        from redis.asyncio import Redis as Client

        async with Client.from_url(self.url) as client:
            if self.kind is CHANNEL:
                yield lambda body: client.publish(self.address, envelope(body))
            elif self.kind in LISTS:
                yield lambda body: client.rpush(self.address, envelope(body))
            else:
                yield lambda body: client.xadd(self.address, {b"__data__": envelope(body)})

    def destination(self) -> dict[str, Any]:
        where = "channel" if self.kind is CHANNEL else "list" if self.kind in LISTS else "stream"
        return {where: self.address}


def _entries(found: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Return the entries of the one stream that was asked for."""
    if isinstance(found, dict):  # RESP3
        return [entry for batches in found.values() for entries in batches for entry in entries]
    return [entry for _, entries in found for entry in entries]


def _answers(connection: socket.socket, count: int) -> None:
    """Take as many answers as there were commands: an integer, or a text in two lines."""
    left = count
    while left > 0:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError(f"Redis closed the connection, {left} answers before the end")
        left -= data.count(b":") + data.count(b"$")
        if b"\r\n-" in data or data.startswith(b"-"):
            raise RuntimeError(f"Redis refuses: {data[:200]!r}")
