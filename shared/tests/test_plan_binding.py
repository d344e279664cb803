"""Which part of a message each parameter gets, kind by kind."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import pytest
from fastapi import BackgroundTasks, Body, Depends, Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi_stream_core.context import Context, Logger
from fastapi_stream_core.errors import DecodeError
from plan_harness import NOTHING, Bench, Message
from pydantic import BaseModel, Field, Json, RootModel
from typing_extensions import TypedDict

T = TypeVar("T")


class Order(BaseModel):
    id: int
    name: str = "tea"


class Address(BaseModel):
    city: str


class Wanted(BaseModel):
    limit: int


async def model(m: Order) -> Any:
    return m


async def as_dict(m: dict[str, Any]) -> Any:
    return m


async def numbers(m: list[int]) -> Any:
    return m


async def text(msg: str) -> Any:
    return msg


async def number(msg: int) -> Any:
    return msg


async def raw(msg: bytes) -> Any:
    return msg


async def raw_or_none(msg: bytes | None) -> Any:
    return msg


async def untyped(msg) -> Any:  # type: ignore[no-untyped-def]
    return msg


async def anything(msg: Any) -> Any:
    return msg


async def anything_or(msg: Any = "none") -> Any:
    return msg


async def scalars(x: int, y: str = "d") -> Any:
    return x, y


async def two_models(a: Order, b: Address) -> Any:
    return a, b


async def embedded(a: Annotated[Order, Body(embed=True)]) -> Any:
    return a


async def scalar_and_model(x: int, a: Order) -> Any:
    return x, a


async def scalar_and_list(x: int, items: list[int]) -> Any:
    return x, items


async def list_and_scalar(items: list[int], x: int = 3) -> Any:
    return x, items


async def optional_model(m: Order | None) -> Any:
    return m


async def defaulted_model(m: Order = Order(id=7)) -> Any:  # noqa: B008
    return m


async def optional_text(msg: str | None) -> Any:
    return msg


async def defaulted_text(msg: str = "d") -> Any:
    return msg


async def nullable_key(x: int | None, y: int = 1) -> Any:
    return x, y


async def body_bytes(msg: Annotated[bytes, Body()]) -> Any:
    return msg


async def constrained(msg: Annotated[int, Field(gt=3)]) -> Any:
    return msg


async def query_list(tags: Annotated[list[int], Query()], x: int = 1) -> Any:
    return tags, x


async def path_from_body(id: Annotated[int, Path()], name: str) -> Any:
    return id, name


CASES: list[tuple[Any, Any, Any]] = [
    (model, {"id": 1}, Order(id=1)),
    (as_dict, {"id": 1}, {"id": 1}),
    (numbers, [1, 2], [1, 2]),
    (numbers, [], []),
    (text, "hi", "hi"),
    (text, b"not json", "not json"),
    (text, b"5", "5"),
    (text, {"msg": "hi"}, "hi"),
    (number, 5, 5),
    (number, "5", 5),
    (number, b"5", 5),
    (raw, b"\xff\x00", b"\xff\x00"),
    (raw, {"msg": 1}, b'{"msg": 1}'),
    (raw, "hi", b"hi"),
    (raw, b"", b""),
    (raw_or_none, b"", None),
    (raw_or_none, b"x", b"x"),
    (body_bytes, {"a": 1}, b'{"a": 1}'),
    *[(handler, value, value) for handler in (untyped, anything, anything_or) for value in ("hi", 5, [1, 2], {"a": 1})],
    *[(handler, {"msg": 3}, 3) for handler in (untyped, anything, anything_or)],
    (untyped, None, None),
    (scalars, {"x": 1}, (1, "d")),
    (scalars, {"x": "1", "y": "z"}, (1, "z")),
    (scalars, 4, (4, "d")),
    (two_models, {"a": {"id": 1}, "b": {"city": "Rome"}}, (Order(id=1), Address(city="Rome"))),
    (embedded, {"a": {"id": 1}}, Order(id=1)),
    (scalar_and_model, {"x": 1, "id": 2}, (1, Order(id=2))),
    (scalar_and_list, {"x": 1, "items": [1]}, (1, [1])),
    (list_and_scalar, {"items": [1]}, (3, [1])),
    (list_and_scalar, {"items": [1], "x": 2}, (2, [1])),
    (list_and_scalar, [1, 2], (3, [1, 2])),
    (optional_model, None, None),
    (optional_model, b"", None),
    (optional_model, {"id": 1}, Order(id=1)),
    (defaulted_model, b"", Order(id=7)),
    (optional_text, None, None),
    (optional_text, b"", None),
    (defaulted_text, b"", "d"),
    (defaulted_text, {}, "d"),
    (defaulted_text, "x", "x"),
    (nullable_key, {"x": None}, (None, 1)),
    (nullable_key, {"x": None, "y": 2}, (None, 2)),
    (query_list, {"tags": [1]}, ([1], 1)),
    (query_list, {"tags": []}, ([], 1)),
    (path_from_body, {"id": 1, "name": "Ann"}, (1, "Ann")),
    (constrained, 4, 4),
]


@pytest.mark.parametrize(("handler", "value", "expected"), CASES, ids=lambda one: getattr(one, "__name__", repr(one)))
async def test_each_row_gives_the_same_on_both_ways(handler: Any, value: Any, expected: Any) -> None:
    bench = Bench(handler)
    assert await bench(value) == expected
    assert await bench.by_solver(value) == expected


INVALID: list[tuple[Any, Any, list[tuple[Any, ...]]]] = [
    (model, {"name": "tea"}, [("body", "id")]),
    (model, None, [("body",)]),
    (model, b"", [("body",)]),
    (model, "text", [("body",)]),
    (model, [1], [("body",)]),
    (number, "x", [("body", "msg")]),
    (text, {"other": 1}, [("body", "msg")]),
    (scalars, {"y": "z"}, [("body", "x")]),
    (scalars, {"x": None}, [("body", "x")]),
    (scalars, b"", [("body", "x")]),
    (two_models, {"id": 1, "city": "Rome"}, [("body", "a"), ("body", "b")]),
    (two_models, {"a": {"id": 1}, "b": None}, [("body", "b")]),
    (scalar_and_model, {"id": 2}, [("body", "x")]),
    (scalar_and_model, {"x": "?"}, [("body", "x"), ("body", "id")]),
    (optional_model, {"name": 1}, [("body", "id"), ("body", "name")]),
    (optional_text, 5, [("body", "msg")]),
    (nullable_key, {"x": None, "y": "?"}, [("body", "y")]),
    (path_from_body, {"name": "Ann"}, [("body", "id")]),
    (constrained, 3, [("body", "msg")]),
]


@pytest.mark.parametrize(("handler", "value", "places"), INVALID, ids=lambda one: getattr(one, "__name__", repr(one)))
async def test_invalid_input_is_a_request_validation_error(handler: Any, value: Any, places: list[Any]) -> None:
    with pytest.raises(RequestValidationError) as caught:
        await Bench(handler)(value)
    assert [tuple(error["loc"]) for error in caught.value.errors()] == places


async def test_a_validation_error_carries_the_decoded_body() -> None:
    with pytest.raises(RequestValidationError) as caught:
        await Bench(model)({"id": "x"})
    assert caught.value.body == {"id": "x"}
    assert caught.value.__context__ is None


async def test_an_undecodable_body_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        await Bench(model)(body=b"{", content_type="application/json")


async def test_a_handler_that_does_not_read_the_body_never_decodes_it() -> None:
    async def handler(message: Message) -> Any:
        return message.body

    assert await Bench(handler)(body=b"{", content_type="application/json") == b"{"


async def test_a_json_suffix_is_json() -> None:
    assert await Bench(model)(body=b'{"id": 1}', content_type="application/cloudevents+json; charset=utf-8") == Order(
        id=1
    )


# The address.


async def test_a_captured_name_wins_over_a_body_key() -> None:
    async def handler(uid: int, name: str) -> Any:
        return uid, name

    bench = Bench(handler, names=("uid",))
    assert await bench({"uid": 1, "name": "Ann"}, address="users.7") == (7, "Ann")
    assert await bench.by_solver({"uid": 1, "name": "Ann"}, address="users.7") == (7, "Ann")


async def test_a_captured_name_is_never_the_payload() -> None:
    async def handler(uid: Annotated[int, Path()], msg: str) -> Any:
        return uid, msg

    bench = Bench(handler, names=("uid",))
    assert await bench("hi", address="users.7") == (7, "hi")
    assert await bench.by_solver("hi", address="users.7") == (7, "hi")


async def test_a_dependency_reads_the_address_too() -> None:
    async def user(uid: int) -> int:
        return uid

    async def handler(msg: str, user: Annotated[int, Depends(user)]) -> Any:
        return user, msg

    assert await Bench(handler, names=("uid",))("hi", address="users.7") == (7, "hi")


async def test_an_invalid_captured_value_is_an_error_at_the_path() -> None:
    async def handler(uid: int) -> None: ...

    with pytest.raises(RequestValidationError) as caught:
        await Bench(handler, names=("uid",))({}, address="users.x")
    assert caught.value.errors()[0]["loc"] == ("path", "uid")


# What is never the payload.


def some_dependency() -> str:
    return "dep"


BEFORE = {
    "path": (Annotated[int, Path()], ("uid",)),
    "request": (Request, ()),
    "background": (BackgroundTasks, ()),
    "header": (Annotated[str, Header()], ()),
    "depends": (Annotated[str, Depends(some_dependency)], ()),
    "context": (Annotated[str, Context("message.address")], ()),
    "logger": (Logger, ()),
    "message": (Message, ()),
}


@pytest.mark.parametrize("kind", BEFORE)
@pytest.mark.parametrize("way", ["fast", "solver"])
async def test_what_stands_before_the_payload_is_not_the_payload(kind: str, way: str) -> None:
    annotation, names = BEFORE[kind]

    async def handler(uid, msg: str) -> Any:  # type: ignore[no-untyped-def]
        return msg

    handler.__annotations__["uid"] = annotation
    bench = Bench(handler, names=names)
    run = bench if way == "fast" else bench.by_solver
    assert await run("hi", address="users.7", headers=[("uid", "h")]) == "hi"


# Headers.


async def header_handler(
    x_trace_id: Annotated[str, Header()],
    tags: Annotated[list[str], Header()] = [],  # noqa: B006
    correlation_id: Annotated[str, Header(convert_underscores=False)] = "none",
    number: Annotated[int, Header(alias="X-Number")] = 0,
) -> Any:
    return x_trace_id, tags, correlation_id, number


@pytest.mark.parametrize("way", ["fast", "solver"])
async def test_headers_ignore_case_and_repeat(way: str) -> None:
    bench = Bench(header_handler)
    run = bench if way == "fast" else bench.by_solver
    pairs = [("X-TRACE-ID", "é"), ("Tags", "a"), ("tags", "b"), ("correlation_id", "c"), ("x-number", "4")]
    assert await run(headers=pairs) == ("é", ["a", "b"], "c", 4)
    assert await run(headers=[("x-trace-id", "t")]) == ("t", [], "none", 0)


async def test_a_missing_header_is_an_error_at_its_name() -> None:
    with pytest.raises(RequestValidationError) as caught:
        await Bench(header_handler)()
    assert caught.value.errors()[0]["loc"] == ("header", "x-trace-id")


async def test_a_header_that_is_no_text_is_an_error_only_for_who_wants_text() -> None:
    async def handler(x: Annotated[bytes, Header()]) -> bytes:
        return x

    async def wants_text(x: Annotated[str, Header()]) -> str:
        return x

    assert await Bench(handler)(headers=[("x", b"\xff")]) == b"\xff"
    with pytest.raises(RequestValidationError):
        await Bench(wants_text)(headers=[("x", b"\xff")])


async def test_a_handler_of_dependencies_alone_gives_them_body_and_headers() -> None:
    async def dependency(msg: str, x_tenant: Annotated[str, Header()]) -> tuple[str, str]:
        return msg, x_tenant

    async def handler(got: Annotated[Any, Depends(dependency)]) -> Any:
        return got

    bench = Bench(handler)
    assert await bench("hi", headers=[("X-Tenant", "acme")]) == ("hi", "acme")
    assert await bench.by_solver("hi", headers=[("X-Tenant", "acme")]) == ("hi", "acme")


async def test_a_scalar_body_goes_to_the_dependency_of_the_same_name_too() -> None:
    async def dependency(msg: str) -> str:
        return msg

    async def handler(msg: str, again: Annotated[str, Depends(dependency)]) -> Any:
        return msg, again

    assert await Bench(handler)("hi") == ("hi", "hi")


async def test_two_bodies_in_handler_and_dependency_go_by_key() -> None:
    async def dependency(b: Address) -> Address:
        return b

    async def handler(a: Order, b: Annotated[Address, Depends(dependency)]) -> Any:
        return a, b

    bench = Bench(handler)
    assert await bench({"a": {"id": 1}, "b": {"city": "Rome"}}) == (Order(id=1), Address(city="Rome"))


async def test_the_same_body_in_handler_and_dependency_is_the_whole_body() -> None:
    async def dependency(order: Order) -> int:
        return order.id

    async def handler(order: Order, id: Annotated[int, Depends(dependency)]) -> Any:
        return order, id

    assert await Bench(handler)({"id": 1}) == (Order(id=1), 1)


async def test_a_model_of_query_parameters_is_filled_from_the_keys() -> None:
    async def handler(wanted: Annotated[Wanted, Query()]) -> Any:
        return wanted

    assert await Bench(handler)({"limit": 3}) == Wanted(limit=3)


class Tracing(BaseModel):
    x_trace: str
    tags: list[str] = []


async def test_a_model_of_headers_is_filled() -> None:
    async def handler(tracing: Annotated[Tracing, Header()], msg: str) -> Any:
        return tracing, msg

    pairs = [("X-Trace", "t"), ("tags", "a"), ("tags", "b")]
    assert await Bench(handler)("hi", headers=pairs) == (Tracing(x_trace="t", tags=["a", "b"]), "hi")


@dataclass
class Point:
    x: int


class Typed(TypedDict):
    x: int


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Numbers(RootModel[list[int]]):
    """A model that is a list."""


class Box(BaseModel, Generic[T]):
    it: T


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Point, {"x": 1}, Point(1)),
        (Typed, {"x": 1}, {"x": 1}),
        (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "dog"}, Dog(kind="dog")),
        (Numbers, [1], Numbers([1])),
        (Box[int], {"it": "1"}, Box[int](it=1)),
        (set[int], [1, 1], {1}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (Colour, "red", Colour.RED),
        (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
        (datetime, "2026-01-01T00:00:00", datetime(2026, 1, 1)),
        (Decimal, "1.50", Decimal("1.50")),
        (Literal["a", "b"], "a", "a"),
        (bool, True, True),
        (Json[dict[str, int]], '{"a": 1}', {"a": 1}),
        (Annotated[Order, Body(description="An order")], {"id": 1}, Order(id=1)),
        (dict[str, list[Order]], {"a": [{"id": 1}]}, {"a": [Order(id=1)]}),
    ],
)
async def test_every_type_that_pydantic_knows_is_a_payload(annotation: Any, value: Any, expected: Any) -> None:
    async def handler(m) -> Any:  # type: ignore[no-untyped-def]
        return m

    handler.__annotations__["m"] = annotation
    bench = Bench(handler)
    assert await bench(value) == expected
    assert await bench.by_solver(value) == expected


async def test_defaults_are_copied() -> None:
    async def handler(x: int = 1, tags: Annotated[list[int], Query()] = []) -> list[int]:  # noqa: B006
        tags.append(x)
        return tags

    bench = Bench(handler)
    assert [await bench({}), await bench({})] == [[1], [1]]


async def test_an_empty_object_is_an_object() -> None:
    assert await Bench(anything)({}) == {}


async def test_positional_order_does_not_matter() -> None:
    async def handler(*, m: Order) -> Any:
        return m

    assert await Bench(handler)({"id": 1}) == Order(id=1)


async def test_a_handler_without_parameters_is_called() -> None:
    async def handler() -> str:
        return "called"

    assert await Bench(handler)(NOTHING) == "called"


async def test_a_callable_object_and_a_method_are_handlers() -> None:
    class Handler:
        async def __call__(self, m: Order) -> int:
            return m.id

        async def method(self, m: Order) -> int:
            return m.id + 1

    assert await Bench(Handler())({"id": 1}) == 1
    assert await Bench(Handler().method)({"id": 1}) == 2


# JSON by another name.


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "text/json"])
async def test_json_by_another_name_reaches_every_shape_of_handler(kind: str) -> None:
    async def dependency(order: Order) -> int:
        return order.id

    async def several(order: Order, value: Annotated[int, Depends(dependency)], content_type: Annotated[str, Header()]):  # type: ignore[no-untyped-def]
        return order, value, content_type

    async def unusual(order: Annotated[Order, Depends()]) -> Any:
        return order

    def sync(order: Order) -> Any:
        return order

    body = b'{"id": 1}'
    assert await Bench(model)(body=body, content_type=kind) == Order(id=1)
    assert await Bench(scalars)(body=b'{"x": 1}', content_type=kind) == (1, "d")
    assert await Bench(several)(body=body, content_type=kind) == (Order(id=1), 1, kind)
    assert await Bench(sync)(body=body, content_type=kind) == Order(id=1)
    assert await Bench(text)(body=body, content_type=kind) == body.decode()


async def test_what_is_no_json_either_is_said_as_what_it_was_declared() -> None:
    for body in (b"tea", b'"tea"', b"[", b"nan"):
        with pytest.raises(RequestValidationError) as caught:
            await Bench(model)(body=body, content_type="text/plain")
        assert [tuple(error["loc"]) for error in caught.value.errors()] == [("body",)]


async def test_text_stays_text_where_it_is_what_the_parameter_takes() -> None:
    async def choice(level: Literal["1", "2"]) -> Any:
        return level

    async def anything(msg: Any) -> Any:
        return msg

    assert await Bench(choice)(body=b"1", content_type="text/plain") == "1"
    assert await Bench(anything)(body=b"1", content_type="text/plain") == "1"


# Sequences without a type of their items.


class Pair(NamedTuple):
    left: int
    right: int


NO_PAIR = Pair(8, 9)


async def test_bare_sequences_are_bodies_everywhere() -> None:
    async def below(pair: Pair) -> int:
        return pair.left

    async def depending(value: Annotated[int, Depends(below)], again: int = Depends(below)) -> Any:
        return value, again

    async def by_key(x: int, items: list, pair: Pair = NO_PAIR) -> Any:  # type: ignore[type-arg]
        return x, items, pair

    async def default(items: list = [1]) -> Any:  # type: ignore[type-arg] # noqa: B006
        return items

    assert await Bench(depending)([1, 2]) == (1, 1)
    assert await Bench(by_key)({"x": 1, "items": ["a", 2], "pair": [3, 4]}) == (1, ["a", 2], Pair(3, 4))
    assert await Bench(by_key)({"x": 1, "items": []}) == (1, [], Pair(8, 9))
    assert await Bench(default)(None) == [1]
    assert await Bench(default)([3]) == [3]
    assert Bench(depending).plan.call is depending


async def test_bare_sequences_are_bodies_of_overrides_too() -> None:
    async def dependency() -> int:
        return 0

    async def override(items: tuple) -> int:  # type: ignore[type-arg]
        return len(items)

    async def handler(count: Annotated[int, Depends(dependency)]) -> Any:
        return count

    bench = Bench(handler)
    bench.owner.dependency_overrides[dependency] = override
    assert await bench([1, 2, 3]) == 3
