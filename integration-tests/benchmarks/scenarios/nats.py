"""NATS by nats-py: core, and JetStream pushed and pulled."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from order import BODY, CORRELATION_ID

from .scenario import Kind, Scenario, Send, Take

CORE = Kind("core", live=True, against_peer=(5, 9), messages=30_000, latency=True, publish="core")
PUSH = Kind("JetStream push", "stream", against_peer=(5, 9), messages=30_000, latency=True, publish="JetStream")
PULL = Kind("JetStream pull", "stream", against_peer=(12, 30), messages=20_000, peer_messages=3000, latency=True)
PULL_100 = Kind("JetStream pull of 100", "stream", against_peer=(3, 10), messages=20_000)
PULL_FIRST = Kind("JetStream pull of 100, at most once", "stream", messages=20_000)

HEADERS = {"content-type": "application/json", "correlation_id": CORRELATION_ID}
HEAD = b"NATS/1.0\r\n" + b"".join(f"{name}: {text}\r\n".encode() for name, text in HEADERS.items()) + b"\r\n"


async def subscribed(connection: Any) -> None:
    """Wait until the server has the connection's subscriptions.

    nats-py sends the PING of a flush past the commands that still wait: the first answer says nothing of them, and
    while it is awaited they are sent; the second PING comes after them.
    """
    await connection.flush()
    await connection.flush()


class Nats(Scenario):
    name = "nats"
    kinds = (CORE, PUSH, PULL, PULL_100, PULL_FIRST)
    raw_note = (
        "nats: raw is a callback; for pull fetch(100), as nats-py documents it; JetStream with an ack for each message."
    )

    def fill(self, count: int) -> None:
        if self.kind is not CORE:
            asyncio.run(self._fill(count))

    async def _fill(self, count: int) -> None:
        import nats

        async with await nats.connect(self.url) as connection:
            stream = connection.jetstream()
            await stream.add_stream(name=self.address, subjects=[self.address])
            await asyncio.to_thread(self.send, count)
            kept = 0
            for _ in range(200):  # what has no reply address is not confirmed
                kept = (await stream.stream_info(self.address)).state.messages
                if kept >= count:
                    break
                await asyncio.sleep(0.05)
            if kept != count:
                raise RuntimeError(f"{self.address!r} has {kept} of {count} messages")

    def send(self, count: int) -> None:
        from servers import address_of

        subject = self.address.encode()
        one = b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, len(HEAD), len(HEAD) + len(BODY), HEAD, BODY)
        with socket.create_connection(address_of(self.url)) as connection:
            connection.sendall(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n')
            for begin in range(0, count, 500):
                connection.sendall(one * min(500, count - begin) + b"PING\r\n")
                answer = b""
                while b"PONG\r\n" not in answer:
                    part = connection.recv(65536)
                    if not part or b"-ERR" in part:
                        raise ConnectionError(f"NATS refuses: {part[:200]!r}")
                    answer = answer[-6:] + part

    async def raw(self, take: Take, over: asyncio.Event, ready: Callable[[], None]) -> None:
        import nats

        first = self.kind is PULL_FIRST

        async def handle(message: Any) -> None:
            take(message.data)

        async def handle_and_ack(message: Any) -> None:
            take(message.data)
            await message.ack()

        connection = await nats.connect(self.url)
        stream = connection.jetstream()
        if self.kind is CORE:
            await connection.subscribe(self.address, cb=handle)
            await subscribed(connection)
            ready()
            await over.wait()
        elif self.kind is PUSH:
            await stream.subscribe(
                self.address, durable=self.token, stream=self.address, cb=handle_and_ack, manual_ack=True
            )
            ready()
            await over.wait()
        else:
            subscription = await stream.pull_subscribe(self.address, self.token, stream=self.address)
            ready()
            while not over.is_set():
                for message in await subscription.fetch(100, timeout=5):
                    if first:
                        await message.ack()
                    take(message.data)
                    if not first:
                        await message.ack()
        await connection.drain()

    async def listening(self, router: Any) -> None:
        """Wait until the server has the subscription: the peer's start does not. The server reads in order."""
        import nats

        if self.kind is CORE:
            async with await nats.connect(self.url) as connection:
                mark = await connection.subscribe(f"{self.address}-mark")
                await subscribed(connection)
                await router.broker.publish(b"", f"{self.address}-mark")
                await mark.next_msg(timeout=10)

    def ours(self) -> tuple[Any, Any]:
        from fastapi_stream_nats import AckPolicy, NatsRouter, PullSub

        router = NatsRouter(self.url, logger=None)
        return router, lambda: router.subscriber(self.address, **self._options(PullSub, AckPolicy))

    def peer(self) -> tuple[Any, Any]:
        from faststream import AckPolicy
        from faststream.nats import PullSub
        from faststream.nats.fastapi import NatsRouter

        router = NatsRouter(self.url, logger=None)
        return router, lambda: router.subscriber(self.address, **self._options(PullSub, AckPolicy))

    def _options(self, pull_sub: Any, policy: Any) -> dict[str, Any]:
        if self.kind is CORE:
            return {}
        options: dict[str, Any] = {"stream": self.address, "durable": self.token}
        if self.kind is PULL:
            options["pull_sub"] = True
        elif self.kind is not PUSH:
            options["pull_sub"] = pull_sub(batch_size=100)
        if self.kind is PULL_FIRST:
            options["ack_policy"] = policy.ACK_FIRST
        return options

    async def unsettled(self, count: int) -> int:
        import nats

        if self.kind is CORE:
            return 0
        async with await nats.connect(self.url) as connection:
            info = await connection.jetstream().consumer_info(self.address, self.token)
            return (info.num_ack_pending or 0) + (info.num_pending or 0)

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Send]:
        import nats

        async with await nats.connect(self.url) as connection:
            publish = connection.publish if self.kind is CORE else connection.jetstream().publish
            yield lambda body: publish(self.address, body, headers=dict(HEADERS))

    def destination(self) -> dict[str, Any]:
        return {"subject": self.address} if self.kind is CORE else {"subject": self.address, "stream": self.address}
