"""The test broker routes as a NATS server does."""

from typing import Any

import pytest
from fastapi_stream_nats import (
    AckPolicy,
    ConsumerConfig,
    JStream,
    NatsBroker,
    NatsMessage,
    NatsResponse,
    PublishError,
    PullSub,
    RejectMessage,
    TestNatsBroker,
)


@pytest.mark.parametrize(
    ("pattern", "taken", "refused"),
    [
        ("a.b", ["a.b"], ["a", "a.c", "a.b.c"]),
        ("a.*", ["a.b", "a.c"], ["a", "a.b.c", "b.a"]),
        ("*.b", ["a.b"], ["b", "a.b.b"]),
        ("a.>", ["a.b", "a.b.c"], ["a", "b.a"]),
        (">", ["a", "a.b.c"], []),
        ("a.{name}.c", ["a.b.c"], ["a.b", "a.b.c.d"]),
    ],
)
async def test_wildcards(pattern: str, taken: list[str], refused: list[str]) -> None:
    broker = NatsBroker()
    got: list[str] = []

    @broker.subscriber(pattern)
    async def handler(message: NatsMessage) -> None:
        got.append(message.address)

    async with TestNatsBroker(broker):
        for subject in taken + refused:
            await broker.publish("hi", subject)
    assert got == taken


async def test_parameters_and_wildcards_in_one_subject() -> None:
    broker = NatsBroker()
    got: list[Any] = []

    @broker.subscriber("logs.{level}.*.>")
    async def handler(level: str, message: NatsMessage) -> None:
        got.append((level, message.path))

    async with TestNatsBroker(broker):
        await broker.publish("hi", "logs.error.a.b.c")
    assert got == [("error", {"level": "error"})]


async def test_one_member_of_a_queue_group_and_everybody_else() -> None:
    broker = NatsBroker()
    got: list[str] = []

    def noting(name: str) -> Any:
        async def handler(msg: str) -> None:
            got.append(name)

        return handler

    broker.subscriber("a", "group")(noting("first"))
    broker.subscriber("*", "group")(noting("second"))
    broker.subscriber("a")(noting("alone"))
    async with TestNatsBroker(broker):
        for _ in range(4):
            await broker.publish("hi", "a")
    assert sorted(got) == ["alone"] * 4 + ["first"] * 2 + ["second"] * 2


async def test_a_stream_stores_what_its_subjects_match_however_it_was_published() -> None:
    broker = NatsBroker()
    got: list[Any] = []

    @broker.subscriber("orders.*", stream="shop", durable="a")
    async def first(msg: str, message: NatsMessage) -> None:
        got.append(("a", message.stream, message.consumer, message.sequence, message.position, message.reply_to))

    @broker.subscriber("orders.*", stream="shop", durable="a", pull_sub=True)
    async def same(msg: str) -> None:
        got.append(("a again",))

    @broker.subscriber("orders.1", stream="shop", pull_sub=True)
    async def own(msg: str) -> None:
        got.append(("own",))

    async with TestNatsBroker(broker):
        assert await broker.publish("hi", "orders.1", reply_to="answers") is None
        ack = await broker.publish("hi", "orders.2", stream="shop")
        assert (ack.stream, ack.seq) == ("shop", 2)
    assert got == [("a", "shop", "a", 1, "shop:1", "answers"), ("own",), ("a again",)]


async def test_a_subject_without_a_stream_is_an_error() -> None:
    broker = NatsBroker()

    @broker.subscriber("orders", stream=JStream("shop", subjects=["bills.*"]))
    async def handler(msg: str) -> None: ...

    async with TestNatsBroker(broker):
        await broker.publish("hi", "bills.1", stream="shop")
        with pytest.raises(PublishError, match="'other'"):
            await broker.publish("hi", "orders", stream="other")
        with pytest.raises(PublishError, match="no stream takes this subject"):
            await broker.publish("hi", "elsewhere", stream="shop")


async def test_the_answer_goes_where_it_is_expected() -> None:
    broker = NatsBroker()

    @broker.subscriber("questions")
    async def answer(msg: str) -> NatsResponse:
        return NatsResponse(f"re: {msg}", headers={"x": "y"})

    @broker.subscriber("stored", stream="s")
    async def stored(msg: str) -> str:
        return f"stored: {msg}"

    async with TestNatsBroker(broker):
        await broker.publish("hi", "questions", reply_to="inbox.1", correlation_id="c")
        (message,) = broker.published("inbox.1")
        assert (message.body, message.headers["x"], message.correlation_id) == (b"re: hi", "y", "c")
        await broker.publish("hi", "stored", reply_to="inbox.2", stream="s")
        (message,) = broker.published("inbox.2")
        assert message.body == b"stored: hi"
        (question,) = broker.published("questions")
        assert isinstance(question, NatsMessage)
        assert (question.reply_to, question.raw_message.reply) == ("inbox.1", "inbox.1")
        assert "reply_to" not in question.headers


async def test_core_delivers_at_most_once_and_a_stream_again() -> None:
    broker = NatsBroker()
    got: list[Any] = []

    @broker.subscriber("core")
    async def once(msg: str) -> None:
        got.append("core")
        raise ValueError

    @broker.subscriber("stored", stream="s", config=ConsumerConfig(max_deliver=2))
    async def again(msg: str, message: NatsMessage) -> None:
        got.append(message.attempt)
        raise ValueError

    @broker.subscriber("rejected", stream="s")
    async def rejected(msg: str) -> None:
        got.append("rejected")
        raise RejectMessage

    async with TestNatsBroker(broker, raise_errors=False):
        await broker.publish("hi", "core")
        await broker.publish("hi", "stored")
        await broker.publish("hi", "rejected")
    assert got == ["core", 1, 2, "rejected"]


async def test_a_batch_is_a_list() -> None:
    broker = NatsBroker()
    got: list[Any] = []

    @broker.subscriber("a", stream="s", pull_sub=PullSub(10, batch=True), ack_policy=AckPolicy.ACK)
    async def handler(msgs: list[int]) -> None:
        got.append(msgs)

    async with TestNatsBroker(broker):
        await broker.publish(1, "a")
    assert got == [[1]]


async def test_headers_are_read_as_they_are() -> None:
    broker = NatsBroker()
    got: list[NatsMessage] = []

    @broker.subscriber("a")
    async def handler(message: NatsMessage) -> None:
        got.append(message)

    async with TestNatsBroker(broker):
        await broker.publish("hi", "a", headers={"Tag": ["a", "b"], "bin": b"\xff", "wide": "ü", "line": "a\r\nb"})
        with pytest.raises(PublishError, match="'a b' is no header name"):
            await broker.publish("hi", "a", headers={"a b": "c"})
    (message,) = got
    assert message.headers.getlist("tag") == ["a", "b"]
    assert (message.headers["bin"], message.headers["wide"], message.headers["line"]) == (b"\xff", "ü", "a  b")
    assert message.raw_message.headers is not None
    assert message.raw_message.headers["Tag"] == "b"
    assert message.raw_message.data == b"hi"
