"""Types become schemas of AsyncAPI."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from fastapi_stream_core.asyncapi.schema import Mode, Schemas, convert
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, Json, computed_field
from typing_extensions import TypedDict

T = TypeVar("T")


def make(*types: Any, mode: Mode = "validation") -> tuple[list[Any], dict[str, Any]]:
    schemas = Schemas()
    numbers = [schemas.add(one, mode, f"type {one!r}") for one in types]
    schemas.build()
    return [schemas[number] for number in numbers], schemas.components


class Color(Enum):
    RED = "red"


class Item(BaseModel):
    name: str
    note: str | None = None
    color: Color = Color.RED


class Node(BaseModel):
    children: list[Node] = []
    item: Item | None = Field(None, description="What it holds.")


class Price(BaseModel):
    amount: Decimal = Decimal("1.5")

    @computed_field
    def tax(self) -> float:
        return 0.0


class Page(BaseModel, Generic[T]):
    items: list[T]


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


@dataclass
class Point:
    x: int


class Options(TypedDict, total=False):
    a: int


def test_scalars() -> None:
    made, components = make(str, bytes, int, int | None, list[str], datetime.datetime, Any)
    assert made == [
        {"type": "string"},
        {"type": "string", "format": "binary"},
        {"type": "integer"},
        {"type": ["integer", "null"]},
        {"type": "array", "items": {"type": "string"}},
        {"type": "string", "format": "date-time"},
        {},
    ]
    assert components == {}


def test_models_are_components_in_the_order_of_first_use() -> None:
    made, components = make(Node, list[Item], Page[Item], Point, Options)
    assert made[:2] == [
        {"$ref": "#/components/schemas/Node"},
        {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
    ]
    assert list(components) == ["Node", "Item", "Color", "Page_Item_", "Point", "Options"]
    assert components["Node"]["properties"]["item"] == {
        "anyOf": [{"$ref": "#/components/schemas/Item"}, {"type": "null"}],
        "default": None,
        "description": "What it holds.",
    }
    assert components["Item"]["properties"]["note"]["type"] == ["string", "null"]
    assert components["Item"]["properties"]["color"] == {
        "allOf": [{"$ref": "#/components/schemas/Color"}],
        "default": "red",
    }


def test_metadata_without_a_hash() -> None:
    one, two = (Annotated[int, Field(ge=1, json_schema_extra={"x": []}), [number]] for number in (1, 2))
    made, _ = make(one, two, one, int, int)
    assert made == [{"type": "integer", "minimum": 1, "x": []}] * 3 + [{"type": "integer"}] * 2


def test_tuples_are_draft_7() -> None:
    made, _ = make(tuple[int, str], tuple[int, ...])
    assert made[0]["items"] == [{"type": "integer"}, {"type": "string"}]
    assert made[0]["additionalItems"] is False
    assert made[1] == {"type": "array", "items": {"type": "integer"}}


def test_the_discriminator_is_a_name() -> None:
    made, _ = make(Annotated[Cat | Dog, Field(discriminator="kind")])
    assert made[0]["discriminator"] == "kind"
    assert made[0]["x-discriminator-mapping"] == {
        "cat": "#/components/schemas/Cat",
        "dog": "#/components/schemas/Dog",
    }


def test_sent_and_received_are_one_schema_where_they_are_equal() -> None:
    schemas = Schemas()
    numbers = [schemas.add(type_, mode, "") for type_ in (Node, Price) for mode in ("validation", "serialization")]
    schemas.build()
    received, sent, in_price, out_price = (schemas[number] for number in numbers)
    assert received == sent == {"$ref": "#/components/schemas/Node"}
    assert in_price == {"$ref": "#/components/schemas/Price-Input"}
    assert out_price == {"$ref": "#/components/schemas/Price-Output"}
    assert list(schemas.components) == ["Node", "Item", "Color", "Price-Input", "Price-Output"]


class Beneath:
    """Puts the schema of a type beneath a keyword."""

    def __init__(self, keyword: str, wrap: Callable[[Any], Any] = lambda schema: schema) -> None:
        self.keyword = keyword
        self.wrap = wrap

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {self.keyword: self.wrap(handler(core_schema))}


@pytest.mark.parametrize(
    "beneath",
    [
        *(Beneath(keyword) for keyword in ("additionalProperties", "propertyNames", "contains", "not", "if", "items")),
        *(Beneath(keyword) for keyword in ("contentSchema", "unevaluatedItems", "unevaluatedProperties")),
        *(Beneath(keyword, lambda schema: [schema]) for keyword in ("allOf", "anyOf", "oneOf", "prefixItems")),
        *(Beneath(keyword, lambda schema: {"a": schema}) for keyword in ("properties", "patternProperties")),
        *(Beneath(keyword, lambda schema: {"a": schema}) for keyword in ("dependentSchemas", "dependencies")),
    ],
    ids=lambda beneath: beneath.keyword,
)
def test_a_schema_is_found_beneath_every_keyword(beneath: Beneath) -> None:
    """It has another name here than in what pydantic makes, which tells both ways apart."""
    schemas = Schemas()
    number = schemas.add(Annotated[Page[Item], beneath], "validation", "received")
    schemas.add(Annotated[Page[Item], beneath], "serialization", "sent")
    schemas.build()
    assert list(schemas.components) == ["Page_Item_", "Item", "Color"]
    assert "'#/components/schemas/Page_Item_'" in repr(schemas[number])


@pytest.mark.parametrize("wrap", [lambda type_: type_, lambda type_: list[type_], lambda type_: type_ | None])
@pytest.mark.parametrize("sent", [False, True])
def test_json_in_a_text(wrap: Callable[[Any], Any], sent: bool) -> None:
    schemas = Schemas()
    number = schemas.add(wrap(Json[Item]), "validation", "received")
    if sent:
        schemas.add(Item, "serialization", "sent")
    schemas.build()
    assert list(schemas.components) == ["Item", "Color"]
    assert "'#/components/schemas/Item'" in repr(schemas[number])


def test_one_name_for_two_classes() -> None:
    def inner() -> type[BaseModel]:
        class Item(BaseModel):
            other: int

        return Item

    made, components = make(Item, inner())
    assert made == [{"$ref": "#/components/schemas/Item"}, {"$ref": "#/components/schemas/Item_2"}]
    assert components["Item_2"]["title"] == "Item_2"
    assert "name" in components["Item"]["properties"]
    assert "other" in components["Item_2"]["properties"]


def test_what_has_no_schema_is_left_open(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(BaseModel):
        call: Callable[[], int]
        number: int

    class Worse(BaseModel):
        model_config = ConfigDict(json_schema_extra={})

        @classmethod
        def __get_pydantic_json_schema__(cls, *_: Any) -> Any:
            raise RuntimeError("no schema today")

    class Unknown:
        pass

    with caplog.at_level(logging.WARNING):
        made, components = make(Broken, Worse, Unknown, Item)
    assert made == [{"$ref": "#/components/schemas/Broken"}, {}, {}, {"$ref": "#/components/schemas/Item"}]
    assert components["Broken"]["properties"] == {
        "call": {"title": "Call"},
        "number": {"title": "Number", "type": "integer"},
    }
    assert "no schema today" in caplog.text
    assert "Unknown" in caplog.text


def test_infinite_defaults_are_left_out() -> None:
    class Limits(BaseModel):
        top: float = float("inf")
        low: float = float("nan")

    _, components = make(Limits)
    assert all("default" not in one or one["default"] is None for one in components["Limits"]["properties"].values())


def test_values_and_names_are_not_schemas() -> None:
    given = {
        "properties": {"prefixItems": {"type": "string"}, "$ref": {"type": "string"}, "discriminator": {"const": 1}},
        "default": {"prefixItems": [1], "$ref": "#/components/schemas/A"},
        "examples": [{"discriminator": {"propertyName": "x"}}],
        "enum": [{"anyOf": [{"type": "string"}, {"type": "null"}]}],
    }
    assert convert(given, {"A": "B"}) == given


def test_patterns_are_ecma() -> None:
    assert convert({"pattern": r"(?P<a>x)(?P=a)\Z"}, {}) == {"pattern": r"(?<a>x)\k<a>$"}
    assert convert({"pattern": r"\\Z"}, {}) == {"pattern": r"\\Z"}
