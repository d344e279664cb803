"""Exchanges, bindings and queues in memory route as RabbitMQ does."""

from typing import Annotated, Any

import aio_pika
import pytest
from fastapi import Path
from fastapi_stream_rabbit import (
    ExchangeType,
    RabbitExchange,
    RabbitMessage,
    RabbitQueue,
    RabbitResponse,
    RabbitRouter,
    TestRabbitBroker,
)


class Sinks:
    """Subscribers that note who got what."""

    def __init__(self) -> None:
        self.router = RabbitRouter()
        self.seen: list[str] = []

    def add(self, name: str, queue: RabbitQueue | str, exchange: RabbitExchange | str | None = None) -> None:
        @self.router.subscriber(queue, exchange)
        async def sink(body: bytes) -> None:
            self.seen.append(name)

    async def publish(self, **options: Any) -> list[str]:
        """Publish one message and return who got it."""
        self.seen = []
        async with TestRabbitBroker(self.router.broker) as broker:
            await broker.publish(b"", **options)
        return sorted(self.seen)


@pytest.mark.parametrize(
    ("key", "takes", "refuses"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "a.c", ""]),
        ("a.*", ["a.b", "a."], ["a", "a.b.c"]),
        ("*.b", ["a.b", ".b"], ["b", "x.a.b"]),
        ("#", ["", "a", "a.b.c"], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["b", "ab"]),
        ("#.b", ["b", "a.b", "x.a.b"], ["b.a", "ab"]),
        ("a.#.b", ["a.b", "a.x.b", "a.x.y.b"], ["a", "b", "a.x"]),
        ("*.#", ["a", "a.b"], [""]),
        ("*", ["a"], ["", "a.b"]),
        ("#.*", ["a", "a.b"], [""]),
    ],
)
async def test_a_topic_exchange_matches_words(key: str, takes: list[str], refuses: list[str]) -> None:
    exchange = RabbitExchange("topics", type=ExchangeType.TOPIC)
    sinks = Sinks()
    sinks.add("it", RabbitQueue("q", routing_key=key), exchange)
    for routing_key in takes:
        assert await sinks.publish(exchange=exchange, routing_key=routing_key) == ["it"], routing_key
    for routing_key in refuses:
        assert await sinks.publish(exchange=exchange, routing_key=routing_key) == [], routing_key


async def test_a_direct_exchange_compares_the_key_and_a_fanout_does_not() -> None:
    direct, fanout = RabbitExchange("direct"), RabbitExchange("fanout", type=ExchangeType.FANOUT)
    sinks = Sinks()
    sinks.add("by name", "one", direct)
    sinks.add("by key", RabbitQueue("two", routing_key="key"), direct)
    sinks.add("first", "three", fanout)
    sinks.add("second", "four", fanout)
    assert await sinks.publish(exchange="direct", routing_key="key") == ["by key"]
    assert await sinks.publish(exchange=direct, queue="one") == ["by name"]
    assert await sinks.publish(exchange="direct", queue="two") == []
    assert await sinks.publish(exchange=fanout) == ["first", "second"]
    assert await sinks.publish(queue="four") == ["second"]
    assert await sinks.publish(queue="nowhere") == []


async def test_a_headers_exchange_compares_headers() -> None:
    exchange = RabbitExchange("headers", type=ExchangeType.HEADERS)
    sinks = Sinks()
    sinks.add("all", RabbitQueue("one", bind_arguments={"a": "1", "b": "2"}), exchange)
    sinks.add("any", RabbitQueue("two", bind_arguments={"x-match": "any", "a": "1", "c": "3"}), exchange)
    assert await sinks.publish(exchange=exchange, headers={"a": "1", "b": "2"}) == ["all", "any"]
    assert await sinks.publish(exchange=exchange, headers={"c": "3"}) == ["any"]
    assert await sinks.publish(exchange=exchange, headers={"b": "2"}) == []


async def test_a_headers_exchange_compares_numbers_as_numbers() -> None:
    exchange = RabbitExchange("headers", type=ExchangeType.HEADERS)
    sinks = Sinks()
    sinks.add("numbers", RabbitQueue("one", bind_arguments={"n": 5, "urgent": True}), exchange)
    assert await sinks.publish(exchange=exchange, headers={"n": 5, "urgent": True}) == ["numbers"]
    assert await sinks.publish(exchange=exchange, headers={"n": "5", "urgent": True}) == []


