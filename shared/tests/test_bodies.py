"""The table of bodies in the documentation."""

import asyncio
from typing import Any

import pytest
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.reference import LocalBroker, LocalMessage
from pydantic import BaseModel

DEADLINE = 30.0
INVALID = object()
JSON, TEXT = "application/json", "text/plain"


class Model(BaseModel):
    x: int


OBJECT = b'{"x": 5}'
MODEL = Model(x=5)
KINDS: list[Any] = [Any, str, str | None, Model, Model | None, bytes, int]
TABLE: list[tuple[bytes, str | None, list[Any]]] = [
    (b"", None, [None, INVALID, None, INVALID, None, b"", INVALID]),
    (b"", TEXT, ["", "", "", INVALID, INVALID, b"", INVALID]),
    (b"null", JSON, [None, INVALID, None, INVALID, None, b"null", INVALID]),
    (OBJECT, None, [{"x": 5}, INVALID, INVALID, MODEL, MODEL, OBJECT, 5]),
    (OBJECT, JSON, [{"x": 5}, INVALID, INVALID, MODEL, MODEL, OBJECT, 5]),
    (OBJECT, TEXT, [OBJECT.decode(), OBJECT.decode(), OBJECT.decode(), MODEL, MODEL, OBJECT, 5]),
    (b"hi", TEXT, ["hi", "hi", "hi", INVALID, INVALID, b"hi", INVALID]),
    (b"7", JSON, [7, INVALID, INVALID, INVALID, INVALID, b"7", 7]),
]


@pytest.mark.parametrize(("body", "content_type", "expected"), TABLE)
async def test_what_a_parameter_gets(body: bytes, content_type: str | None, expected: list[Any]) -> None:
    got: list[Any] = []
    for kind in KINDS:
        broker, seen = LocalBroker(logger=None), list[Any]()

        async def by_name(x: kind) -> None:  # type: ignore[valid-type]
            seen.append(x)  # noqa: B023 (it is handled before the next one is made)

        async def whole(body: kind) -> None:  # type: ignore[valid-type]
            seen.append(body)  # noqa: B023

        typed = by_name if kind is int else whole
        broker.subscriber("in")(typed)

        def message(body: bytes) -> LocalMessage:
            outgoing = Outgoing("in", body, "c-1", [], content_type, None, {}, not body)
            return LocalMessage(body, outgoing, "in")

        async with Feed(broker, lambda number: body, message) as feed:
            feed.prepare(1)
            await asyncio.wait_for(feed.run(), DEADLINE)
        got.append(seen[0] if seen else INVALID)
    assert got == expected
