"""A server that says nothing any more: the client cancels what waits for it, which nobody asked for."""

from __future__ import annotations

import asyncio

import pytest
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_rabbit import (
    BrokerUnavailable,
    RabbitBroker,
    RabbitExchange,
    RabbitQueue,
    RabbitRouter,
    bindings,
    publishing,
)
from toy_rabbit import DEADLINE, ToyServer


def freeze_at(server: ToyServer, name: str, times: int = 1) -> None:
    """Have one connection fall silent when a method comes so often, from now on."""
    last = server.asked[name] + times
    server.freezes = lambda asked: asked == name and server.asked[name] == last


async def takes(msg: str) -> None: ...


async def test_a_ping_to_a_server_that_is_frozen_says_no() -> None:
    async with ToyServer() as server, RabbitBroker(server.url, publish_timeout=DEADLINE) as broker:
        assert await broker.ping(DEADLINE)
        freeze_at(server, "Channel.Open")
        assert await asyncio.wait_for(broker.ping(DEADLINE), DEADLINE) is False
        await broker.publish("hi", "orders")
        assert await broker.ping(DEADLINE)


async def test_bindings_are_kept_after_a_server_was_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bindings, "ROUND_SECONDS", 0.1)
    async with ToyServer() as server:
        router = RabbitRouter(server.url)

        @router.subscriber(RabbitQueue("orders"), RabbitExchange("events"))
        async def handler(msg: str) -> None: ...

        async with router.broker:
            await server.until("Queue.Bind", 2)
            freeze_at(server, "Queue.Bind")
            await server.until("Basic.Consume", 2)
            # The consumer binds once; what comes more is a round.
            await server.until("Queue.Bind", server.asked["Queue.Bind"] + 3)


HANDSHAKE = ("ProtocolHeader", "Connection.StartOk", "Connection.Open")


@pytest.mark.parametrize("method", HANDSHAKE)
async def test_an_attempt_to_connect_that_is_given_up_leaves_no_socket(method: str) -> None:
    async with ToyServer() as server:
        server.freezes = lambda asked: asked == method
        broker = RabbitBroker(server.url, startup_timeout=1.0)
        broker.subscriber("orders")(takes)
        with pytest.raises(BrokerUnavailable, match="connect"):
            await broker.start()
        assert server.connections
        await until(lambda: not server.left, DEADLINE)


async def test_a_connection_that_the_heartbeat_gives_up_leaves_no_socket() -> None:
    async with ToyServer() as server, RabbitBroker(server.url, publish_timeout=DEADLINE) as broker:
        freeze_at(server, "Basic.Publish")
        await broker.publish("hi", "orders")
        assert server.connections == 2
        await until(lambda: server.left == 1, DEADLINE)


STARTING = ("Queue.Declare", "Basic.Consume", "Basic.Qos", "Channel.Open")


async def test_a_start_fails_with_an_error_when_its_time_is_over_meanwhile() -> None:
    async def begin(method: str) -> None:
        async with ToyServer() as server:
            router = RabbitRouter(server.url, startup_timeout=3.0)

            @router.subscriber(RabbitQueue("orders"))
            async def handler(msg: str) -> None: ...

            freeze_at(server, method)
            with pytest.raises(BrokerUnavailable, match="subscribe"):
                await router.broker.start()

    await asyncio.gather(*map(begin, STARTING))


async def test_a_subscription_starts_again_when_the_server_was_frozen_meanwhile() -> None:
    async def begin(method: str) -> None:
        async with ToyServer() as server:
            router = RabbitRouter(server.url, startup_timeout=DEADLINE)

            @router.subscriber(RabbitQueue("orders"))
            async def handler(msg: str) -> None: ...

            freeze_at(server, method)
            async with router.broker:
                assert server.connections == 2

    await asyncio.gather(*map(begin, STARTING))


async def test_a_message_is_published_when_the_server_was_frozen_meanwhile() -> None:
    async def publish(method: str) -> None:
        async with ToyServer() as server, RabbitBroker(server.url, publish_timeout=DEADLINE) as broker:
            freeze_at(server, method)
            await broker.publish("hi", "orders", exchange=RabbitExchange("events"))
            assert server.connections == 2

    await asyncio.gather(*map(publish, ("Channel.Open", "Confirm.Select", "Exchange.Declare", "Basic.Publish")))


@pytest.mark.parametrize("end", ["frozen", "cut"])
async def test_a_message_that_is_confirmed_is_not_sent_again(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "LARGE", 1)
    async with ToyServer() as server, RabbitBroker(server.url, publish_timeout=DEADLINE) as broker:

        def freezes(name: str) -> bool:
            if name == "Channel.Close" and end == "cut":
                server.cut()
            return name == "Channel.Close"

        server.freezes = freezes
        await broker.publish("large", "orders")
        assert server.asked["Channel.Close"]
        assert server.asked["Basic.Publish"] == 1


async def test_a_message_that_goes_alone_has_no_more_time_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "LARGE", 1)
    clock = asyncio.get_running_loop().time
    async with ToyServer() as server, RabbitBroker(server.url, publish_timeout=3) as broker:
        await broker.ping(DEADLINE)
        server.delay = 1.2
        freeze_at(server, "Basic.Publish")
        began = clock()
        with pytest.raises(BrokerUnavailable, match="after 3 s"):
            await broker.publish("large", "orders")
        assert clock() - began < 4.5
        server.delay = 0.0
