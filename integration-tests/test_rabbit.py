"""What is RabbitMQ's own: exchanges, declarations, properties, returns, and what happens to a lost connection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Annotated, Any
from uuid import uuid4

import aio_pika
import aiormq
import pamqp.encode
import pytest
from fastapi import Path
from fastapi_stream_rabbit import (
    BrokerUnavailable,
    Channel,
    ExchangeType,
    NotStarted,
    PublishError,
    QueueType,
    RabbitExchange,
    RabbitMessage,
    RabbitQueue,
    RabbitResponse,
    RabbitRouter,
    RejectMessage,
    SASLPlaintext,
    SetupError,
)
from fastapi_stream_rabbit.stream import streams
from pydantic import BaseModel

from proxy import Proxy
from servers import Server, address_of, free_port
from waiting import until

DEADLINE = 30.0


def fresh(word: str = "test") -> str:
    return f"{word}-{uuid4().hex[:10]}"


async def take(queue: asyncio.Queue[Any], timeout: float = DEADLINE) -> Any:
    return await asyncio.wait_for(queue.get(), timeout)


@asynccontextmanager
async def raw_channel(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A channel of the client library alone: the other side."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        yield channel


async def get(channel: aio_pika.abc.AbstractChannel, queue: str) -> aio_pika.abc.AbstractIncomingMessage:
    """Wait for one message of a queue."""
    source = await channel.get_queue(queue, ensure=False)
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        message = await source.get(fail=False)  # a consumer that ends would take an auto-delete queue with it
        if message is not None:
            await message.ack()
            return message
    raise AssertionError(f"no message in {queue}")


@pytest.fixture
def lost_sockets() -> Iterator[None]:
    """Version 9 of the client, that of Python 3.10, leaves the socket of a lost connection to the garbage collector."""
    yield
    if sys.version_info < (3, 11):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture
async def proxy(rabbit_server: Server, lost_sockets: None) -> AsyncIterator[Proxy]:
    async with Proxy(rabbit_server.url) as proxy:
        yield proxy


@pytest.fixture
def url(rabbit_server: Server) -> str:
    return rabbit_server.url


@pytest.fixture(params=["stream", "library"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who reads the deliveries: our stream, or the client library as in versions that let nobody in."""
    if request.param == "library":
        monkeypatch.setattr("fastapi_stream_rabbit.connection.streams", lambda: None)
    return str(request.param)


# Start ---------------------------------------------------------------------------------------------------------------


async def test_a_broker_that_is_away_is_named_without_its_password() -> None:
    router = RabbitRouter(f"amqp://ann:s3cret@127.0.0.1:{free_port()}/", startup_timeout=0.5)
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        await router.broker.start()
    assert time.monotonic() - began < 5
    assert "127.0.0.1" in str(caught.value)
    assert "s3cret" not in f"{caught.value!r} {caught.value} {router.broker.address} {vars(router.broker)}"
    assert not router.broker.running


async def test_wrong_credentials_fail_at_once(url: str) -> None:
    host, port = address_of(url)
    router = RabbitRouter(host=host, port=port, security=SASLPlaintext("guest", "wr0ng"), startup_timeout=60)
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        await router.broker.start()
    assert time.monotonic() - began < 30
    assert caught.value.seconds == 0
    assert "Login was refused" in str(caught.value)
    assert "wr0ng" not in f"{caught.value!r} {caught.value}"


async def test_a_wrong_virtual_host_fails_at_once_with_the_reason(url: str) -> None:
    router = RabbitRouter(url, virtualhost="nowhere", startup_timeout=60)
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="vhost nowhere not found") as caught:
        await router.broker.start()
    assert time.monotonic() - began < 30
    assert caught.value.seconds == 0


async def test_credentials_of_a_security_object_connect(url: str) -> None:
    host, port = address_of(url)
    router = RabbitRouter(f"amqp://{host}:{port}", security=SASLPlaintext("guest", "guest"), virtualhost="/")
    async with router.broker as broker:
        assert await broker.ping()
    assert not await broker.ping()


async def test_a_queue_that_exists_with_other_arguments_is_an_error_naming_the_argument(url: str) -> None:
    name = fresh()
    async with raw_channel(url) as channel:
        await channel.declare_queue(name, durable=True, arguments={"x-max-length": 5}, auto_delete=True)
        router = RabbitRouter(url)

        @router.subscriber(RabbitQueue(name, auto_delete=True))
        async def handler(msg: str) -> None: ...

        with pytest.raises(SetupError, match=rf"RabbitQueue\('{name}'\).*'x-max-length'") as caught:
            await router.broker.start()
        assert caught.value.fix