async def test_an_exchange_passes_messages_on_and_a_queue_gets_each_once() -> None:
    outer = RabbitExchange("outer", type=ExchangeType.TOPIC)
    inner = RabbitExchange("inner", type=ExchangeType.FANOUT, bind_to=outer, routing_key="deep.#")
    sinks = Sinks()
    sinks.add("inner", "one", inner)
    sinks.add("both", RabbitQueue("two", routing_key="#"), outer)
    sinks.router.subscriber("two", inner)
    assert await sinks.publish(exchange=outer, routing_key="deep.sea") == ["both", "inner"]
    assert await sinks.publish(exchange=outer, routing_key="flat") == ["both"]


async def test_consumers_of_one_queue_take_turns() -> None:
    sinks = Sinks()
    for name in ("one", "two", "three"):
        sinks.add(name, "shared")
    got: list[str] = []
    async with TestRabbitBroker(sinks.router.broker) as broker:
        for _ in range(6):
            await broker.publish(b"", "shared")
        got = sinks.seen
    assert sorted(got) == ["one", "one", "three", "three", "two", "two"]


async def test_a_message_in_memory_is_what_the_client_would_give() -> None:
    router = RabbitRouter(app_id="shop")
    exchange = RabbitExchange("logs", type=ExchangeType.TOPIC)
    seen: list[RabbitMessage] = []

    @router.subscriber(RabbitQueue("errors", routing_key="logs.{level}"), exchange)
    async def handler(msg: str, level: Annotated[str, Path()], message: RabbitMessage) -> None:
        seen.append(message)
        assert level == "error"

    async with TestRabbitBroker(router.broker) as broker:
        answer = await broker.publish(
            "hi",
            exchange=exchange,
            routing_key="logs.error",
            headers={"many": ["a", "b"], "bin": b"\xff"},
            message_id="m-1",
            priority=5,
            expiration=1.5,
            persist=False,
        )
        assert type(answer).__name__ == "Ack"
        published = broker.published("logs.error")
    message = seen[0]
    assert (message.queue, message.exchange, message.routing_key) == ("errors", "logs", "logs.error")
    assert message.headers.getlist("many") == ["a", "b"]
    assert message.headers["bin"] == b"\xff"
    assert (message.message_id, message.content_type, message.reply_to) == ("m-1", "text/plain", None)
    raw = message.raw_message
    assert isinstance(raw, aio_pika.IncomingMessage)
    assert (raw.body, raw.priority, raw.expiration, raw.app_id) == (b"hi", 5, 1.5, "shop")
    assert raw.delivery_mode is aio_pika.DeliveryMode.NOT_PERSISTENT
    assert [await one.decode() for one in published] == ["hi"]
    with pytest.raises(TypeError):
        await raw.ack()


async def test_answers_and_results_go_where_they_should() -> None:
    router = RabbitRouter(replies="any")
    exchange = RabbitExchange("results")
    answers: list[Any] = []
    results: list[Any] = []  # which of the two subscriptions is first depends on who needs a turn of the event loop

    @router.subscriber("questions")
    @router.publisher("key", exchange, headers={"from": "publisher"}, persist=False, priority=1)
    async def handler(msg: str) -> RabbitResponse:
        return RabbitResponse(msg.upper(), headers={"x": "y"}, priority=9, message_type="made")

    @router.subscriber("answers")
    async def on_answer(msg: str, message: RabbitMessage) -> None:
        answers.append((msg, message.correlation_id))

    @router.subscriber(RabbitQueue("results", routing_key="key"), exchange)
    async def on_result(message: RabbitMessage) -> None:
        raw = message.raw_message
        results.append((await message.decode(), raw.priority, raw.type, raw.delivery_mode.value, dict(raw.headers)))

    async with TestRabbitBroker(router.broker) as broker:
        await broker.publish("hi", "questions", reply_to="answers", correlation_id="c-1")
        assert answers == [("HI", "c-1")]
        assert results == [("HI", 9, "made", 1, {"from": "publisher", "x": "y"})]
        answers.clear()
        results.clear()
        await broker.publish("again", "questions", reply_to="key|results")
        assert [one[0] for one in results] == ["AGAIN", "AGAIN"]
        assert not answers


async def test_a_publisher_publishes_with_its_options_and_over_them() -> None:
    router = RabbitRouter()
    publisher = router.publisher("one", persist=False, reply_to="back", headers={"a": "1"}, content_type="text/x")
    async with TestRabbitBroker(router.broker) as broker:
        await publisher.publish("hi")
        await publisher.publish("hi", "two", persist=True, headers={"a": "2"}, content_type="text/y", message_id="m")
        (first,) = broker.published("one")
        (second,) = broker.published("two")
    assert (first.reply_to, first.content_type, first.headers["a"]) == ("back", "text/x", "1")
    assert first.raw_message.delivery_mode.value == 1
    assert (second.reply_to, second.content_type, second.headers["a"]) == ("back", "text/y", "2")
    assert (second.raw_message.delivery_mode.value, second.message_id) == (2, "m")
