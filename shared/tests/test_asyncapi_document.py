"""What the document says of subscribers and publishers."""

import logging
from decimal import Decimal
from enum import Enum
from functools import wraps
from typing import Annotated, Any, Literal, Union

import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Path
from fastapi_stream_core.asyncapi import AsyncAPI
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.response import Response
from pydantic import BaseModel, ConfigDict, computed_field, field_validator

from asyncapi_check import check
from asyncapi_toy import OtherRouter, ToyBroker, ToyRouter


class Order(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"id": 1, "lines": {"tea": 2}}, {"id": "none"}]})

    id: int
    lines: dict[str, int]


class Invoice(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"total": 7.5}]})

    total: float

    @computed_field
    def tax(self) -> float:
        return self.total / 5


class Place(str, Enum):
    HERE = "here"
    THERE = "there"


def document(*routers: Any, **options: Any) -> dict[str, Any]:
    app = FastAPI(title="Shop", version="1.2")
    for router in routers:
        app.include_router(router)
        router.bind(app)
    made = AsyncAPI(**options)
    made.bind(app)
    found = made.to_specification().to_jsonable()
    check(found, secrets=("secret",))
    return found


def test_a_handler() -> None:
    router = ToyRouter(tags=["shop"])

    @router.subscriber("orders.{place}")
    @router.publisher("invoices", headers={"authorization": "secret"})
    async def bill(
        order: Order,
        place: Annotated[Place, Path(description="Where it was ordered.")],
        x_trace: Annotated[str, Header(description="From the gateway.")],
        tenant: Annotated[str, Header()] = "none",
    ) -> Invoice:
        """Write the bill.

        With *every* line.
        \f
        Not for readers.
        """
        return Invoice(total=len(order.lines))

    found = document(router)
    assert found["info"] == {"title": "Shop", "version": "1.2"}
    assert found["servers"] == {"kafka": {"host": "localhost:9092", "protocol": "kafka"}}
    assert list(found["channels"]) == ["orders.place", "bill_reply", "invoices"]
    channel = found["channels"]["orders.place"]
    assert channel["address"] == "orders.{place}"
    assert channel["parameters"] == {"place": {"description": "Where it was ordered.", "enum": ["here", "there"]}}
    assert channel["messages"] == {"Order": {"$ref": "#/components/messages/Order"}}
    assert channel["servers"] == [{"$ref": "#/servers/kafka"}]

    operation = found["operations"]["bill"]
    assert operation == {
        "action": "receive",
        "channel": {"$ref": "#/channels/orders.place"},
        "summary": "Write the bill.",
        "description": "With *every* line.",
        "tags": [{"name": "shop"}],
        "bindings": {"kafka": {"groupId": {"type": "string", "enum": ["g"]}, "bindingVersion": "0.5.0"}},
        "messages": [{"$ref": "#/channels/orders.place/messages/Order"}],
        "reply": {
            "address": {"$ref": "#/components/replyAddresses/reply_to"},
            "channel": {"$ref": "#/channels/bill_reply"},
            "messages": [{"$ref": "#/channels/bill_reply/messages/Invoice"}],
        },
    }
    assert found["operations"]["send_invoices"]["action"] == "send"

    message = found["components"]["messages"]["Order"]
    assert message["contentType"] == "application/json"
    assert message["payload"] == {"$ref": "#/components/schemas/Order"}
    assert message["examples"] == [{"payload": {"id": 1, "lines": {"tea": 2}}}]
    assert message["headers"] == {
        "type": "object",
        "properties": {
            "x-trace": {"description": "From the gateway.", "type": "string"},
            "tenant": {"type": "string", "default": "none"},
            "correlation_id": {"type": "string"},
        },
        "required": ["x-trace"],
    }
    sent = found["channels"]["invoices"]["messages"]["Invoice"]["$ref"].rpartition("/")[2]
    assert found["components"]["messages"][sent]["headers"]["properties"]["authorization"] == {"type": "string"}
    assert found["components"]["messages"][sent]["bindings"]["kafka"]["key"] == {"type": "string"}
    assert found["components"]["messages"][sent]["examples"] == [{"payload": {"total": 7.5, "tax": 1.5}}]
    assert "tax" in found["components"]["schemas"]["Invoice"]["properties"]
    assert list(found["components"]["schemas"]) == ["Order", "Invoice"]