async def test_an_exchange_of_another_type_is_an_error_naming_the_argument(url: str) -> None:
    name = fresh()
    async with raw_channel(url) as channel:
        await channel.declare_exchange(name, "fanout", durable=True)
        router = RabbitRouter(url)
        router.publisher("key", RabbitExchange(name, type=ExchangeType.TOPIC))
        with pytest.raises(SetupError, match=rf"RabbitExchange\('{name}'\).*'type'"):
            await router.broker.start()
        await channel.exchange_delete(name)


async def test_a_queue_that_should_be_there_is_not_made(url: str) -> None:
    router = RabbitRouter(url)

    @router.subscriber(RabbitQueue(fresh(), declare=False))
    async def handler(msg: str) -> None: ...

    with pytest.raises(SetupError, match="not there"):
        await router.broker.start()


# Routing -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("reader")
async def test_exchanges_route_by_their_type(url: str) -> None:
    router = RabbitRouter(url)
    seen: asyncio.Queue[Any] = asyncio.Queue()
    topic = RabbitExchange(fresh("topic"), type=ExchangeType.TOPIC, auto_delete=True)
    fanout = RabbitExchange(fresh("fanout"), type=ExchangeType.FANOUT, auto_delete=True)
    by_header = RabbitExchange(fresh("headers"), type=ExchangeType.HEADERS, auto_delete=True)
    inner = RabbitExchange(fresh("inner"), auto_delete=True, bind_to=topic, routing_key="deep.#")

    def queue(**options: Any) -> RabbitQueue:
        return RabbitQueue(fresh(), auto_delete=True, **options)

    @router.subscriber(queue(routing_key="logs.{level}"), topic)
    async def on_level(msg: str, level: Annotated[str, Path()]) -> None:
        seen.put_nowait(("level", level, msg))

    @router.subscriber(queue(routing_key="logs.#"), topic)
    async def on_all(msg: str) -> None:
        seen.put_nowait(("all", msg))

    @router.subscriber(queue(routing_key="deep.sea"), inner)
    async def on_inner(msg: str) -> None:
        seen.put_nowait(("inner", msg))

    @router.subscriber(queue(), fanout)
    async def on_fanout(msg: str) -> None:
        seen.put_nowait(("one", msg))

    @router.subscriber(queue(), fanout)
    async def on_fanout_too(msg: str) -> None:
        seen.put_nowait(("two", msg))

    @router.subscriber(queue(bind_arguments={"x-match": "any", "kind": "a", "size": "b"}), by_header)
    async def on_header(msg: str) -> None:
        seen.put_nowait(("headers", msg))

    async with router.broker as broker:
        await broker.publish("t", exchange=topic, routing_key="logs.info")
        assert sorted([await take(seen), await take(seen)]) == [("all", "t"), ("level", "info", "t")]
        await broker.publish("deeper", exchange=topic, routing_key="logs.info.deep")
        assert await take(seen) == ("all", "deeper")
        await broker.publish("f", exchange=fanout)
        assert sorted([await take(seen), await take(seen)]) == [("one", "f"), ("two", "f")]
        await broker.publish("d", exchange=topic, routing_key="deep.sea")
        assert await take(seen) == ("inner", "d")
        await broker.publish("h", exchange=by_header, headers={"size": "b"})
        assert await take(seen) == ("headers", "h")
        assert await broker.publish("nobody", exchange=by_header, headers={"size": "c"}) is None
    assert seen.empty()


@pytest.mark.usefixtures("reader")
async def test_every_queue_type_is_consumed(url: str) -> None:
    router = RabbitRouter(url)
    seen: asyncio.Queue[Any] = asyncio.Queue()
    quorum, stream = (
        RabbitQueue(fresh(), queue_type=QueueType.QUORUM),
        RabbitQueue(fresh(), queue_type=QueueType.STREAM),
    )

    @router.subscriber(quorum)
    async def on_quorum(msg: str, message: RabbitMessage) -> None:
        seen.put_nowait(("quorum", msg, message.attempt))
        if message.attempt == 1:
            raise ValueError("once")

    @router.subscriber(stream, consume_args={"x-stream-offset": "first"})
    async def on_stream(msg: str) -> None:
        seen.put_nowait(("stream", msg))

    async with router.broker as broker:
        await broker.publish("q", quorum)
        assert [await take(seen), await take(seen)] == [("quorum", "q", 1), ("quorum", "q", 2)]
        await broker.publish("s", stream)
        assert await take(seen) == ("stream", "s")
    async with raw_channel(url) as channel:
        await channel.queue_delete(quorum.name)
        await channel.queue_delete(stream.name)


# The wire ------------------------------------------------------------------------------------------------------------


