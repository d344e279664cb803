"""The YAML writer against a real reader."""

from __future__ import annotations

import random
from typing import Any

import pytest
import yaml
from fastapi_stream_core.asyncapi.yaml import to_yaml

PIECES = [
    *"ab \n:#-'\"\\\t01.e+{}[],&*!|>%@`?=~é日😀_/$",
    *("\u2028", "\x85", "\x7f", "\x00", "\ufeff", "\r", "yes", "No", "null", "true", "<<", "\ud800", "1e5", "0x1f"),
]


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        "",
        "text",
        {"asyncapi": "3.0.0", "info": {"version": "1.0", "title": "Orders"}},
        {"description": "First line.\n\n  indented\nlast\n"},
        {"description": "no newline\nat the end"},
        {"description": "\n\ntwo\n\n"},
        {"description": " starts\nwith a space"},
        {"a": [[1, [2, []]], {"b": {}}, [{"c": None, "d": [True, False]}]]},
        {"y": "n", "null": "~", "1": "1", "1.5": "1e3", "2020-01-01": "12:30:45", "=": "<<", "": "-"},
        {"numbers": [0, -1, 1.5, 1e16, 1e-7, -2.5e300, 10**30]},
        {"$ref": "#/components/schemas/Order", "url": "http://a/b?c#d", "key: x": "a: b", "trailing:": "a:"},
        {"long": "word " * 100, "long key " * 20: 1},
    ],
)
def test_round_trip(value: Any) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


def test_random_round_trips() -> None:
    dice = random.Random(3)

    def text() -> str:
        return "".join(dice.choice(PIECES) for _ in range(dice.randint(0, 9)))

    def value(depth: int = 0) -> Any:
        kind = dice.random()
        if depth > 3 or kind < 0.5:
            number = dice.uniform(-1, 1) * 10 ** dice.randint(-30, 30)
            return dice.choice([text(), text(), None, True, False, dice.randint(-99, 99), number])
        if kind < 0.75:
            return [value(depth + 1) for _ in range(dice.randint(0, 4))]
        return {text(): value(depth + 1) for _ in range(dice.randint(0, 4))}

    for _ in range(1500):
        made = value()
        assert yaml.safe_load(to_yaml(made)) == made


def test_readable() -> None:
    document = {"info": {"title": "Orders", "version": "1.0", "description": "One.\nTwo."}, "tags": [{"name": "a b"}]}
    assert to_yaml(document) == (
        'info:\n  title: Orders\n  version: "1.0"\n  description: |-\n    One.\n    Two.\ntags:\n  - name: a b\n'
    )
