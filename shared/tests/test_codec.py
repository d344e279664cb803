"""What is JSON already is encoded as FastAPI would, without its encoder."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from fastapi.encoders import jsonable_encoder
from fastapi_stream_core.codec import JSON, encode
from pydantic import BaseModel
from pydantic_core import to_json


class Colour(str, Enum):
    RED = "red"


class Item(BaseModel):
    price: Decimal


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "b": [1.5, True, None, "é"], "c": {"d": []}},
        [],
        {},
        5,
        1e300,
        [float("inf")],
        {"_sa_instance_state": 1, "a": 1},
        {"a": {"_sa": 1}},
        {1: "a", None: "b"},
        {"a": Decimal("1.50")},
        {"at": datetime(2026, 1, 2, tzinfo=timezone.utc), "for": timedelta(seconds=90)},
        [Colour.RED, {"colour": Colour.RED}],
        {"item": Item(price=Decimal("2.0"))},
        (1, 2),
        {"set": {1}},
        [b"bytes"],
    ],
)
def test_values_are_rendered_as_fastapi_does(value: Any) -> None:
    assert encode(value) == (to_json(jsonable_encoder(value)), JSON)