class Item(BaseModel):
    name: str
    note: str | None = None


async def test_properties_and_headers_of_what_is_published(url: str) -> None:
    name = fresh()
    router = RabbitRouter(url, app_id="shop")
    async with raw_channel(url) as channel, router.broker as broker:
        await channel.declare_queue(name, auto_delete=True, durable=True)
        await broker.publish(
            Item(name="tea"),
            name,
            headers={"x": "y", "many": ["a", "b"], "n": 5, "bin": b"\xff\x00"},
            correlation_id="c-1",
            reply_to="answers",
            priority=3,
            expiration=60,
            message_type="made",
            message_id="m-1",
            persist=False,
            content_encoding="utf-8",
            timestamp=datetime(2026, 1, 2, tzinfo=timezone.utc),
        )
        await broker.publish("text", name)
        await broker.publish(b"\xff\x00", name)
        await broker.publish(None, name)
        first = await get(channel, name)
        assert first.body == b'{"name":"tea","note":null}'
        assert first.headers == {"x": "y", "many": ["a", "b"], "n": 5, "bin": bytearray(b"\xff\x00")}
        assert (first.content_type, first.content_encoding) == ("application/json", "utf-8")
        assert (first.correlation_id, first.reply_to, first.message_id) == ("c-1", "answers", "m-1")
        assert (first.priority, first.expiration, first.type, first.app_id) == (3, 60, "made", "shop")
        assert first.delivery_mode is aio_pika.DeliveryMode.NOT_PERSISTENT
        assert first.timestamp == datetime(2026, 1, 2, tzinfo=timezone.utc)
        second = await get(channel, name)
        assert (second.body, second.content_type) == (b"text", "text/plain")
        assert second.correlation_id
        assert second.message_id
        assert second.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
        third, fourth = await get(channel, name), await get(channel, name)
        assert (third.body, third.content_type) == (b"\xff\x00", None)
        assert (fourth.body, fourth.content_type) == (b"", None)


async def test_a_foreign_message_is_understood(url: str) -> None:
    router = RabbitRouter(url)
    seen: asyncio.Queue[RabbitMessage] = asyncio.Queue()
    name = fresh()

    @router.subscriber(RabbitQueue(name, auto_delete=True))
    async def handler(message: RabbitMessage) -> None:
        seen.put_nowait(message)

    async with router.broker, raw_channel(url) as channel:
        headers = {
            "n": 5,
            "flag": True,
            "none": None,
            "bin": bytearray(b"\xff"),
            "list": [1, "b"],
            "when": datetime.now(),
        }
        await channel.default_exchange.publish(
            aio_pika.Message(b'{"a": 1}', headers=headers, message_id="m-9", content_type="application/json"), name
        )
        message = await take(seen)
        assert message.headers["N"] == "5"
        assert message.headers["flag"] == "true"
        assert "none" not in message.headers
        assert message.headers["bin"] == b"\xff"
        assert message.headers.getlist("list") == ["1", "b"]
        assert await message.decode() == {"a": 1}
        assert (message.message_id, message.routing_key, message.exchange) == ("m-9", name, "")
        raw = message.raw_message
        assert isinstance(raw, aio_pika.IncomingMessage)
        assert raw.headers["n"] == 5
        assert raw is message.raw_message


