"""The table of capabilities in the documentation is the one that the conformance suite runs by."""

from __future__ import annotations

import importlib
from pathlib import Path

from fastapi_stream_core.testing import Features

PAGE = Path(__file__).parent.parent / "docs" / "capabilities.md"
BROKERS = ("kafka", "confluent", "rabbit", "nats", "redis")


def records() -> list[Features]:
    return [one for broker in BROKERS for one in importlib.import_module(f"fastapi_stream_{broker}.testing").FEATURES]


def table() -> str:
    """The table as the page has it."""
    kinds = records()
    names = list(kinds[0].table())
    lines = ["| broker | kind | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|" + "---|" * (len(names) + 2))
    for one in kinds:
        marks = ["yes" if able else "-" for able in one.table().values()]
        lines.append(f"| {one.broker} | {one.kind} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def test_the_page_says_what_the_tests_know() -> None:
    assert table() in PAGE.read_text(), f"the table has to be:\n{table()}"
