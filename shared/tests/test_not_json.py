"""A body that is no JSON, for handlers that need JSON: the error is the one that FastAPI has over HTTP."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from fastapi_stream_core import codec, invalid
from fastapi_stream_core import message as message_module
from fastapi_stream_core.invalid import of_no_json
from fastapi_stream_core.report import describe
from plan_harness import Bench, message
from pydantic import BaseModel
from pydantic_core import from_json


class Order(BaseModel):
    id: int


async def model(m: Order) -> None: ...


async def as_dict(m: dict[str, Any]) -> None: ...


async def numbers(m: list[int]) -> None: ...


async def two(a: Order, b: Order) -> None: ...


async def batch(m: list[Order]) -> None: ...


BODIES = [b"not json", b"{'id': 1}", b'{"id": ', b'{"id": 1} x', b"\x00", b"[1, 2", b"\xc3\xa9"]


@pytest.mark.parametrize("handler", [model, as_dict, numbers, two])
@pytest.mark.parametrize("body", BODIES)
async def test_it_is_what_http_says(handler: Any, body: bytes) -> None:
    app = FastAPI()
    app.post("/")(handler)
    bench = Bench(handler)
    with TestClient(app) as client:
        said = client.post("/", content=body, headers={"content-type": "application/json"}).json()["detail"]
    with pytest.raises(RequestValidationError) as caught:
        await bench.plan(message(body=body, content_type=None, owner=bench.owner))
    assert [{**one, "loc": list(one["loc"])} for one in caught.value.errors()] == said
    assert "JSON decode error" in describe(caught.value)


@pytest.mark.parametrize("body", BODIES)
async def test_one_of_a_batch(body: bytes) -> None:
    bench = Bench(batch, batch=True)
    _, _, ((_, error),) = bench.plan.sift([message(body=body, content_type=None, owner=bench.owner)])
    assert isinstance(error, RequestValidationError)
    assert [one["type"] for one in error.errors()] == ["json_invalid"]


@pytest.mark.parametrize("body", [b"\xff\xfe\xfa", b"[" * 100_000])
async def test_bodies_of_which_http_says_nothing(body: bytes) -> None:
    bench = Bench(model)
    with pytest.raises(RequestValidationError) as caught:
        await bench.plan(message(body=body, content_type=None, owner=bench.owner))
    assert [one["type"] for one in caught.value.errors()] == ["json_invalid"]


@pytest.mark.parametrize("size", [100, 2**21])
async def test_it_is_read_twice_at_most(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(name: str, parse: Any) -> Any:
        def call(*values: Any) -> Any:
            read.append(name)
            return parse(*values)

        return call

    for module in (codec, invalid, message_module):
        monkeypatch.setattr(module, "from_json", counted(module.__name__, from_json))
    monkeypatch.setattr(invalid.json, "loads", counted("json", json.loads))
    bench = Bench(model)
    with pytest.raises(RequestValidationError) as caught:
        await bench.plan(message(body=b"[" + b"1," * (size // 2), content_type=None, owner=bench.owner))
    ((error,)) = caught.value.errors()
    assert error["type"] == "json_invalid"
    assert error["ctx"]["error"]
    assert len(read) == 2


async def text(m: Annotated[str, Body(min_length=10)]) -> None: ...


async def test_a_text_that_is_too_short_is_no_json_either_and_keeps_its_own_error() -> None:
    bench = Bench(text)
    with pytest.raises(RequestValidationError) as caught:
        await bench.plan(message(body=b"abc", content_type=None, owner=bench.owner))
    assert [one["type"] for one in caught.value.errors()] == ["string_too_short"]


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/png"])
async def test_a_body_that_is_declared_as_something_else_keeps_its_own_error(content_type: str) -> None:
    bench = Bench(model)
    with pytest.raises(RequestValidationError) as caught:
        await bench.plan(message(body=b"abc", content_type=content_type, owner=bench.owner))
    assert "json_invalid" not in [one["type"] for one in caught.value.errors()]


def test_an_error_of_a_value_that_took_the_body_stays_beside_it() -> None:
    short = {"type": "string_too_short", "loc": ("body", "a"), "msg": "", "input": b"abc"}
    missing = {"type": "missing", "loc": ("body", "b"), "msg": "", "input": None}
    assert [one["type"] for one in of_no_json([short, missing], b"abc", None)] == ["string_too_short", "json_invalid"]


async def test_a_value_that_is_json_of_another_kind_keeps_its_own_error() -> None:
    bench = Bench(model)
    with pytest.raises(RequestValidationError) as caught:
        await bench.plan(message(body=b"[1]", content_type=None, owner=bench.owner))
    assert [one["type"] for one in caught.value.errors()] == ["model_attributes_type"]