@pytest.mark.usefixtures("reader")
async def test_texts_that_are_not_utf8_end_no_connection(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    router = RabbitRouter(url)
    seen: asyncio.Queue[RabbitMessage] = asyncio.Queue()
    name = fresh()

    def in_latin_1(text: str) -> bytes:
        value = text.encode("latin-1")
        return bytes([len(value)]) + value

    @router.subscriber(RabbitQueue(name, auto_delete=True), max_workers=1)
    async def handler(message: RabbitMessage) -> None:
        seen.put_nowait(message)

    async with router.broker as broker, raw_channel(url) as channel:
        with monkeypatch.context() as foreign:  # as a service in another language writes them
            foreign.setattr(pamqp.encode, "short_string", in_latin_1)
            foreign.setitem(pamqp.encode.METHODS, "shortstr", in_latin_1)
            for properties in ({"correlation_id": "grüße"}, {"headers": {"größe": "L", "a": {"ü": 1}}}):
                await channel.default_exchange.publish(aio_pika.Message(b"bad", **properties), name)
        await channel.default_exchange.publish(aio_pika.Message(b"good", headers={"größe": "L"}), name)
        first, second, third = await take(seen), await take(seen), await take(seen)
        assert first.correlation_id == "grüße"
        assert second.headers["größe"] == "L"
        assert (third.body, third.headers["größe"]) == (b"good", "L")
        assert "restarted" not in broker.report.counts


async def test_answers_go_to_a_queue_or_through_an_exchange(url: str) -> None:
    router = RabbitRouter(url, replies="any")
    name, answers = fresh(), fresh("answers")
    exchange = RabbitExchange(fresh("exchange"), auto_delete=True)

    @router.subscriber(RabbitQueue(name, auto_delete=True))
    async def handler(msg: str) -> RabbitResponse:
        return RabbitResponse(msg.upper(), headers={"x": "y"})

    async with raw_channel(url) as channel:
        queue = await channel.declare_queue(answers, auto_delete=True)
        declared = await channel.declare_exchange(exchange.name, durable=True, auto_delete=True)
        await queue.bind(declared, "key")
        async with router.broker as broker:
            await broker.publish("one", name, reply_to=answers, correlation_id="c-1")
            first = await get(channel, answers)
            assert (first.body, first.correlation_id, first.headers["x"]) == (b"ONE", "c-1", "y")
            await broker.publish("two", name, reply_to=f"key|{exchange.name}")
            assert (await get(channel, answers)).body == b"TWO"


async def test_an_answer_to_a_client_that_waits_without_a_queue_is_no_warning(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = RabbitRouter(url, replies="inbox", default_channel=Channel(on_return_raises=True))
    name = fresh()
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    @router.subscriber(RabbitQueue(name, auto_delete=True))
    async def handler(msg: str) -> str:
        return msg.upper()

    async def on_answer(message: Any) -> None:
        answers.put_nowait(message.body)

    async with router.broker as broker, raw_channel(url) as channel:
        raw = await channel.get_underlay_channel()
        await raw.basic_consume("amq.rabbitmq.reply-to", on_answer, no_ack=True)
        for number in range(3):
            properties = aiormq.spec.Basic.Properties(reply_to="amq.rabbitmq.reply-to", content_type="text/plain")
            await raw.basic_publish(b"hi %d" % number, routing_key=name, properties=properties)
            assert await take(answers) == b"HI %d" % number
        assert not {"unroutable", "replies_refused", "failed"} & set(broker.report.counts)
    assert not [one for one in caplog.records if one.name.startswith("fastapi_stream") and one.levelno > logging.INFO]


# Publishing ----------------------------------------------------------------------------------------------------------


async def test_publishing_while_the_broker_stops_says_so(url: str) -> None:
    name = fresh()
    for pause in (0.0, 0.001, 0.01, 0.05):
        router = RabbitRouter(url)
        async with router.broker as broker:
            await broker.publish("first", name, mandatory=False)
            publishing = [asyncio.ensure_future(broker.publish("x" * 1000, name, mandatory=False)) for _ in range(200)]
            await asyncio.sleep(pause)
        began = time.monotonic()
        outcomes = await asyncio.gather(*publishing, return_exceptions=True)
        assert time.monotonic() - began < 5
        errors = [one for one in outcomes if isinstance(one, BaseException)]
        assert {type(one) for one in errors} <= {BrokerUnavailable, NotStarted}
        assert all(one.seconds < 5 for one in errors if isinstance(one, BrokerUnavailable))
        with pytest.raises(NotStarted):
            await broker.publish("late", name)


async def test_headers_keep_their_type_so_that_a_headers_exchange_finds_them(url: str) -> None:
    router = RabbitRouter(url)
    name = fresh()
    wanted = {"x-match": "all", "n": 5, "big": 2**40, "yes": True, "text": "a"}
    exchange = RabbitExchange(fresh("headers"), type=ExchangeType.HEADERS, auto_delete=True)
    seen: asyncio.Queue[RabbitMessage] = asyncio.Queue()

    @router.subscriber(RabbitQueue(name, auto_delete=True, bind_arguments=wanted), exchange)
    async def handler(message: RabbitMessage) -> None:
        seen.put_nowait(message)

    async with router.broker as broker:
        headers = {"n": 5, "big": 2**40, "yes": True, "text": "a", "float": 0.1}
        assert await broker.publish("hi", exchange=exchange, routing_key="k", headers=headers) is not None
        message = await take(seen)
        assert message.delivery.headers == headers
        assert message.headers["n"] == "5"
        assert await broker.publish("hi", exchange=exchange, routing_key="k", headers={**headers, "n": "5"}) is None


async def test_a_message_that_no_queue_takes_is_a_warning_and_an_error_on_request(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = fresh("nowhere")
    async with RabbitRouter(url).broker as broker:
        for _ in range(5):
            assert await broker.publish("hi", nowhere) is None
        assert broker.report.counts["unroutable"] == 5
        assert await broker.publish("hi", nowhere, mandatory=False) is not None
    warnings = [record for record in caplog.records if nowhere in record.getMessage()]
    assert [record.levelno for record in warnings] == [logging.WARNING]
    async with RabbitRouter(url, default_channel=Channel(on_return_raises=True)).broker as broker:
        with pytest.raises(PublishError, match=nowhere):
            await broker.publish("hi", nowhere)


@pytest.mark.usefixtures("lost_sockets")
async def test_one_bad_message_does_not_disturb_its_siblings(url: str) -> None:
    name = fresh()
    async with raw_channel(url) as channel, RabbitRouter(url).broker as broker:
        await channel.declare_queue(name, auto_delete=True)
        bad = (
            broker.publish("bad", exchange=fresh("missing"), routing_key="x"),
            broker.publish("bad", name, user_id="somebody-else"),
            broker.publish("bad", name, correlation_id="x" * 300),
            broker.publish("bad", name, reply_to="x" * 300),
        )
        good = [broker.publish(str(number), name) for number in range(50)]
        outcomes = await asyncio.gather(*good[:25], *bad, *good[25:], return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, Exception)]
        assert [type(one) for one in refused] == [PublishError] * 4
        assert len(outcomes) == 54
        missing = {str(number).encode() for number in range(50)}
        while missing:  # what was sent again may be there twice
            body = (await get(channel, name)).body
            assert body != b"bad"
            missing.discard(body)


async def test_headers_too_large_for_a_frame_disturb_nobody(proxy: Proxy, url: str) -> None:
    name = fresh()
    async with raw_channel(url) as channel, RabbitRouter(proxy.url).broker as broker:
        await channel.declare_queue(name, auto_delete=True)
        good = [broker.publish(str(number), name, headers={"h": "x" * 120_000}) for number in range(20)]
        bad = [broker.publish("bad", name, headers={"h": "x" * size}) for size in (131_000, 140_000, 1_000_000)]
        outcomes = await asyncio.gather(*good[:10], *bad, *good[10:], return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, BaseException)]
        assert [type(one) for one in refused] == [PublishError] * 3
        assert all("131072" in str(one) for one in refused)
        assert proxy.sent.count(b"\x00\x0a\x00\x28") == 1  # one `connection.open`
        bodies = [(await get(channel, name)).body for _ in range(20)]
        assert sorted(bodies) == sorted(str(number).encode() for number in range(20))


async def test_without_confirmations_publishing_returns_nothing(url: str) -> None:
    name = fresh()
    router = RabbitRouter(url, default_channel=Channel(publisher_confirms=False))
    async with raw_channel(url) as channel, router.broker as broker:
        await channel.declare_queue(name, auto_delete=True)
        assert await broker.publish("hi", name) is None
        assert (await get(channel, name)).body == b"hi"


async def test_publishing_waits_for_a_broker_that_comes_back(proxy: Proxy, url: str) -> None:
    name = fresh()
    router = RabbitRouter(proxy.url)
    async with raw_channel(url) as channel, router.broker as broker:
        await channel.declare_queue(name, auto_delete=True)
        await broker.publish("before", name)
        await proxy.cut()
        waiting = [asyncio.ensure_future(broker.publish(f"while {number}", name)) for number in range(10)]
        done, _ = await asyncio.wait(waiting, timeout=0.3)
        assert not done
        await proxy.open()
        assert all(await asyncio.wait_for(asyncio.gather(*waiting), DEADLINE))
        await broker.publish("after", name)
        missing = {b"before", b"after", *(f"while {number}".encode() for number in range(10))}
        while missing:
            missing.discard((await get(channel, name)).body)


async def test_publishing_gives_up_after_the_timeout(proxy: Proxy) -> None:
    async with RabbitRouter(proxy.url, publish_timeout=0.5).broker as broker:
        await proxy.cut()
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable) as caught:
            await broker.publish("hi", "anywhere")
        assert 0.3 < time.monotonic() - began < 5
        assert "guest:guest" not in str(caught.value)
        assert not await broker.ping(0.2)


