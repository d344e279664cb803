"""Conformance: from the message to the arguments (every row of the binding table and its finer points)."""

import logging
from typing import Annotated, Any, NamedTuple

import pytest
from fastapi import BackgroundTasks, Body, Depends, Header, Path, Request
from pydantic import BaseModel

from ...context import Context, Logger
from ...errors import SetupError
from .batches import BatchSuite
from .dependencies import DependencySuite
from .harness import Harness, Inbox, deliver, needs
from .injection import InjectionSuite

__all__ = ("BindingSuite",)


class Order(BaseModel):
    id: int
    name: str = "none"


class Point(NamedTuple):
    x: int
    y: int


class Line(BaseModel):
    id: int


def untyped(harness: Harness) -> Any:
    """Return a router that any declaration is tried on."""
    return harness.router()


class BindingSuite(BatchSuite, DependencySuite, InjectionSuite):
    """Derive a class `TestBinding` from it next to a fixture `harness`."""

    # The payload.

    async def test_a_model_takes_the_whole_body(self, harness: Harness) -> None:
        seen = Inbox()

        async def handler(order: Order) -> None:
            seen.put(order)

        assert await deliver(harness, handler, {"id": "1"}, seen) == Order(id=1)

    async def test_a_sync_handler_works_too(self, harness: Harness) -> None:
        seen = Inbox()

        def handler(order: Order, place: Annotated[str, Context("message.address")], tasks: BackgroundTasks) -> None:
            tasks.add_task(tell, (order.id, bool(place)))

        async def tell(value: tuple[int, bool]) -> None:
            seen.put(value)

        assert await deliver(harness, handler, {"id": 3}, seen) == (3, True)

    async def test_a_dict_and_a_list_take_the_whole_body(self, harness: Harness) -> None:
        seen = Inbox()

        async def as_dict(body: dict[str, int]) -> None:
            seen.put(body)

        async def as_list(body: list[int]) -> None:
            seen.put(body)

        assert await deliver(harness, as_dict, {"a": 1}, seen) == {"a": 1}
        assert await deliver(harness, as_list, [1, 2], seen) == [1, 2]

    async def test_scalars_take_the_whole_body(self, harness: Harness) -> None:
        seen = Inbox()

        async def text(msg: str) -> None:
            seen.put(msg)

        async def number(msg: int) -> None:
            seen.put(msg)

        async def raw(msg: bytes) -> None:
            seen.put(msg)

        assert await deliver(harness, text, "hi", seen) == "hi"
        assert await deliver(harness, number, 5, seen) == 5
        assert await deliver(harness, raw, b"\xff\x00", seen) == b"\xff\x00"
        assert await deliver(harness, raw, {"a": 1}, seen) == b'{"a":1}'

    async def test_an_untyped_parameter_takes_its_key_or_everything(self, harness: Harness) -> None:
        seen = Inbox()

        async def untyped(msg) -> None:  # type: ignore[no-untyped-def]
            seen.put(msg)

        async def anything(msg: Any) -> None:
            seen.put(msg)

        for handler in (untyped, anything):
            assert await deliver(harness, handler, {"msg": 1}, seen) == 1
            assert await deliver(harness, handler, {"a": 1}, seen) == {"a": 1}
            assert await deliver(harness, handler, [1, 2], seen) == [1, 2]

    async def test_scalars_are_taken_by_key(self, harness: Harness) -> None:
        seen = Inbox()

        async def handler(x: int, y: str = "d") -> None:
            seen.put((x, y))

        assert await deliver(harness, handler, {"x": 1}, seen) == (1, "d")
        assert await deliver(harness, handler, {"x": 1, "y": "e"}, seen) == (1, "e")

    async def test_two_models_and_an_embedded_one_are_taken_by_key(self, harness: Harness) -> None:
        seen = Inbox()

        async def two(a: Order, b: Line) -> None:
            seen.put((a, b))

        async def embedded(a: Annotated[Order, Body(embed=True)]) -> None:
            seen.put(a)

        assert await deliver(harness, two, {"a": {"id": 1}, "b": {"id": 2}}, seen) == (Order(id=1), Line(id=2))
        assert await deliver(harness, embedded, {"a": {"id": 1}}, seen) == Order(id=1)

    async def test_a_scalar_by_key_next_to_a_whole_model(self, harness: Harness) -> None:
        seen = Inbox()

        async def handler(x: int, a: Order) -> None:
            seen.put((x, a))

        assert await deliver(harness, handler, {"x": 1, "id": 2}, seen) == (1, Order(id=2))

    async def test_a_scalar_and_a_list_are_both_taken_by_key(self, harness: Harness) -> None:
        seen = Inbox()

        async def handler(x: int, items: list[int]) -> None:
            seen.put((x, items))

        assert await deliver(harness, handler, {"x": 1, "items": [1]}, seen) == (1, [1])

    async def test_a_null_body_is_none(self, harness: Harness) -> None:
        seen = Inbox()

        async def handler(order: Order | None) -> None:
            seen.put(order)

        assert await deliver(harness, handler, None, seen) is None

    async def test_empty_text_is_text_and_null_is_none(self, harness: Harness) -> None:
        seen = Inbox()

        async def handler(msg: str) -> None:
            seen.put(msg)

        async def optional(msg: str | None) -> None:
            seen.put(msg)

        assert await deliver(harness, handler, "", seen) == ""
        assert await deliver(harness, optional, "", seen) == ""
        assert await deliver(harness, optional, None, seen) is None

    async def test_json_by_another_name_is_json_where_no_text_is_taken(self, harness: Harness) -> None:
        needs(harness, "headers")
        seen = Inbox()
        router = harness.router()
        orders, texts, raws = harness.address(), harness.address(), harness.address()

        @harness.subscribe(router, orders)
        async def order(order: Order) -> None:
            seen.put(order)

        @harness.subscribe(router, texts)
        async def text(msg: str) -> None:
            seen.put(msg)

        @harness.subscribe(router, raws)
        async def raw(msg: bytes) -> None:
            seen.put(msg)

        body = b'{"id": 1}'
        async with harness.running(router) as broker:
            for kind in ("application/octet-stream", "text/json", "text/plain", "TEXT/PLAIN; charset=utf-8"):
                for address, expected in ((orders, Order(id=1)), (texts, body.decode()), (raws, body)):
                    await harness.publish_raw(broker, body, {"content-type": kind}, address)
                    assert await seen.take() == expected

    async def test_a_sequence_without_a_type_of_its_items_is_the_body(self, harness: Harness) -> None:
        seen = Inbox()

        async def as_list(body: list) -> None:  # type: ignore[type-arg]
            seen.put(body)

        async def as_tuple(body: tuple) -> None:  # type: ignore[type-arg]
            seen.put(body)

        async def as_set(body: set) -> None:  # type: ignore[type-arg]
            seen.put(body)

        async def as_frozenset(body: frozenset | None) -> None:  # type: ignore[type-arg]
            seen.put(body)

        async def as_dict(body: dict) -> None:  # type: ignore[type-arg]
            seen.put(body)

        async def as_named(body: Point) -> None:
            seen.put(body)

        assert await deliver(harness, as_list, [1, "a"], seen) == [1, "a"]
        assert await deliver(harness, as_tuple, [1, "a"], seen) == (1, "a")
        assert await deliver(harness, as_set, [1, 1], seen) == {1}
        assert await deliver(harness, as_frozenset, [1, 1], seen) == frozenset({1})
        assert await deliver(harness, as_dict, {"a": 1}, seen) == {"a": 1}
        assert await deliver(harness, as_named, [1, 2], seen) == Point(1, 2)
        assert await deliver(harness, as_named, {"x": 1, "y": 2}, seen) == Point(1, 2)

    # The address and the body as path.

    async def test_the_address_wins_over_the_body(self, harness: Harness) -> None:
        needs(harness, "path")
        seen = Inbox()

        async def handler(uid: int, name: str) -> None:
            seen.put((uid, name))

        got = await deliver(harness, handler, {"uid": 1, "name": "Ann"}, seen, template="{uid}", path={"uid": "7"})
        assert got == (7, "Ann")

    async def test_a_path_parameter_comes_before_a_scalar_payload(self, harness: Harness) -> None:
        needs(harness, "path")
        seen = Inbox()

        async def handler(uid: Annotated[int, Path()], msg: str) -> None:
            seen.put((uid, msg))

        assert await deliver(harness, handler, "hi", seen, template="{uid}", path={"uid": "7"}) == (7, "hi")

    async def test_the_body_is_in_the_body_and_in_the_path(self, harness: Harness) -> None:
        seen = Inbox()

        async def handler(id: Annotated[int, Path()], name: str) -> None:
            seen.put((id, name))

        assert await deliver(harness, handler, {"id": 1, "name": "Ann"}, seen) == (1, "Ann")

    async def test_what_can_not_handle_a_message_is_refused(self, harness: Harness) -> None:
        class Handler:
            def __init__(self, msg: str) -> None: ...

        wrong: tuple[Any, ...] = (Handler, None, "handler", 3, property(lambda self: None))
        for one in wrong:
            router = harness.router()
            with pytest.raises(SetupError, match="can't be called with a message"):
                harness.subscribe(router, harness.address())(one)
            with pytest.raises(SetupError, match="can't be called with a message"):
                harness.publisher(router, harness.address())(one)
        for address in (3, b"orders", ["orders"]):
            with pytest.raises(SetupError):
                untyped(harness).subscriber(address)
            with pytest.raises(SetupError):
                untyped(harness).publisher(address)

    async def test_a_callable_object_is_a_handler(self, harness: Harness) -> None:
        seen = Inbox()

        class Handler:
            async def __call__(self, msg: str) -> None:
                seen.put(msg)

        assert await deliver(harness, Handler(), "hi", seen) == "hi"

    # Headers.

    async def test_headers_are_headers(self, harness: Harness) -> None:
        needs(harness, "headers")
        seen = Inbox()

        async def handler(
            msg: str, x_trace_id: Annotated[str, Header()], other: Annotated[str, Header()] = "o"
        ) -> None:
            seen.put((msg, x_trace_id, other))

        assert await deliver(harness, handler, "hi", seen, headers={"X-Trace-Id": "t"}) == ("hi", "t", "o")

    async def test_a_repeated_header_is_a_list(self, harness: Harness) -> None:
        needs(harness, "headers", "repeated_headers")
        seen = Inbox()

        async def handler(tag: Annotated[list[str], Header()], msg: str) -> None:
            seen.put((tag, msg))

        assert await deliver(harness, handler, "hi", seen, headers={"tag": ["a", "b"]}) == (["a", "b"], "hi")

    async def test_dependencies_get_headers_and_body_when_the_handler_takes_nothing(self, harness: Harness) -> None:
        seen = Inbox()

        async def dependency(order: Order, content_type: Annotated[str, Header()]) -> None:
            seen.put((order, content_type))

        async def handler(_: Annotated[None, Depends(dependency)]) -> None: ...

        got = await deliver(harness, handler, {"id": 1}, seen)
        assert got == (Order(id=1), "application/json")

    # What is never mistaken for the payload.

    async def test_special_parameters_may_stand_before_the_payload(self, harness: Harness) -> None:
        seen = Inbox()

        async def dependency() -> str:
            return "dep"

        async def handler(
            request: Request,
            tasks: BackgroundTasks,
            dep: Annotated[str, Depends(dependency)],
            logger: Logger,
            correlation: Annotated[str, Context("message.correlation_id")],
            msg: str,
            content_type: Annotated[str, Header()] = "",
        ) -> None:
            seen.put((request.method, dep, isinstance(logger, logging.Logger), bool(correlation), msg, content_type))

        assert await deliver(harness, handler, "hi", seen) == ("MESSAGE", "dep", True, True, "hi", "text/plain")

    async def test_the_request_of_a_message_works(self, harness: Harness) -> None:
        seen = Inbox()

        async def handler(request: Request) -> None:
            seen.put(
                (str(request.url), await request.body(), await request.json(), request.headers.get("CONTENT-TYPE"))
            )

        url, body, value, content_type = await deliver(harness, handler, {"a": 1}, seen)
        assert url
        assert (body, value, content_type) == (b'{"a":1}', {"a": 1}, "application/json")

    async def test_the_request_of_a_message_can_be_received_and_is_not_disconnected(self, harness: Harness) -> None:
        seen = Inbox()

        async def handler(request: Request) -> None:
            chunks = [chunk async for chunk in request.stream()]
            seen.put((await request.is_disconnected(), await request.receive(), b"".join(chunks)))

        is_gone, received, body = await deliver(harness, handler, {"a": 1}, seen)
        assert not is_gone
        assert received == {"type": "http.request", "body": b'{"a":1}', "more_body": False}
        assert body == b'{"a":1}'