def test_examples_of_the_parameter() -> None:
    class Fragile(Invoice):
        @field_validator("total")
        @classmethod
        def check(cls, value: float) -> float:
            raise KeyError(value)

    router = ToyRouter()
    router.publisher("out", schema=Fragile)
    examples = [{"id": 7, "lines": {}}, {"id": 8, "lines": None}]

    @router.subscriber("in")
    async def bill(order: Annotated[Order, Body(description="What was ordered.", examples=examples)]) -> None: ...

    messages = document(router)["components"]["messages"]
    assert messages["Order"]["examples"] == [{"payload": {"id": 7, "lines": {}}}]
    assert messages["Order"]["payload"]["description"] == "What was ordered."
    assert "examples" not in messages["Fragile"]


def test_headers_and_bodies_of_dependencies() -> None:
    router = ToyRouter()

    def user(x_user: Annotated[str, Header()], b: Annotated[Invoice, Body()]) -> str:
        return x_user

    @router.subscriber("orders")
    async def bill(a: Order, user: Annotated[str, Depends(user)]) -> None: ...

    found = document(router)
    (message,) = found["components"]["messages"].values()
    assert "x-user" in message["headers"]["properties"]
    name = message["payload"]["$ref"].rpartition("/")[2]
    assert list(found["components"]["schemas"][name]["properties"]) == ["a", "b"]
    assert "reply" not in found["operations"]["bill"]


def test_a_model_of_headers() -> None:
    router = ToyRouter()

    class Traced(BaseModel):
        x_trace: str
        x_parent: str | None = None

    @router.subscriber("orders")
    async def bill(order: Order, traced: Annotated[Traced, Header()]) -> None: ...

    headers = document(router)["components"]["messages"]["Order"]["headers"]
    assert list(headers["properties"]) == ["x-trace", "x-parent", "correlation_id"]
    assert headers["required"] == ["x-trace"]


@pytest.mark.parametrize(
    ("payload", "content_type", "schema"),
    [
        (str, "text/plain", {"type": "string"}),
        (bytes, "application/octet-stream", {"type": "string", "format": "binary"}),
        (int, "application/json", {"type": "integer"}),
        (list[int], "application/json", {"type": "array", "items": {"type": "integer"}}),
        (str | None, "text/plain", {"type": ["string", "null"]}),
        (Union[str, int], "application/json", None),  # noqa: UP007
        (Literal["a", "b"], "text/plain", {"enum": ["a", "b"], "type": "string"}),
        (Order | None, "application/json", None),
    ],
)
def test_content_types(payload: Any, content_type: str, schema: Any) -> None:
    router = ToyRouter()
    router.publisher("out", schema=payload)

    @router.subscriber("in")
    async def handle(message: payload) -> None: ...

    for message in document(router)["components"]["messages"].values():
        assert message["contentType"] == content_type
        if schema is not None:
            assert {key: value for key, value in message["payload"].items() if key != "title"} == schema


def test_no_payload_and_any_payload() -> None:
    router = ToyRouter()
    router.publisher("nothing.known")

    @router.subscriber("a")
    async def empty() -> None: ...

    @router.subscriber("b")
    async def whatever(message: Any) -> Response:
        return Response(b"")

    found = document(router)
    assert list(found["operations"]) == ["empty", "whatever", "send_nothing.known"]
    assert "contentType" not in found["components"]["messages"]["a_message"]


def test_a_batch_is_documented_by_its_items() -> None:
    router = ToyRouter()
    router.publisher("out", batch=True, schema=list[Invoice])

    @router.subscriber("in", batch=True)
    async def handle(orders: list[Order]) -> None: ...

    messages = document(router)["components"]["messages"]
    assert messages["Order"]["payload"] == {"$ref": "#/components/schemas/Order"}
    assert messages["Invoice"]["payload"] == {"$ref": "#/components/schemas/Invoice"}


def test_one_channel_for_one_address() -> None:
    router = ToyRouter()

    @router.subscriber("orders")
    async def first(order: Order, a: Annotated[str, Header()]) -> None: ...

    @router.subscriber("orders", "late")
    async def second(order: Order, b: Annotated[str, Header()] = "") -> None: ...

    @router.subscriber("orders", kind="list")
    async def third(order: str) -> None: ...

    router.publisher("orders", schema=Order)
    found = document(router)
    assert list(found["channels"]) == ["orders", "late", "orders_list"]
    assert list(found["operations"]) == ["first", "second_orders", "second_late", "third", "send_orders"]
    assert list(found["channels"]["orders"]["messages"]) == ["Order"]
    headers = found["components"]["messages"]["Order"]["headers"]
    assert list(headers["properties"]) == ["a", "b", "correlation_id"]
    assert headers["required"] == ["a"]