# Connections that are lost -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("reader")
async def test_a_lost_connection_leaves_handlers_alone_and_runs_no_copy_meanwhile(proxy: Proxy) -> None:
    router = RabbitRouter(proxy.url)
    name = fresh()
    seen: asyncio.Queue[str] = asyncio.Queue()
    started: list[str] = []
    release = asyncio.Event()

    @router.subscriber(name)
    async def handler(msg: str) -> None:
        started.append(msg)
        if msg == "slow":
            await asyncio.wait_for(release.wait(), DEADLINE)
        seen.put_nowait(msg)

    async with router.broker as broker:
        subscription = broker.subscribers[0]
        await broker.publish("slow", name)
        await until(lambda: started == ["slow"], what="the handler's start")
        await proxy.cut()
        await until(lambda: not subscription.running, what="noticing the loss")
        await proxy.open()
        back = time.monotonic()
        await until(lambda: subscription.running, what="consuming again")
        assert time.monotonic() - back < 5
        await broker.publish("next", name)
        assert await take(seen) == "next"
        release.set()
        assert await take(seen) == "slow"
        await until(lambda: broker.report.counts.get("late") == 1, what="counting the late acknowledgement")
        # Nobody can tell the copy from another message that looks the same, so it is handled too, after the first run.
        assert await take(seen) == "slow"
        assert started == ["slow", "next", "slow"]
    async with raw_channel(proxy.url) as channel:
        queue = await channel.get_queue(name)
        assert await queue.get(fail=False) is None
        await queue.delete()


