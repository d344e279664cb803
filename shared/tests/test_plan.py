"""The plan as a whole: wrong declarations, batches, results, the document, errors as FastAPI has them, and its cost."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import Body, Cookie, Depends, FastAPI, File, Form, Header, Path, Query, UploadFile, WebSocket
from fastapi import Response as HTTPResponse
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from fastapi_stream_core.errors import DecodeError, SetupError
from fastapi_stream_core.response import Response
from plan_harness import Bench, Message, Owner, message, plan
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Order(BaseModel):
    id: int
    name: str = "tea"


class Special(Order):
    secret: str = "hidden"


class Other(BaseModel):
    city: str


class Unknown:
    """A class that pydantic does not know."""


# Wrong declarations.


async def form(a: Annotated[str, Form()]) -> None: ...
async def file(a: Annotated[bytes, File()]) -> None: ...
async def upload(a: UploadFile) -> None: ...
async def cookie(a: Annotated[str, Cookie()]) -> None: ...
async def star(*a: int) -> None: ...
async def double_star(**a: int) -> None: ...
async def positional(a: int, /) -> None: ...
async def unknown(a: Unknown) -> None: ...
async def undefined(a: "NotThere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def websocket(a: WebSocket) -> None: ...
async def header_in_path(a: Annotated[str, Header()]) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [form, file, upload, cookie, star, double_star, positional, unknown, undefined, websocket],
    ids=lambda one: one.__name__,
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_wrong_parameter_is_named_with_handler_and_fix(handler: Any, nested: bool) -> None:
    async def outside(got: Any = Depends(handler)) -> None: ...

    with pytest.raises(SetupError) as caught:
        plan(outside if nested else handler)
    error = caught.value
    assert ("outside" if nested else handler.__name__) in error.subject
    assert not nested or handler.__name__ in error.subject
    assert "a" in error.problem.replace("`", "'").split("'")[1]
    assert error.fix


def test_a_header_that_the_address_names_is_wrong() -> None:
    with pytest.raises(SetupError, match="'a'"):
        plan(header_in_path, path_names=["a"])


def test_an_unknown_result_is_wrong() -> None:
    async def handler() -> Unknown:
        return Unknown()

    with pytest.raises(SetupError, match="response_model=None"):
        plan(handler)
    assert plan(handler, response={"response_model": None}).result_type is None


def test_a_result_that_is_not_defined_is_wrong() -> None:
    async def handler() -> "NotThere": ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(SetupError, match="NotThere"):
        plan(handler)


def test_a_wrong_dependency_of_the_chain_is_named() -> None:
    async def handler() -> None: ...

    with pytest.raises(SetupError, match="'a'"):
        plan(handler, dependencies=[Depends(unknown)])
    with pytest.raises(SetupError, match="Depends"):
        plan(handler, dependencies=[Depends()])


# The same errors as a route has.


async def order_route(m: Order) -> None: ...
async def two_route(a: Order, b: Other) -> None: ...
async def constrained_route(m: Annotated[list[int], Body(min_length=2)]) -> None: ...
async def header_route(m: Order, x_count: Annotated[int, Header()]) -> None: ...
async def union_route(m: Order | Other) -> None: ...


async def needs_header(x_tenant: Annotated[str, Header()]) -> None: ...


async def nested_route(m: Order, got: Annotated[None, Depends(needs_header)]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "value"),
    [
        (order_route, {"id": "x"}),
        (order_route, {}),
        (order_route, [1]),
        (order_route, 5),
        (two_route, {"a": {"id": 1}}),
        (two_route, [1]),
        (constrained_route, [1]),
        (header_route, {"id": 1}),
        (header_route, {}),
        (union_route, {"nothing": 1}),
        (nested_route, {"id": "x"}),
    ],
)
async def test_errors_are_those_of_a_route(handler: Any, value: Any) -> None:
    app = FastAPI()
    app.post("/")(handler)
    expected = TestClient(app).post("/", json=value).json()["detail"]
    with pytest.raises(RequestValidationError) as caught:
        await Bench(handler)(value)
    from fastapi.encoders import jsonable_encoder

    assert jsonable_encoder(caught.value.errors()) == expected


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (datetime | str, "2026-01-01T00:00:00"),
        (UUID | str, "12345678-1234-5678-1234-567812345678"),
        (Decimal | str, "1.5"),
        (list[float | Decimal] | None, [1.5]),
    ],
)
async def test_values_are_those_of_a_route(annotation: Any, value: Any) -> None:
    class Holder(BaseModel):
        it: annotation  # type: ignore[valid-type]

    got: list[Any] = []

    async def handler(m: Holder) -> None:
        got.append(m)

    app = FastAPI()
    app.post("/")(handler)
    assert TestClient(app).post("/", json={"it": value}).status_code == 200
    await Bench(handler)({"it": value})
    assert got[0] == got[1]
    assert type(got[0].it) is type(got[1].it)


# Batches.


async def batch_models(orders: list[Order]) -> Any:
    return orders


async def batch_raw(bodies: list[bytes]) -> Any:
    return bodies


async def batch_any(bodies) -> Any:  # type: ignore[no-untyped-def]
    return bodies


async def batch_tuple(orders: tuple[Order, ...]) -> Any:
    return orders


async def batch_sequence(orders: Sequence[Order]) -> Any:
    return orders


async def batch_bounded(orders: Annotated[list[Order], Body(min_length=2)]) -> Any:
    return orders


async def test_good_items_of_a_batch_are_handled_and_bad_ones_come_back() -> None:
    bench = Bench(batch_models, batch=True)
    result, bad = await bench.batch({"id": 1}, {"id": "x"}, {"id": 2}, b"\xff")
    assert result == [Order(id=1), Order(id=2)]
    (first, invalid), (second, undecodable) = bad
    assert first.body == b'{"id": "x"}'
    assert isinstance(invalid, RequestValidationError)
    assert invalid.errors()[0]["loc"] == ("body", "id")
    assert invalid.body == {"id": "x"}
    assert second.body == b"\xff"
    assert isinstance(undecodable, RequestValidationError)


async def test_a_body_of_a_batch_that_is_not_what_it_says_comes_back() -> None:
    bench = Bench(batch_models, batch=True)
    one = message(body=b"{", content_type="application/json", owner=bench.owner)
    good, _, ((_, error),) = bench.plan.sift([one])
    assert not good
    assert isinstance(error, DecodeError)


@pytest.mark.parametrize(
    ("handler", "values", "expected"),
    [
        (batch_raw, [b"\xff", {"a": 1}], [b"\xff", b'{"a": 1}']),
        (batch_any, ["x", {"a": 1}], ["x", {"a": 1}]),
        (batch_tuple, [{"id": 1}], (Order(id=1),)),
        (batch_sequence, [{"id": 1}], [Order(id=1)]),
        (batch_bounded, [{"id": 1}, {"id": 2}], [Order(id=1), Order(id=2)]),
    ],
)
async def test_each_kind_of_list_is_a_batch(handler: Any, values: list[Any], expected: Any) -> None:
    result, bad = await Bench(handler, batch=True).batch(*values)
    assert (result, bad) == (expected, [])


async def test_a_bound_on_the_list_holds_for_the_batch() -> None:
    with pytest.raises(RequestValidationError):
        await Bench(batch_bounded, batch=True).batch({"id": 1})


async def test_items_are_validated_once_and_again_for_a_second_run() -> None:
    bench = Bench(batch_models, batch=True)
    batch = bench.plan.batch_of(*bench.plan.sift([message({"id": 1}, owner=bench.owner)])[:2])
    first, second = await bench.plan(batch), await bench.plan(batch)
    assert first == second == [Order(id=1)]
    assert first[0] is not second[0]


async def test_a_batch_handler_may_take_the_messages_alone() -> None:
    async def handler(batch: Message) -> Any:
        return batch.messages  # type: ignore[attr-defined]

    result, bad = await Bench(handler, batch=True).batch("a", "b")
    assert [one.body for one in result] == [b"a", b"b"]
    assert bad == []


@pytest.mark.parametrize("handler", [order_route, two_route])
def test_a_batch_handler_takes_a_list(handler: Any) -> None:
    with pytest.raises(SetupError, match="list"):
        plan(handler, batch=True)


# Results.


class Colour(str, Enum):
    RED = "red"


@dataclass
class Point:
    x: int


def returning(annotation: Any, **options: Any) -> Any:
    async def handler() -> Any: ...

    handler.__annotations__["return"] = annotation
    return plan(handler, response=options)


RESULTS: list[tuple[Any, Any, tuple[bytes, Any]]] = [
    (Any, {"a": 1}, (b'{"a":1}', "application/json")),
    (None, b"\xff", (b"\xff", None)),
    (None, None, (b"", None)),
    (None, "text", (b"text", "text/plain")),
    (bytes, b"\xff", (b"\xff", None)),
    (str, "text", (b"text", "text/plain")),
    (Order | None, None, (b"", None)),
    (Order, Order(id=1), (b'{"id":1,"name":"tea"}', "application/json")),
    (Order, {"id": "1"}, (b'{"id":1,"name":"tea"}', "application/json")),
    (Order, Special(id=1), (b'{"id":1,"name":"tea"}', "application/json")),
    (list[Order], [Special(id=1)], (b'[{"id":1,"name":"tea"}]', "application/json")),
    (dict[str, float], {"total": Decimal("1.5")}, (b'{"total":1.5}', "application/json")),
    (timedelta, timedelta(seconds=1), (b'"PT1S"', "application/json")),
    (Point, Point(1), (b'{"x":1}', "application/json")),
    (Colour, Colour.RED, (b"red", "text/plain")),
    (int, 5, (b"5", "application/json")),
]


@pytest.mark.parametrize(("annotation", "value", "expected"), RESULTS)
def test_a_result_is_encoded_by_its_annotation(annotation: Any, value: Any, expected: Any) -> None:
    assert returning(annotation).encode(value) == expected


@pytest.mark.parametrize("value", [{"name": 1}, 5, b"\xff"])
def test_a_result_that_is_not_the_model_is_an_error(value: Any) -> None:
    with pytest.raises(ResponseValidationError) as caught:
        returning(Order).encode(value)
    assert caught.value.errors()[0]["loc"][0] == "response"


def test_none_is_no_result_whatever_the_model_says() -> None:
    assert returning(Order).encode(None) == (b"", None)


class TheirResponse(Response):
    """A package's own response."""


