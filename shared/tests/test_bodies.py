"""The table of bodies in the documentation."""

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Depends
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
    (b"7", None, [7, "7", "7", INVALID, INVALID, b"7", 7]),
    (b"true", None, [True, "true", "true", INVALID, INVALID, b"true", 1]),
    (b"hi", None, [b"hi", "hi", "hi", INVALID, INVALID, b"hi", INVALID]),
    (b"7", JSON, [7, INVALID, INVALID, INVALID, INVALID, b"7", 7]),
]


def message(body: bytes, content_type: str | None) -> LocalMessage:
    return LocalMessage(body, Outgoing("in", body, "c-1", [], content_type, None, {}, not body), "in")


async def received(broker: LocalBroker, body: bytes, content_type: str | None) -> None:
    async with Feed(broker, lambda number: body, lambda one: message(one, content_type)) as feed:
        feed.prepare(1)
        await asyncio.wait_for(feed.run(), DEADLINE)


@pytest.mark.parametrize(("body", "content_type", "expected"), TABLE)
async def test_what_a_parameter_gets(body: bytes, content_type: str | None, expected: list[Any]) -> None:
    got: list[Any] = []
    for kind in KINDS:
        broker, seen = LocalBroker(logger=None), list[Any]()

        async def by_name(x: kind) -> None:  # type: ignore[valid-type]
            seen.append(x)  # noqa: B023 (it is handled before the next one is made)

        async def whole(body: kind) -> None:  # type: ignore[valid-type]
            seen.append(body)  # noqa: B023

        broker.subscriber("in")(by_name if kind is int else whole)
        await received(broker, body, content_type)
        got.append(seen[0] if seen else INVALID)
    assert got == expected


@pytest.mark.parametrize("more", [False, True], ids=["alone", "with a dependency"])
@pytest.mark.parametrize(("body", "content_type", "expected"), TABLE)
async def test_an_item_of_a_batch_is_what_a_parameter_gets(
    body: bytes, content_type: str | None, expected: list[Any], more: bool
) -> None:
    """But that an item is the whole body, and no key of it."""
    got: list[Any] = []
    for kind in KINDS:
        broker, seen = LocalBroker(logger=None), list[Any]()

        async def whole(items: list[kind]) -> None:  # type: ignore[valid-type]
            seen.extend(items)  # noqa: B023 (it is handled before the next one is made)

        async def also(items: list[kind], other: Annotated[int, Depends(lambda: 1)]) -> None:  # type: ignore[valid-type]
            seen.extend(items)  # noqa: B023

        broker.subscriber("in", batch=True)(also if more else whole)
        await received(broker, body, content_type)
        got.append(seen[0] if seen else INVALID)
    assert got == [
        INVALID if kind is int and value == 5 else value for kind, value in zip(KINDS, expected, strict=True)
    ]