@pytest.mark.usefixtures("reader")
async def test_messages_with_the_same_id_are_all_handled_after_a_lost_connection(proxy: Proxy, url: str) -> None:
    router = RabbitRouter(proxy.url)
    name = fresh()
    started: list[tuple[str, bool]] = []
    release = asyncio.Event()

    @router.subscriber(name, max_workers=1, channel=Channel(prefetch_count=10))
    async def handler(msg: str, message: RabbitMessage) -> None:
        started.append((msg, message.redelivered))
        if not message.redelivered:
            await asyncio.wait_for(release.wait(), DEADLINE)

    async with raw_channel(url) as channel, router.broker as broker:
        for body in (b"one", b"two", b"one", b"two"):  # an id, and even a whole message, is what a publisher makes it
            message = aio_pika.Message(body, message_id="the same", timestamp=datetime(2030, 1, 1, tzinfo=timezone.utc))
            await channel.default_exchange.publish(message, name)
        await until(lambda: len(started) == 1, what="the handler's start")
        await proxy.cut()
        # Before that, an acknowledgement goes to a socket that is gone and nobody knows it yet.
        await until(lambda: not broker.subscribers[0].running, what="noticing the loss")
        release.set()
        await until(lambda: broker.report.counts.get("late") == 1, what="counting the late acknowledgement")
        await proxy.open()
        await until(lambda: len(started) == 5, what="handling what is delivered again")
        await until(lambda: broker.subscribers[0].running, what="consuming again")
    assert started == [("one", False), ("one", True), ("two", True), ("one", True), ("two", True)]
    async with raw_channel(url) as channel:
        queue = await channel.get_queue(name)
        assert await queue.get(fail=False) is None
        await queue.delete()


@pytest.mark.parametrize("kind", [QueueType.CLASSIC, QueueType.QUORUM])
@pytest.mark.parametrize("count", [-(2**62), 2**62])
async def test_a_publisher_does_not_say_how_often_a_message_was_delivered(
    url: str, kind: QueueType, count: int
) -> None:
    router = RabbitRouter(url)
    name = fresh()
    attempts: list[int] = []

    @router.subscriber(RabbitQueue(name, queue_type=kind))
    async def handler(message: RabbitMessage) -> None:
        attempts.append(message.attempt)
        raise ValueError("no")

    async with raw_channel(url) as channel:
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": kind.value})
        message = aio_pika.Message(b"x", headers={"x-delivery-count": count, "x-acquired-count": count})
        await channel.default_exchange.publish(message, name)
        taken = await (await channel.get_queue(name)).get(timeout=DEADLINE)
        await taken.nack(requeue=True)
        async with router.broker as broker:
            await until(lambda: broker.report.counts.get("rejected") == 1, what="rejecting")
        assert attempts == [2, 3, 4, 5]
        await channel.queue_delete(name)


class Foreign(aiormq.spec.Basic.Properties):
    """Properties as somebody else's program writes them."""

    def __init__(self, encoded: bytes) -> None:
        super().__init__(message_id=uuid4().hex)
        self.encoded = encoded

    def marshal(self) -> bytes:
        return self.encoded


def table(*fields: bytes) -> bytes:
    data = b"".join(fields)
    return b"\x20\x00" + len(data).to_bytes(4, "big") + data


def nested(levels: int) -> bytes:
    data = b"\x01aV"
    for _ in range(levels):
        data = b"\x01aF" + len(data).to_bytes(4, "big") + data
    return data


