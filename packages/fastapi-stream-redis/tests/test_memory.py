"""Routing in memory is Redis' own."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi_stream_redis import (
    ListSub,
    PubSub,
    RedisBroker,
    RedisChannelMessage,
    RedisListMessage,
    RedisMessage,
    RedisResponse,
    RedisStreamMessage,
    SetupError,
    StreamSub,
    TestRedisBroker,
)


@pytest.fixture
def broker() -> RedisBroker:
    return RedisBroker(logger=None)


def collect(broker: RedisBroker, seen: list[Any], label: str, place: Any = None, **options: Any) -> None:
    @broker.subscriber(place, **options)
    async def handle(body: Any, message: RedisMessage) -> None:
        seen.append((label, body))


async def test_channels_and_patterns_fan_out(broker: RedisBroker) -> None:
    seen: list[Any] = []
    collect(broker, seen, "one", "a.b")
    collect(broker, seen, "two", "a.b")
    collect(broker, seen, "template", "a.{x}")
    collect(broker, seen, "glob", PubSub("a.?", pattern=True))
    collect(broker, seen, "other", "b")
    async with TestRedisBroker(broker):
        assert await broker.publish(1, "a.b") == 4
        assert await broker.publish(2, "nobody") == 0
        assert await broker.publish(3, "a.b.c") == 0
    assert sorted(seen) == [("glob", 1), ("one", 1), ("template", 1), ("two", 1)]


async def test_a_list_is_shared(broker: RedisBroker) -> None:
    seen: list[Any] = []
    collect(broker, seen, "one", list="jobs")
    collect(broker, seen, "two", list="jobs")
    async with TestRedisBroker(broker):
        for number in range(4):
            assert await broker.publish(number, list="jobs") == 1
    assert sorted(body for _, body in seen) == [0, 1, 2, 3]
    assert {label for label, _ in seen} == {"one", "two"}


async def test_a_stream_is_copied_and_a_group_shares(broker: RedisBroker) -> None:
    seen: list[Any] = []
    collect(broker, seen, "alone", stream="jobs")
    collect(broker, seen, "alone", stream="jobs")
    collect(broker, seen, "g", stream=StreamSub("jobs", group="g", consumer="1"))
    collect(broker, seen, "g", stream=StreamSub("jobs", group="g", consumer="2"))
    collect(broker, seen, "h", stream=StreamSub("jobs", group="h", consumer="1"))
    async with TestRedisBroker(broker):
        entry = await broker.publish(1, stream="jobs")
    assert sorted(seen) == [("alone", 1), ("alone", 1), ("g", 1), ("h", 1)]
    assert isinstance(entry, bytes)


async def test_the_kinds_are_apart(broker: RedisBroker) -> None:
    seen: list[Any] = []
    collect(broker, seen, "channel", "same")
    collect(broker, seen, "list", list="same")
    collect(broker, seen, "stream", stream="same")
    async with TestRedisBroker(broker):
        await broker.publish(1, "same")
        await broker.publish(2, list="same")
        await broker.publish(3, stream="same")
        assert len(broker.published("same")) == 3
    assert seen == [("channel", 1), ("list", 2), ("stream", 3)]


async def test_messages_look_like_the_real_ones(broker: RedisBroker) -> None:
    seen: list[RedisMessage] = []

    @broker.subscriber(stream=StreamSub("s", group="g", consumer="one"))
    async def entry(message: RedisStreamMessage) -> None:
        seen.append(message)

    @broker.subscriber("c")
    async def channel(message: RedisChannelMessage) -> None:
        seen.append(message)

    @broker.subscriber("p.{x}")
    async def pattern(message: RedisChannelMessage) -> None:
        seen.append(message)

    @broker.subscriber(list="l")
    async def item(message: RedisListMessage) -> None:
        seen.append(message)

    async with TestRedisBroker(broker):
        for place in ({"channel": "c"}, {"channel": "p.1"}, {"list": "l"}, {"stream": "s"}):
            await broker.publish("x", **place)  # type: ignore[arg-type]
    kinds = {one.raw_message["type"]: one for one in seen}
    assert kinds["message"].raw_message["channel"] == "c"
    assert kinds["pmessage"].raw_message["pattern"] == "p.*"
    assert kinds["pmessage"].path == {"x": "1"}
    assert kinds["list"].address == "l"
    stream = kinds["stream"]
    assert isinstance(stream, RedisStreamMessage)
    assert (stream.group, stream.consumer) == ("g", "one")
    assert stream.raw_message["message_ids"] == [stream.entry_id.encode()]
    assert stream.raw_message["data"] == {b"__data__": stream.data}


async def test_a_batch_of_a_list(broker: RedisBroker) -> None:
    seen: list[list[int]] = []

    @broker.subscriber(list=ListSub("jobs", batch=True, max_records=10))
    async def handle(bodies: list[int]) -> None:
        seen.append(bodies)

    async with TestRedisBroker(broker):
        await broker.publish(1, list="jobs")
    assert seen == [[1]]


async def test_a_channel_gives_nothing_again(broker: RedisBroker) -> None:
    seen: list[int] = []

    @broker.subscriber("c")
    async def handle(body: int) -> None:
        seen.append(body)
        raise RuntimeError("once is enough")

    async with TestRedisBroker(broker):
        with pytest.raises(RuntimeError):
            await broker.publish(1, "c")
    assert seen == [1]


async def test_results_go_where_the_publisher_says(broker: RedisBroker) -> None:
    @broker.subscriber("in")
    @broker.publisher(list="out")
    @broker.publisher(stream=StreamSub("log", maxlen=3))
    @broker.publisher("heard", headers={"by": "me"})
    async def handle(body: int) -> RedisResponse:
        return RedisResponse(body + 1, headers={"x": "y"}, maxlen=5)

    heard: list[Any] = []

    @broker.subscriber("heard")
    async def listen(body: int, message: RedisMessage) -> None:
        heard.append((body, dict(message.headers)))

    async with TestRedisBroker(broker):
        await broker.publish(1, "in", correlation_id="c1")
        (item,), (entry,) = broker.published("out"), broker.published("log")
    assert isinstance(item, RedisListMessage)
    assert isinstance(entry, RedisStreamMessage)
    ((body, headers),) = heard
    assert body == 2
    assert headers == {"correlation_id": "c1", "content-type": "application/json", "by": "me", "x": "y"}


async def test_a_length_is_for_streams(broker: RedisBroker) -> None:
    publisher = broker.publisher("heard")

    @broker.subscriber("in")
    @publisher
    async def nowhere(body: int) -> RedisResponse:
        return RedisResponse(body, maxlen=5)

    @broker.subscriber("both")
    @broker.publisher("heard")
    @broker.publisher(stream="log")
    async def somewhere(body: int) -> RedisResponse:
        return RedisResponse(body, maxlen=5)

    @broker.subscriber("asked")
    async def answered(body: int) -> RedisResponse:
        return RedisResponse(body, maxlen=5)

    response = RedisResponse(2, maxlen=5, headers={"a": "1"})
    async with TestRedisBroker(broker):
        with pytest.raises(SetupError, match="maxlen=5 has no effect at 'heard' or an answer"):
            await broker.publish(1, "in")
        with pytest.raises(SetupError, match="maxlen=5 has no effect at an answer"):
            await broker.publish(1, "asked", reply_to="answers")
        for publish in (broker.publish, publisher.publish):
            with pytest.raises(SetupError, match="'heard' is a channel"):
                await publish(response, "heard")
            with pytest.raises(SetupError, match="'jobs' is a list"):
                await publish(response, list="jobs")
        with pytest.raises(SetupError, match="'heard' is a channel"):
            await publisher.publish(response)
        assert not broker.published("heard")
        assert not broker.published("answers")
        await broker.publish(1, "both")
        await broker.publish(response, stream="log")
        await publisher.publish(response, stream="log")
        assert [message.headers.get("a") for message in broker.published("log")] == [None, "1", "1"]
        assert len(broker.published("heard")) == 1


async def test_an_answer_goes_to_a_channel(broker: RedisBroker) -> None:
    @broker.subscriber(list="jobs")
    async def handle(body: int) -> int:
        return body * 2

    async with TestRedisBroker(broker):
        await broker.publish(4, list="jobs", reply_to="answers", correlation_id="c1")
        (answer,) = broker.published("answers")
    assert isinstance(answer, RedisChannelMessage)
    assert (await answer.decode(), answer.correlation_id) == (8, "c1")


async def test_a_publisher_as_an_object(broker: RedisBroker) -> None:
    publisher = broker.publisher(list="out", headers={"a": "1"}, reply_to="back")
    async with TestRedisBroker(broker):
        await publisher.publish("x", headers={"b": "2"})
        await publisher.publish("y", stream="other", maxlen=7)
        (one,), (other,) = broker.published("out"), broker.published("other")
    assert (one.headers["a"], one.headers["b"], one.reply_to) == ("1", "2", "back")
    assert isinstance(other, RedisStreamMessage)