def test_names() -> None:
    router = ToyRouter()

    @router.subscriber("weird/na me{{x}}.ün")
    async def handle(order: Order) -> None: ...

    @router.subscriber("titled", title="The Orders!", description="All of them.")
    async def titled(order: Order) -> None:
        """Not this one."""

    def again() -> None:
        @router.subscriber("more")
        async def handle(order: Order) -> None: ...

    again()

    @router.subscriber("*")
    async def everything(order: Order) -> None: ...

    found = document(router)
    assert list(found["operations"]) == ["handle", "The_Orders", "handle_2", "everything"]
    assert found["operations"]["The_Orders"]["title"] == "The Orders!"
    assert found["operations"]["The_Orders"]["description"] == "All of them."
    assert "summary" not in found["operations"]["The_Orders"]
    assert found["channels"]["any"] | {"messages": {}, "servers": []} == {
        "address": None,
        "messages": {},
        "title": "*",
        "servers": [],
        "x-pattern": "*",
    }


def test_what_is_hidden() -> None:
    router, hidden, inner = ToyRouter(), ToyRouter(include_in_schema=False), ToyRouter()
    router.publisher("secret-out", include_in_schema=False)

    @router.subscriber("secret-in", include_in_schema=False)
    async def handle(order: Order) -> None: ...

    @inner.subscriber("secret-too")
    async def other(order: Order) -> None: ...

    hidden.include_router(inner)
    router.include_router(hidden)
    found = document(router, OtherRouter(include_in_schema=False))
    assert found["operations"] == {}
    assert list(found["servers"]) == ["kafka"]


def test_no_reply_and_none() -> None:
    router = ToyRouter()

    @router.subscriber("a", no_reply=True)
    async def silent(order: Order) -> Invoice: ...

    @router.subscriber("b")
    async def maybe(order: Order) -> Invoice | None: ...

    @router.subscriber("c", response_model=None)
    async def off(order: Order) -> Invoice: ...

    @router.subscriber("d", response_model=Order)
    async def other(order: Order) -> Any: ...

    found = document(router)["operations"]
    assert [name for name, operation in found.items() if "reply" in operation] == ["maybe", "other"]
    assert found["other"]["reply"]["messages"] == [{"$ref": "#/channels/other_reply/messages/Order"}]


def test_a_publisher_beneath_a_wrapper_sends_its_results() -> None:
    router = ToyRouter()

    @router.publisher("invoices")
    async def bill(order: Order) -> Invoice:
        return Invoice(total=len(order.lines))

    @wraps(bill)
    async def guarded(order: Order) -> Invoice:
        return await bill(order)

    router.subscriber("orders")(guarded)
    found = document(router)
    (message,) = (one for one in found["operations"].values() if one["action"] == "send")
    assert [one["$ref"].rpartition("/")[2] for one in message["messages"]] == ["Invoice"]


def test_where_a_publisher_expects_answers() -> None:
    router = ToyRouter()
    router.publisher("questions", reply_to="answers", schema=Order)
    router.publisher("more", reply_to="elsewhere", schema=Order)

    @router.subscriber("answers", kind="list")
    async def handle(order: Order) -> None: ...

    found = document(router)
    assert found["operations"]["send_questions"]["reply"] == {"channel": {"$ref": "#/channels/answers"}}
    assert found["channels"]["elsewhere"]["address"] == "elsewhere"
    assert "replyAddresses" not in found["components"]


def test_several_brokers_in_one_document() -> None:
    first, same = ToyRouter("a:1"), ToyRouter("a:1")
    other, third = OtherRouter("b:1"), ToyRouter("user:secret@c:1,d:1")

    def declare(router: Any) -> None:
        @router.subscriber("orders")
        async def handle(order: Order) -> None: ...

    for router in (first, same, other, third):
        declare(router)
    found = document(first, same, other, third)
    assert {name: server["host"] for name, server in found["servers"].items()} == {
        "kafka": "a:1",
        "nats": "b:1",
        "kafka_2": "c:1",
        "kafka_3": "d:1",
    }
    assert found["servers"]["kafka_2"]["security"] == [{"$ref": "#/components/securitySchemes/user-password"}]
    assert list(found["channels"]) == ["orders", "nats_orders", "kafka_orders"]
    assert found["channels"]["kafka_orders"]["servers"] == [
        {"$ref": "#/servers/kafka_2"},
        {"$ref": "#/servers/kafka_3"},
    ]
    assert list(found["operations"]) == ["handle", "handle_2", "handle_3", "handle_4"]


def test_nested_routers() -> None:
    core, inner, plain = ToyRouter("a:1", tags=["core"]), ToyRouter(), APIRouter()
    core.include_router(inner, tags=["more"])
    plain.include_router(core)

    @inner.subscriber("orders")
    async def handle(order: Order) -> None: ...

    app = FastAPI()
    app.include_router(plain)
    core.bind(app)
    found = core.schema.to_specification().to_jsonable()
    check(found)
    assert list(found["servers"]) == ["kafka"]
    assert found["operations"]["handle"]["tags"] == [{"name": "core"}, {"name": "more"}]


def test_a_declaration_that_fails_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    router = ToyRouter()

    @router.subscriber("good")
    async def good(order: Order) -> None: ...

    @router.subscriber("bad")
    async def bad(order: Order) -> None: ...

    def broken() -> Any:
        raise RuntimeError("no idea")

    router.broker.subscribers[1].describe = broken  # type: ignore[method-assign]
    router.subscriber("without a handler")
    with caplog.at_level(logging.WARNING):
        assert list(document(router)["operations"]) == ["good"]
    assert "no idea" in caplog.text


def test_the_specification() -> None:
    broker = ToyBroker(description="The one.", protocol_version="4.1", specification_tags=["test", {"name": "b"}])
    made = AsyncAPI(
        broker,
        title="T",
        version="2",
        description="D",
        terms_of_service="https://example.com/terms",
        license={"name": "MIT", "identifier": "MIT"},
        contact={"email": "a@example.com"},
        tags=("x", {"name": "x"}, Place.HERE),
        external_docs={"url": "https://example.com"},
        identifier="urn:com:example",
        schema_version="3.1.0",
    )
    made.add_broker(broker)
    found = made.to_specification().to_jsonable()
    check(found)
    assert found["asyncapi"] == "3.1.0"
    assert found["id"] == "urn:com:example"
    assert found["info"] == {
        "title": "T",
        "version": "2",
        "description": "D",
        "termsOfService": "https://example.com/terms",
        "contact": {"email": "a@example.com"},
        "license": {"name": "MIT"},
        "tags": [{"name": "x"}, {"name": "here"}],
        "externalDocs": {"url": "https://example.com"},
    }
    assert found["servers"]["kafka"] == {
        "host": "localhost:9092",
        "protocol": "kafka",
        "protocolVersion": "4.1",
        "description": "The one.",
        "tags": [{"name": "test"}, {"name": "b"}],
    }


def test_the_app_says_what_the_specification_does_not() -> None:
    app = FastAPI(
        title="Shop",
        version="3",
        description="All of it.",
        terms_of_service="https://example.com/terms",
        contact={"name": "Ann", "url": "https://example.com"},
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    app.openapi_external_docs = {"url": "https://example.com/more"}  # type: ignore[attr-defined]
    first, second = (
        ToyRouter(specification=AsyncAPI(schema_version="3.1")),
        OtherRouter(specification=AsyncAPI(version="9")),
    )
    for router in (first, second):
        app.include_router(router)
        router.bind(app)
    for router in (first, second):
        found = router.schema.to_specification().to_jsonable()
        check(found)
        assert found["asyncapi"] == "3.1.0"
        assert found["info"]["title"] == "Shop"
        assert found["info"]["version"] == "9"
        assert found["info"]["license"] == {"name": "MIT"}
        assert found["info"]["externalDocs"] == {"url": "https://example.com/more"}
        assert list(found["servers"]) == ["kafka", "nats"]


def test_without_an_app() -> None:
    found = ToyRouter().schema.to_specification().to_jsonable()
    check(found)
    assert found["info"] == {"title": FastAPI().title, "version": FastAPI().version}


def test_wrong_specifications() -> None:
    with pytest.raises(SetupError, match=r"2\.6\.0"):
        AsyncAPI(schema_version="2.6.0")
    with pytest.raises(SetupError, match="use 'title'"):
        AsyncAPI(titel="x")  # type: ignore[call-arg]


def test_values_that_are_no_json() -> None:
    class Odd(BaseModel):
        model_config = ConfigDict(
            json_schema_extra={"examples": [{"a": float("nan")}], "x-place": Place.HERE, "x-two": (1, Decimal(2))}
        )
        a: float = 1.0

    router = ToyRouter()
    router.publisher("a", schema=Odd, description="lone \ud800 surrogate")
    made = router.schema.to_specification()
    made.to_json().encode()
    made.to_yaml().encode()
    check(made.to_jsonable())
    assert made.to_jsonable()["components"]["schemas"]["Odd"]["x-two"] == [1, "2"]


def test_the_order_is_stable() -> None:
    def make() -> str:
        router = ToyRouter()
        for index in range(20):
            router.publisher(f"out-{index}", schema=[Order, Invoice, str][index % 3])
        return router.schema.to_specification().to_json()

    assert make() == make()