STRANGE = [
    table(b"\x02\xff\xfeS\x00\x00\x00\x02\xff\x00", b"\x00V", b"\x01bx\x00\x00\x00\x01\xff"),
    table(b"\x01tT" + b"\xff" * 8, b"\x01dD" + b"\xff" * 5, b"\x01bt\x02", b"\x01nd\x7f\xf8" + b"\x00" * 6),
    table(b"\x01bb\xff", b"\x01ss\xff\xff", b"\x01iI" + b"\xff" * 4, b"\x01ll" + b"\xff" * 8),
    table(b"\x01f" + b"f\x7f\x80\x00\x00", b"\x01aA\x00\x00\x00\x03Vt\x01", b"\x01aV", b"\x01aV"),
    table(nested(100)),
    table(nested(5000)),
    table(b"\x01aV" * 43_000),
    b"\x00\x40" + b"\xff" * 8,
    b"\x86\x98" + b"\x02\xff\xfe" * 6,
    b"\x86\x80" + b"\x00" * 4,
    b"\x1c\x00\xff\xff\x02\xff\xfe",
    b"\x00\x04\x01c",
]


@pytest.mark.usefixtures("reader")
async def test_what_a_sender_writes_into_a_header_ends_no_connection(url: str) -> None:
    router = RabbitRouter(url)
    name = fresh()
    seen: dict[bytes, RabbitMessage] = {}

    @router.subscriber(name, max_workers=1)
    async def handler(message: RabbitMessage) -> None:
        assert all(isinstance(value, (str, bytes)) for _, value in message.headers.multi_items())
        assert message.raw_message.headers is not None
        assert message.message_id
        seen[message.body] = message

    async with raw_channel(url) as channel:
        await channel.declare_queue(name, durable=True)
    taken = 0
    for number, strange in enumerate(STRANGE):
        async with raw_channel(url) as channel:
            raw = await channel.get_underlay_channel()
            with contextlib.suppress(aiormq.AMQPError):  # RabbitMQ itself refuses some of them
                await raw.basic_publish(b"strange %d" % number, routing_key=name, properties=Foreign(strange))
                taken += 1
    assert taken > len(STRANGE) // 2
    async with raw_channel(url) as channel:
        async with router.broker as broker:
            await broker.publish(b"good", name, headers={"a": "b"})
            await until(lambda: len(seen) == taken + 1, what="handling")
            assert seen[b"good"].headers["a"] == "b"
            assert not {"restarted", "failed", "late"} & set(broker.report.counts)
        await channel.queue_delete(name)


@pytest.mark.usefixtures("reader")
async def test_a_queue_that_is_deleted_is_made_again(url: str) -> None:
    router = RabbitRouter(url)
    name = fresh()
    seen: asyncio.Queue[str] = asyncio.Queue()

    @router.subscriber(name)
    async def handler(msg: str) -> None:
        seen.put_nowait(msg)

    async with router.broker as broker, raw_channel(url) as channel:
        await channel.queue_delete(name)
        subscription = broker.subscribers[0]
        await until(lambda: not subscription.running, what="noticing")
        await until(lambda: subscription.running, what="consuming again", seconds=5)
        await broker.publish("hi", name)
        assert await take(seen) == "hi"
        await channel.queue_delete(name)


@pytest.mark.usefixtures("reader")
async def test_a_stop_hands_back_what_was_not_started(url: str) -> None:
    router = RabbitRouter(url, graceful_timeout=0.2)
    name = fresh()
    started = asyncio.Event()
    cancelled: list[str] = []

    @router.subscriber(name, max_workers=2, channel=Channel(prefetch_count=10))
    async def handler(msg: str) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(msg)
            raise

    async with raw_channel(url) as channel:
        async with router.broker as broker:
            await asyncio.gather(*(broker.publish(str(number), name) for number in range(20)))
            await asyncio.wait_for(started.wait(), DEADLINE)
        assert len(cancelled) == 2
        assert {(await get(channel, name)).body for _ in range(20)} == {str(number).encode() for number in range(20)}
        await channel.queue_delete(name)


@pytest.mark.usefixtures("reader")
async def test_acknowledgements_are_coalesced(proxy: Proxy, url: str) -> None:
    router = RabbitRouter(proxy.url)
    name = fresh()
    count, handled = 1000, 0

    @router.subscriber(name)
    async def handler(msg: int) -> None:
        nonlocal handled
        handled += 1
        if msg == 900:
            raise RejectMessage

    async with raw_channel(url) as channel:
        await channel.declare_queue(name, durable=True)
        for start in range(0, count, 100):
            await asyncio.gather(
                *(
                    channel.default_exchange.publish(aio_pika.Message(b"%d" % number), name)
                    for number in range(start, start + 100)
                )
            )
        async with router.broker:
            await until(lambda: handled >= count, what="handling")
            before = len(proxy.sent)
        queue = await channel.get_queue(name)
        assert await queue.get(fail=False) is None
        await queue.delete()
    # A frame of basic.ack has 21 bytes: with one for each message it would be 21,000, next to what connecting takes.
    assert 0 < before < 12_000