@pytest.mark.parametrize("annotation", [None, Response, TheirResponse, TheirResponse | None])
def test_a_response_says_nothing_of_the_payload(annotation: Any) -> None:
    compiled = returning(annotation)
    assert compiled.result_type in (None, type(None))
    assert compiled.encode({"a": 1}) == (b'{"a":1}', "application/json")


@pytest.mark.parametrize(
    "annotation", [HTTPResponse, JSONResponse, Order | JSONResponse, Annotated[JSONResponse | None, "a note"]]
)
def test_a_response_of_http_is_refused(annotation: Any) -> None:
    with pytest.raises(SetupError, match=r"its result is a (JSON)?Response, which answers an HTTP request; return the"):
        returning(annotation)
    with pytest.raises(SetupError, match="answers an HTTP request"):
        returning(Order, response_model=annotation)
    assert returning(annotation, response_model=None).encode({"a": 1}) == (b'{"a":1}', "application/json")


def test_a_response_beside_a_model_leaves_the_model() -> None:
    assert returning(Order | TheirResponse).result_type is Order


def test_response_model_wins_and_none_switches_it_off() -> None:
    assert returning(Special, response_model=Order).encode(Special(id=1))[0] == b'{"id":1,"name":"tea"}'
    assert b"secret" in returning(Order, response_model=None).encode(Special(id=1))[0]


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    first: int = Field(1, alias="First")
    second: int | None = None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, b'{"First":1,"second":null}'),
        ({"by_alias": False}, b'{"first":1,"second":null}'),
        ({"include": {"first"}}, b'{"First":1}'),
        ({"exclude": ["first"]}, b'{"second":null}'),
        ({"exclude_none": True}, b'{"First":1}'),
        ({"exclude_unset": True}, b"{}"),
        ({"exclude_defaults": True}, b"{}"),
    ],
)
def test_the_options_of_the_response_model(options: dict[str, Any], expected: bytes) -> None:
    named = {f"response_model_{name}": value for name, value in options.items()}
    assert returning(Aliased, **named).encode(Aliased())[0] == expected


