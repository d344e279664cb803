"""What a connection refuses to do, and what happens to who publishes while it ends."""

from __future__ import annotations

import asyncio
import logging
import ssl

import pytest
from fastapi_stream_core.errors import StreamError
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import (
    BaseSecurity,
    BrokerUnavailable,
    NatsBroker,
    NatsToken,
    NatsUserPassword,
    SetupError,
)
from toy_nats import ToyServer

CONTEXT = ssl.create_default_context()
ASKED = {
    "scheme": ("tls", None),
    "use_ssl": ("nats", NatsUserPassword("ann", "hunter2", use_ssl=True)),
    "ssl_context": ("nats", NatsUserPassword("ann", "hunter2", ssl_context=CONTEXT)),
    "token": ("nats", NatsToken("hunter2", use_ssl=True)),
    "base": ("nats", BaseSecurity(use_ssl=True)),
    "both": ("tls", NatsToken("hunter2")),
}


@pytest.mark.parametrize("how", ASKED)
async def test_without_tls_nothing_is_sent_when_it_was_asked_for(how: str) -> None:
    scheme, security = ASKED[how]
    async with ToyServer(auth_required=True) as server:
        credentials = "ann:hunter2@" if security is None else ""
        broker = NatsBroker(f"{scheme}://{credentials}127.0.0.1:{server.port}", security=security, logger=None)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(BrokerUnavailable, match="TLS was asked for and the server has none") as caught:
            await broker.start()
        assert loop.time() - began < 5
        assert " after " not in str(caught.value)
        assert server.connections == 1
        assert bytes(server.got) == b""


async def test_a_server_that_is_discovered_later_has_to_have_tls_too() -> None:
    """Here none of them has: the addresses that a server tells of are never tried without."""
    async with ToyServer() as second, ToyServer(connect_urls=[f"127.0.0.1:{second.port}"]) as first:
        broker = NatsBroker(f"tls://ann:hunter2@127.0.0.1:{first.port}", startup_timeout=2, logger=None)
        with pytest.raises(BrokerUnavailable, match="TLS was asked for"):
            await broker.start()
        assert bytes(first.got) + bytes(second.got) == b""


def test_tls_on_a_web_socket_is_another_scheme() -> None:
    with pytest.raises(SetupError, match="write wss://"):
        NatsBroker("ws://localhost:80", security=BaseSecurity(use_ssl=True))


async def test_without_it_nothing_is_demanded() -> None:
    async with ToyServer() as server, NatsBroker(server.url, security=NatsUserPassword("ann", "hunter2")) as broker:
        assert not broker.encrypted
        assert await broker.ping()


@pytest.mark.parametrize("stream", [None, "s"])
@pytest.mark.parametrize("size", [1, 300_000])
async def test_publishing_while_the_broker_stops_is_always_an_error_of_ours(stream: str | None, size: int) -> None:
    """A bare error of the client, or a cancellation that nobody asked for, ends more than the publication."""
    outcomes: list[BaseException | None] = []
    async with ToyServer() as server:
        broker = NatsBroker(server.url, publish_timeout=5, logger=None)

        async def publish_on() -> None:
            while True:
                try:
                    await broker.publish(b"x" * size, "a", stream=stream)
                    outcomes.append(None)
                except BaseException as error:
                    outcomes.append(error)
                    return
                await asyncio.sleep(0)

        await broker.start()
        tasks = [asyncio.ensure_future(publish_on()) for _ in range(20)]
        await server.until(b"PUB a ")
        await broker.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert all(isinstance(error, StreamError) for error in outcomes if error is not None)
    assert len([error for error in outcomes if error is not None]) == 20


async def test_who_waits_for_a_connection_is_told_at_once_when_the_broker_stops() -> None:
    async with ToyServer() as server:
        broker = NatsBroker(server.url, publish_timeout=60, logger=None)
        lost = asyncio.Event()

        async def on_lost() -> None:
            lost.set()

        broker.options["disconnected_cb"] = on_lost
        await broker.start()
        server.close()
        await asyncio.wait_for(lost.wait(), 10)
        waiting = [asyncio.ensure_future(broker.publish("x", "a", stream=stream)) for stream in (None, "s")]
        await asyncio.sleep(0)
        await asyncio.wait_for(broker.stop(), 20)
        results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        assert all(isinstance(one, BrokerUnavailable) for one in results), results


async def test_a_publisher_that_is_cancelled_is_cancelled() -> None:
    """The client swallows a cancellation while it waits for room."""
    done = Inbox()
    async with ToyServer() as server, NatsBroker(server.url, logger=None) as broker:

        async def publish_much() -> None:
            try:
                while True:
                    await broker.publish(b"x" * 200_000, "a")
            finally:
                done.put("done")

        for _ in range(20):
            task = asyncio.ensure_future(publish_much())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=5)
            assert task.cancelled()
        assert await broker.ping()
    assert len(done.all) == 20


async def test_a_server_of_another_kind_says_nothing() -> None:
    """Redis waits for the client to speak first, and so does a server of NATS that hangs."""
    gone = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    broker = NatsBroker(f"nats://127.0.0.1:{port}", connect_timeout=0.2, startup_timeout=1, logger=None)
    with pytest.raises(BrokerUnavailable, match="it takes connections and does not greet as NATS does"):
        await broker.start()
    await asyncio.wait_for(gone.wait(), 10)
    server.close()


async def test_why_the_server_ends_each_connection_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A limit of the account is no error of one subscription: the server ends what is connected, each time."""
    said = "the server ended it: maximum subscriptions exceeded"
    async with ToyServer() as server:
        broker = NatsBroker(server.url, graceful_timeout=1.0)

        @broker.subscriber("a")
        async def handler() -> None: ...

        async with broker:
            for times in range(1, 4):
                await server.until(b"SUB a ", times=times)
                await server.send(b"-ERR 'maximum subscriptions exceeded'\r\n")
            await server.until(b"SUB a ", times=4)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if line == f"connection to {server.url}: ConnectionEnded: {said}"]) == 1
    assert [line for line in lines if "subscriber('a')" in line and said in line]


async def test_a_refusal_that_lasts_is_not_said_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """A user that expired is tried twice a second, for as long as nobody renews it."""
    caplog.set_level(logging.INFO)
    async with ToyServer() as server:
        broker = NatsBroker(server.url, graceful_timeout=1.0)

        @broker.subscriber("a")
        async def handler() -> None: ...

        async with broker:
            await server.until(b"SUB a ")
            server.refusal = b"-ERR 'Authorization Violation'\r\n"
            await server.send(b"-ERR 'user authentication expired'\r\n")
            await server.until(b"CONNECT", times=8)
            server.refusal = b""
            await server.until(b"SUB a ", times=2)
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len([line for line in lines if line.startswith("BrokerUnavailable: connect to")]) <= 3
    assert lines.count(f"connection to {server.url}: there again") == 1
