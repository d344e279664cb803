"""Conformance: from the handler's result to the wire."""

import logging
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import Body
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from typing_extensions import TypedDict

from ...errors import EncodeError, PublishError, SetupError
from ...message import StreamMessage
from ...options import Option
from ...response import Response
from ..reference import LocalPublisher, LocalRouter
from .harness import Harness, Inbox, needs

__all__ = ("ResultSuite",)


class Total(BaseModel):
    total: float


class ForeignOptions(TypedDict, total=False):
    """Options of one message of a broker that no router has."""

    colour: Annotated[str, Option("", "of the message")]


class ForeignResponse(Response):
    """A response of a broker that no router has."""

    declaration = ForeignOptions


class ForeignPublisher(LocalPublisher):
    """A publisher of a broker that no router has."""

    response_type = ForeignResponse


class ResultSuite:
    """Derive a class `TestResults` from it next to a fixture `harness`."""

    async def _answered(self, harness: Harness, handler: Any, body: Any = "hi", **options: Any) -> StreamMessage:
        """Run a handler under a publisher, and return the message that it published."""
        seen = Inbox()
        router = harness.router()
        source, target = harness.address(), harness.address()

        @harness.subscribe(router, target)
        async def sink(message: StreamMessage) -> None:
            seen.put(message)

        harness.subscribe(router, source, **options)(harness.publisher(router, target)(handler))
        async with harness.running(router) as broker:
            await harness.publish(broker, body, source)
            message: StreamMessage = await seen.take()
            return message

    async def test_a_result_goes_to_the_publisher(self, harness: Harness) -> None:
        async def handler(msg: str) -> Total:
            return Total(total=7)

        message = await self._answered(harness, handler)
        assert await message.decode() == {"total": 7.0}

    async def test_what_can_not_be_published_is_said_and_the_next_message_goes_on(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address)
        async def handler(msg: str) -> None:
            seen.put(msg)

        circular: list[Any] = []
        circular.append(circular)
        values: list[Any] = [object(), circular, {"a": object()}, "\ud800"]
        async with harness.running(router) as broker:
            for value in values:
                with pytest.raises(EncodeError, match=type(value).__name__):
                    await harness.publish(broker, value, address)
            if harness.features.headers:
                for headers in ({3: "x"}, {"x": object()}, {"x": {"a": 1}}, {"x": "\ud800"}, {"\ud800": "x"}, ["x"]):
                    with pytest.raises(PublishError, match="header"):
                        await harness.publish(broker, "bad", address, headers=headers)
            await harness.publish(broker, "good", address)
            assert await seen.take() == "good"

    async def test_a_response_of_http_is_not_taken_apart(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()
        publisher: Any = harness.publisher(router, address)

        @harness.subscribe(router, address)
        async def handler(msg: str) -> None:
            seen.put(msg)

        response = JSONResponse({"a": 1}, headers={"set-cookie": "session=1"})
        values = [response, PlainTextResponse("a"), {"a": [response, Decimal(1)]}, Response(response)]
        async with harness.running(router) as broker:
            for value in values:
                for publish in (publisher.publish, partial(harness.publish, broker, address=address)):
                    with pytest.raises(EncodeError, match="answers an HTTP request: return the value itself") as caught:
                        await publish(value)
                    assert "session" not in str(caught.value)
            await harness.publish(broker, "good", address)
            assert await seen.take() == "good"

        async def annotated(msg: str) -> JSONResponse:
            return response

        with pytest.raises(SetupError, match="its result is a JSONResponse"):
            harness.subscribe(harness.router(), address)(annotated)

    async def test_a_dict_a_text_and_bytes_are_encoded_as_what_they_are(self, harness: Harness) -> None:
        async def as_dict(msg: str) -> dict[str, int]:
            return {"a": 1}

        async def as_text(msg: str) -> str:
            return "text"

        async def as_bytes(msg: str) -> bytes:
            return b"\xff\x00"

        assert (await self._answered(harness, as_dict)).body == b'{"a":1}'
        text = await self._answered(harness, as_text)
        assert (text.body, text.content_type) == (b"text", "text/plain")
        assert (await self._answered(harness, as_bytes)).body == b"\xff\x00"

    async def test_the_return_annotation_is_the_response_model(self, harness: Harness) -> None:
        async def handler(msg: str) -> Total:
            return {"total": 1, "secret": 2}  # type: ignore[return-value]

        async def unchecked(msg: str) -> Any:
            return {"total": 1, "secret": 2}

        async def switched_off(msg: str) -> Total:
            return {"total": 1, "secret": 2}  # type: ignore[return-value]

        assert await (await self._answered(harness, handler)).decode() == {"total": 1.0}
        assert await (await self._answered(harness, unchecked)).decode() == {"total": 1, "secret": 2}
        assert await (await self._answered(harness, switched_off, response_model=None)).decode() == {
            "total": 1,
            "secret": 2,
        }

    async def test_a_response_carries_headers_and_ids(self, harness: Harness) -> None:
        needs(harness, "headers")

        async def handler(msg: str) -> Response:
            return Response({"a": 1}, headers={"x-kind": "k"}, correlation_id="c-1")

        message = await self._answered(harness, handler)
        assert (message.headers["X-Kind"], message.correlation_id) == ("k", "c-1")

    async def test_an_option_of_another_broker_is_refused(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()
        publisher: Any = harness.publisher(router, address)

        @harness.subscribe(router, address)
        async def handler(msg: str) -> None:
            seen.put(msg)

        async with harness.running(router) as broker:
            for wrong in (
                ForeignResponse("bad", options={"colour": "red"}),
                Response("bad", options={"colour": "red"}),
            ):
                for publish in (publisher.publish, partial(harness.publish, broker, address=address)):
                    with pytest.raises(SetupError, match="colour='red' has no effect at "):
                        await publish(wrong)
            await publisher.publish(ForeignResponse("what all have"))
            await harness.publish(broker, Response("good"), address)
            assert await seen.take_many(2) == ["what all have", "good"]

    async def test_publishers_of_several_brokers_take_what_they_know_of_a_response(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        other = LocalRouter()
        source, target = harness.address(), harness.address()

        @other.subscriber("colours")
        @harness.subscribe(router, target)
        async def sink(message: StreamMessage) -> None:
            seen.put(message)

        @harness.subscribe(router, source)
        @harness.publisher(router, target)
        @other.declare_publisher(ForeignPublisher(other, "colours", {}))
        async def handler(msg: str) -> Response:
            return ForeignResponse({"a": 1}, headers={"x-kind": "k"}, options={"colour": "red"})

        async with other.broker, harness.running(router) as broker:
            await harness.publish(broker, "hi", source)
            foreign, own = sorted(await seen.take_many(2), key=lambda message: message.address != "colours")
            assert foreign.raw_message.options == {"colour": "red"}
            for message in (foreign, own):
                assert await message.decode() == {"a": 1}
                assert not harness.features.headers or message.headers["x-kind"] == "k"

    async def test_the_correlation_id_goes_on(self, harness: Harness) -> None:
        needs(harness, "headers")
        seen = Inbox()
        router = harness.router()
        source, target = harness.address(), harness.address()

        @harness.subscribe(router, target)
        async def sink(message: StreamMessage) -> None:
            seen.put(message.correlation_id)

        @harness.subscribe(router, source)
        @harness.publisher(router, target)
        async def handler(msg: str) -> str:
            return msg

        async with harness.running(router) as broker:
            await harness.publish(broker, "hi", source, correlation_id="c-7")
            assert await seen.take() == "c-7"

    async def test_whoever_asks_is_answered(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        source, silent, answers = (harness.address() for _ in range(3))

        @harness.subscribe_replies(router, answers)
        async def sink(message: StreamMessage) -> None:
            seen.put((await message.decode(), message.correlation_id))

        @harness.subscribe(router, source)
        async def handler(msg: str) -> dict[str, str] | None:
            return {"got": msg} if msg == "a" else None

        @harness.subscribe(router, silent, no_reply=True)
        async def quiet(msg: str) -> str:
            return msg

        async with harness.running(router) as broker:
            await harness.publish(broker, "n", silent, reply_to=answers, correlation_id="c-0")
            await harness.publish(broker, "a", source, reply_to=answers, correlation_id="c-1")
            assert await seen.take() == ({"got": "a"}, "c-1")
            await harness.publish(broker, "b", source, reply_to=answers, correlation_id="c-2")
            assert await seen.take() == (None, "c-2")

    async def test_none_is_not_published_and_a_response_of_none_is(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        source, target = harness.address(), harness.address()

        @harness.subscribe(router, target)
        async def sink(body: Annotated[dict[str, Any] | None, Body()] = None) -> None:
            seen.put(body)

        @harness.subscribe(router, source)
        @harness.publisher(router, target)
        async def handler(msg: str) -> Any:
            return {"nothing": None, "empty": Response(None), "value": {"a": 1}}[msg]

        async with harness.running(router) as broker:
            for body in ("nothing", "empty", "value"):
                await harness.publish(broker, body, source)
            assert await seen.take_many(2) == [None, {"a": 1}]

    async def test_none_is_no_result_whatever_the_response_model_says(self, harness: Harness) -> None:
        seen, ran = Inbox(), Inbox()
        router = harness.router()
        source, target, answers = (harness.address() for _ in range(3))

        @harness.subscribe(router, target)
        async def sink(msg: Any) -> None:
            seen.put(("published", msg))

        @harness.subscribe_replies(router, answers)
        async def answered(message: StreamMessage) -> None:
            seen.put(("answered", message.body, await message.decode()))

        @harness.subscribe(router, source)
        @harness.publisher(router, target)
        async def handler(msg: str) -> Total:
            ran.put(msg)
            return None if msg != "value" else Total(total=1)  # type: ignore[return-value]

        async with harness.running(router) as broker:
            await harness.publish(broker, "nothing", source)
            await harness.publish(broker, "asked", source, reply_to=answers, correlation_id="c-1")
            assert await seen.take() == ("answered", b"", None)
            await harness.publish(broker, "value", source)
            assert await seen.take() == ("published", {"total": 1.0})
        assert sorted(ran.all) == ["asked", "nothing", "value"]
        assert "failed" not in router.broker.report.counts

    async def test_an_answer_that_is_refused_is_one_warning_and_no_second_run(
        self, harness: Harness, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = Inbox()
        router = harness.router()
        source, answers = harness.address(), harness.address()

        @harness.subscribe(router, source, replies=["nobody-*"])
        async def handler(msg: str) -> str:
            seen.put(msg)
            return msg

        with caplog.at_level(logging.WARNING):
            async with harness.running(router) as broker:
                for body in ("a", "b"):
                    await harness.publish(broker, body, source, reply_to=answers, correlation_id="c-1")
                    assert await seen.take() == body
        assert seen.all == ["a", "b"]
        assert router.broker.report.counts == {"replies_refused": 2}
        assert sum("no answer was sent" in record.getMessage() for record in caplog.records) == 2

    async def test_publishers_and_subscribers_stack_in_any_number(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        one, two, left, right = (harness.address() for _ in range(4))

        @harness.subscribe(router, left)
        async def on_left(msg: str) -> None:
            seen.put(("left", msg))

        @harness.subscribe(router, right)
        async def on_right(msg: str) -> None:
            seen.put(("right", msg))

        @harness.subscribe(router, one)
        @harness.subscribe(router, two)
        @harness.publisher(router, left)
        @harness.publisher(router, right)
        async def handler(msg: str) -> str:
            return msg.upper()

        async with harness.running(router) as broker:
            await harness.publish(broker, "a", one)
            await harness.publish(broker, "b", two)
            got = await seen.take_many(4)
        assert sorted(got) == [("left", "A"), ("left", "B"), ("right", "A"), ("right", "B")]

    async def test_a_publisher_is_an_object_too(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()
        publisher: Any = harness.publisher(router, address)

        @harness.subscribe(router, address)
        async def sink(msg: str) -> None:
            seen.put(msg)

        async with harness.running(router):
            await publisher.publish("hi")
            assert await seen.take() == "hi"

    async def test_the_handler_stays_the_function(self, harness: Harness) -> None:
        router = harness.router()

        @harness.subscribe(router, harness.address())
        @harness.publisher(router, harness.address())
        async def handler(order: int, *, factor: int = 2) -> int:
            """Double."""
            return order * factor

        assert await handler(2, factor=3) == 6
        assert (handler.__name__, handler.__doc__) == ("handler", "Double.")

    async def test_a_wrong_declaration_fails_at_decoration(self, harness: Harness) -> None:
        router = harness.router()

        async def variadic(*orders: int) -> None: ...

        with pytest.raises(SetupError, match=r"variadic.*orders"):
            harness.subscribe(router, harness.address())(variadic)

    async def test_an_unknown_option_is_refused_by_name(self, harness: Harness) -> None:
        router = harness.router()
        with pytest.raises(SetupError, match="ack_policy"):
            harness.subscribe(router, harness.address(), ack_polcy=None)