async def fill(url: str, name: str, count: int) -> None:
    async with raw_channel(url) as channel:
        await channel.declare_queue(name, durable=True)
        for start in range(0, count, 100):
            numbers = range(start, min(start + 100, count))
            await asyncio.gather(
                *(channel.default_exchange.publish(aio_pika.Message(b"%d" % number), name) for number in numbers)
            )


async def test_a_delivery_costs_no_task_where_our_stream_reads_it(url: str, reader: str) -> None:
    router = RabbitRouter(url)
    name = fresh()
    count, seen = 500, set[int]()
    tasks = 0

    @router.subscriber(name)
    async def handler(msg: int) -> None:
        seen.add(msg)

    def counted(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        nonlocal tasks
        tasks += 1
        return asyncio.Task(work, loop=loop, **options)

    await fill(url, name, count)
    loop = asyncio.get_running_loop()
    loop.set_task_factory(counted)
    async with router.broker:
        await until(lambda: len(seen) == count, what="handling")
        loop.set_task_factory(None)
    assert (tasks < count) if reader == "stream" and streams() is not None else (tasks > count)
    async with raw_channel(url) as channel:
        await channel.queue_delete(name)


@pytest.mark.usefixtures("reader")
async def test_bodies_of_any_size_arrive(url: str) -> None:
    router = RabbitRouter(url)
    name = fresh()
    seen: asyncio.Queue[bytes] = asyncio.Queue()
    bodies = [bytes([0xCE]) * size for size in (0, 1, 131_064, 131_065, 200_000, 1_000_000, 7)]

    @router.subscriber(RabbitQueue(name, auto_delete=True), max_workers=1)
    async def handler(message: RabbitMessage) -> None:
        seen.put_nowait(message.body)

    async with router.broker as broker:
        for body in bodies:
            await broker.publish(body, name)
        assert [await take(seen) for _ in bodies] == bodies


@pytest.mark.usefixtures("reader")
async def test_a_connection_that_carries_deliveries_only_stays(url: str) -> None:
    """RabbitMQ sends no heartbeat while it sends something else, and the client gives a silent connection up."""
    router = RabbitRouter(url, heartbeat=1)
    name = fresh()
    handled = 0

    @router.subscriber(RabbitQueue(name, auto_delete=True))
    async def handler(msg: bytes) -> None:
        nonlocal handled
        handled += 1

    async with router.broker as broker, raw_channel(url) as channel:
        ends, sent = time.monotonic() + 8, 0
        while time.monotonic() < ends:
            await channel.default_exchange.publish(aio_pika.Message(b"%d" % sent), name)
            sent += 1
        await until(lambda: handled == sent, what="handling")
        assert "restarted" not in broker.report.counts


async def test_undecodable_and_rejected_messages_reach_the_dead_letter_exchange(url: str) -> None:
    router = RabbitRouter(url)
    name, dead = fresh(), fresh("dead")
    done = asyncio.Event()
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}

    @router.subscriber(RabbitQueue(name, auto_delete=True, arguments=arguments))
    async def handler(item: Item) -> None:
        done.set()

    async with raw_channel(url) as channel:
        await channel.declare_queue(dead, auto_delete=True)
        async with router.broker as broker:
            await broker.publish(b"{no json", name, content_type="application/json")
            await broker.publish({"name": 5}, name)
            await broker.publish({"name": "tea"}, name)
            assert {(await get(channel, dead)).body, (await get(channel, dead)).body} == {b"{no json", b'{"name":5}'}
            await asyncio.wait_for(done.wait(), DEADLINE)
            assert broker.report.counts["rejected"] == 2


@pytest.mark.usefixtures("lost_sockets", "reader")
async def test_the_broker_comes_back_after_a_restart(rabbit_server: Server) -> None:
    router = RabbitRouter(rabbit_server.url)
    name = fresh()
    seen: asyncio.Queue[str] = asyncio.Queue()

    @router.subscriber(name)
    async def handler(msg: str) -> None:
        seen.put_nowait(msg)

    async with router.broker as broker:
        await broker.publish("before", name)
        assert await take(seen) == "before"
        await asyncio.to_thread(rabbit_server.restart, kill=True)
        subscription = broker.subscribers[0]
        await until(lambda: subscription.running, what="consuming again", seconds=5)
        await asyncio.wait_for(broker.publish("after", name), DEADLINE)
        last = await take(seen)
        if last == "before":  # RabbitMQ was killed before it had written that this one is acknowledged
            last = await take(seen)
        assert last == "after"
    async with raw_channel(rabbit_server.url) as channel:
        await channel.queue_delete(name)