# The document.


def schema(compiled: Any) -> Any:
    return TypeAdapter(compiled.payload).json_schema()


def test_the_payload_of_one_body_is_its_type() -> None:
    assert plan(order_route).payload is Order
    assert plan(batch_models, batch=True).payload == list[Order]


def test_the_payload_of_scalars_is_an_object_by_alias() -> None:
    async def rename_user(
        uid: int, id: Annotated[int, Path()], name: Annotated[str, Query(alias="Name")] = "d"
    ) -> None: ...

    compiled = plan(rename_user, path_names=["uid"])
    shown = schema(compiled)
    assert set(shown["properties"]) == {"id", "Name"}
    assert shown["required"] == ["id"]
    assert shown["title"] == "RenameUserPayload"
    assert [field.name for field in compiled.path_params] == ["uid"]


def test_the_payload_of_several_bodies_is_an_object() -> None:
    assert set(schema(plan(two_route))["properties"]) == {"a", "b"}


def test_the_payload_of_a_scalar_beside_a_model_is_the_model_and_the_scalar() -> None:
    async def handler(x: int, m: Order) -> None: ...

    assert set(schema(plan(handler))["properties"]) == {"x", "id", "name"}


def test_constraints_stay_in_the_payload() -> None:
    async def handler(m: Annotated[int, Field(gt=3)]) -> None: ...

    assert schema(plan(handler))["exclusiveMinimum"] == 3


def test_a_handler_that_reads_nothing_has_no_payload() -> None:
    async def handler(message: Message, x: Annotated[str, Header()]) -> None: ...

    compiled = plan(handler)
    assert compiled.payload is None
    assert compiled.payload_field is None
    assert [field.alias for field in compiled.header_params] == ["x"]


def test_the_payload_and_headers_of_dependencies_are_shown() -> None:
    async def handler(got: Annotated[None, Depends(nested_route)]) -> None: ...

    compiled = plan(handler)
    assert compiled.payload is Order
    assert compiled.payload_field.field_info.annotation is Order
    assert [field.alias for field in compiled.header_params] == ["x-tenant"]


# The cost.


def test_a_typed_handler_costs_few_calls() -> None:
    async def handler(m: Order) -> None: ...

    owner = Owner()
    compiled = plan(handler, owner=owner)
    one = message({"id": 1}, owner=owner)
    assert drive(compiled(one)) is None
    one = message({"id": 1}, owner=owner)
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        drive(compiled(one))
    finally:
        sys.setprofile(None)
    # __call__, run, decoded, content_type, headers, read_headers, Headers, text, its index, decode, read, handler
    assert calls <= 13, calls


def drive(awaitable: Any) -> Any:
    """Run a coroutine that never waits."""
    try:
        awaitable.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError
