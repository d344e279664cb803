"""An invalid message costs about as much as a valid one of its size, whatever is wrong with it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from time import process_time
from typing import Annotated, Any, Literal

import pytest
from fastapi import Depends, Header
from fastapi.exceptions import RequestValidationError
from fastapi_stream_core import Response
from fastapi_stream_core.testing.reference import LocalBroker, TestLocalBroker
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WrapValidator,
    create_model,
)
from pydantic_core import to_json

BYTES = 300_000
TIMES = 3.0
CONSTANT = 0.05
"""Seconds of CPU: the bound is TIMES those of a valid message, plus this."""
LOOKS = 10
"""How often it is looked at both, at most."""

Wide: Any = create_model("Wide", **{f"f{number}": (int, ...) for number in range(30)})
WIDE = {f"f{number}": 1 for number in range(30)}


class Order(BaseModel):
    number: int = 0
    lines: list[Wide] = []
    by_name: dict[str, Wide] = {}


def filled(item: Any, whole: Callable[[list[Any]], Any]) -> bytes:
    """Return a body of about `BYTES` bytes with as many items as that takes."""
    return to_json(whole([item] * (BYTES // (len(to_json(item)) + 1))))


SHAPES: dict[str, Callable[[list[Any]], Any]] = {
    "list": lambda items: items,
    "in a model": lambda items: {"lines": items},
    "in two parameters": lambda items: {"orders": items},
    "in one that is not there": lambda items: {"orders": items, "other": items},
    "mapping": lambda items: {"by_name": {f"{number:x}": item for number, item in enumerate(items)}},
}


async def nothing() -> None: ...


async def listed(orders: list[Wide]) -> None: ...
async def depending(orders: list[Wide], _: Annotated[None, Depends(nothing)]) -> None: ...
async def with_header(orders: list[Wide], x_tenant: Annotated[str, Header()] = "") -> None: ...
async def without_header(orders: list[Wide], x_tenant: Annotated[str, Header()]) -> None: ...
async def batch(batches: list[list[Wide]]) -> None: ...
def sync(orders: list[Wide]) -> None: ...
async def modelled(order: Order) -> None: ...
async def keyed(orders: list[Wide], number: int = 0) -> None: ...
async def missing(orders: list[Wide], number: int) -> None: ...
async def united(order: Order | list[Wide]) -> None: ...


CASES = [
    (listed, "list"),
    (depending, "list"),
    (with_header, "list"),
    (without_header, "list"),
    (batch, "list"),
    (sync, "list"),
    (modelled, "in a model"),
    (modelled, "mapping"),
    (united, "list"),
    (keyed, "in two parameters"),
    (missing, "in one that is not there"),
]


async def cpu_of(handler: Any, *bodies: bytes) -> list[float]:
    """Return the seconds of CPU for each message, the least of three."""
    broker = LocalBroker(logger=logging.Logger("none", logging.CRITICAL))
    broker.subscriber("in", batch=handler is batch)(handler)
    seconds = [float("inf")] * len(bodies)
    async with TestLocalBroker(broker, raise_errors=False):
        for _ in range(3):
            for number, body in enumerate(bodies):
                began = process_time()
                await broker.publish(Response(body, content_type="application/json"), "in")
                seconds[number] = min(seconds[number], process_time() - began)
    return seconds


@pytest.mark.parametrize(("handler", "shape"), CASES)
@pytest.mark.parametrize("wrong", [{}, "x", {**WIDE, "f29": "x"}], ids=["empty", "text", "one field"])
async def test_an_invalid_message_costs_at_most_three_times_a_valid_one(handler: Any, shape: str, wrong: Any) -> None:
    valid = invalid = float("inf")
    for _ in range(LOOKS):  # what other processes do to the caches of the machine costs CPU too
        valid = min(valid, *await cpu_of(listed, filled(WIDE, SHAPES["list"])))
        invalid = min(invalid, *await cpu_of(handler, filled(wrong, SHAPES[shape])))
        if invalid <= TIMES * valid + CONSTANT:
            return
    raise AssertionError(f"{invalid:.3f} s for an invalid message, and {valid:.3f} s for a valid one")


async def errors_of(handler: Any, body: Any) -> list[Any]:
    broker = LocalBroker(logger=None)
    broker.subscriber("in")(handler)
    async with TestLocalBroker(broker):
        with pytest.raises(RequestValidationError) as raised:
            await broker.publish(body, "in")
    return [(one["loc"], one["type"]) for one in raised.value.errors()]


MANY = 5000
LARGE_TEXT = "x" * 10_000


@pytest.mark.parametrize("handler", [listed, depending, with_header, sync])
async def test_the_errors_of_a_large_body_are_those_of_its_first_wrong_item(handler: Any) -> None:
    errors = await errors_of(handler, [WIDE, *[{}] * MANY])
    assert errors == [(("body", 1, name), "missing") for name in WIDE]


async def test_every_error_of_a_body_that_is_not_large_is_said() -> None:
    errors = await errors_of(listed, ["x"] * 20)
    assert errors == [(("body", number), "model_attributes_type") for number in range(20)]


async def test_every_error_that_is_in_no_list_is_said() -> None:
    async def handler(order: Order, other: Order, number: int) -> None: ...

    order = {"number": "x", "lines": ["x"] * MANY, "by_name": {LARGE_TEXT: "x"}}
    assert await errors_of(handler, {"order": order}) == [
        (("body", "number"), "missing"),
        (("body", "order", "number"), "int_parsing"),
        (("body", "order", "lines", 0), "model_attributes_type"),
        (("body", "order", "by_name", LARGE_TEXT), "model_attributes_type"),
        (("body", "other"), "missing"),
    ]


async def test_a_validator_that_calls_the_next_one_sees_every_error() -> None:
    counts: list[int] = []

    def tolerant(value: Any, validate: Callable[[Any], list[Any]]) -> list[Any]:
        try:
            return validate(value)
        except ValidationError as error:
            counts.append(error.error_count())
            wrong = {one["loc"][0] for one in error.errors()}
            return [one for number, one in enumerate(value) if number not in wrong]

    seen: list[Any] = []

    async def handler(numbers: Annotated[list[int], WrapValidator(tolerant)]) -> None:
        seen.append(numbers)

    broker = LocalBroker(logger=None)
    broker.subscriber("in")(handler)
    async with TestLocalBroker(broker):
        await broker.publish([1, *["x"] * MANY, 2], "in")
    assert counts == [MANY]
    assert seen == [[1, 2]]


class Cat(BaseModel):
    kind: Literal["cat"]
    type: str


class Dog(BaseModel):
    model_config = ConfigDict(extra="allow")
    kind: Literal["dog"]
    friends: list["Cat | Dog"] = []
    color: Annotated[str, AfterValidator(str.upper)] = Field("red", validate_default=True)


@dataclass
class Home:
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    dates: tuple[date, ...] = ()
    names: set[str] | None = None


@pytest.mark.parametrize("size", [1, MANY])
async def test_a_large_body_is_read_as_a_small_one(size: int) -> None:
    seen: list[Any] = []

    async def handler(home: Home) -> None:
        seen.append(home)

    cat, dog = {"kind": "cat", "type": "tabby"}, {"kind": "dog", "friends": [{"kind": "dog"}], "age": 3}
    body = {"pets": [cat, dog] * size, "dates": ["2026-01-01"] * size, "names": ["a", "a"]}
    broker = LocalBroker(logger=None)
    broker.subscriber("in")(handler)
    async with TestLocalBroker(broker):
        await broker.publish(body, "in")
    assert seen == [TypeAdapter(Home).validate_python(body)]
    assert seen[0].pets[1].color == "RED"
    assert seen[0].pets[1].model_extra == {"age": 3}
