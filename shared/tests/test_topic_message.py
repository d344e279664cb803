"""What a record of a topic says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from unittest.mock import ANY

import pytest
from fastapi_stream_core import topic_message
from fastapi_stream_core.headers import MOST_HEADERS
from fastapi_stream_core.partition import Offsets
from fastapi_stream_core.topic_message import TopicMessage


class Message(TopicMessage):
    __slots__ = ()
    pairs_of = staticmethod(lambda raw: raw)


def message(pairs: Iterable[tuple[str, Any]] | None, value: bytes | None = b"{}") -> Message:
    return Message(pairs, value, 7, ("orders", 3), Offsets(0))


@pytest.mark.parametrize(
    ("pairs", "content_type", "reply_to"),
    [
        (None, None, None),
        ([], None, None),
        ([("content-type", b"application/json")], "application/json", None),
        ([("Content-Type", b"text/plain"), ("REPLY_TO", b"answers")], "text/plain", "answers"),
        ([("content-type", b"text/plain"), ("content-type", b"text/html")], "text/html", None),
        ([("content-type", b"text/plain"), ("content-type", None)], "text/plain", None),
        ([("content-type", b""), ("reply_to", b"")], None, None),
        ([("content-type", b"\xff"), ("reply_to", b"\xff")], None, None),
        ([("x-tenant", b"acme"), ("reply_to", b"answers")], None, "answers"),
    ],
)
def test_content_type_and_reply_address(
    pairs: list[tuple[str, Any]] | None, content_type: str | None, reply_to: str | None
) -> None:
    assert message(pairs).content_type == content_type
    assert message(pairs).reply_to == reply_to
    both = message(pairs)
    assert (both.reply_to, both.content_type) == (reply_to, content_type)


def test_names_of_headers_without_end_keep_no_memory() -> None:
    for number in range(2 * topic_message.OTHERS):
        assert message([(f"x-{number}", b""), ("Reply_To", b"answers")]).reply_to == "answers"
    assert len(topic_message._others) <= topic_message.OTHERS
    topic_message._others.clear()
    long = "x" * 10_000
    assert message([(long, b""), ("Reply_To", b"answers")]).reply_to == "answers"
    assert long not in topic_message._others


def test_headers_without_end_are_read_as_far_as_a_thousand() -> None:
    pairs = [("reply_to", b"answers"), *[("x", b"1")] * 300_000, ("correlation_id", b"last"), ("content-type", b"x/y")]
    one = message(pairs)
    assert (one.reply_to, one.content_type, one.read_correlation_id()) == ("answers", None, None)
    assert len(list(one.pairs)) == len(one.headers.multi_items()) == MOST_HEADERS
    assert one.size > 600_000  # what is held counts whole


def test_a_tombstone_is_no_empty_text() -> None:
    text = [("content-type", b"text/plain")]
    tombstone, empty = message(text, None), message(text, b"")
    assert (tombstone.decoded(), empty.decoded()) == (None, "")
    tombstone.renew()
    empty.renew()
    assert (tombstone.decoded(), empty.decoded()) == (None, "")


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("correlation_id", b"c-1")], "c-1"),
        ([("Correlation_Id", b"c-1"), ("correlation_id", None)], "c-1"),
        ([("correlation_id", b"c-1"), ("correlation_id", b"c-2")], "c-2"),
        ([("correlation-idx", b"c-1"), ("correlation_id", b"\xff")], None),
        (None, None),
    ],
)
def test_correlation_id(pairs: list[tuple[str, Any]] | None, expected: str | None) -> None:
    assert message(pairs).read_correlation_id() == expected
    assert message(pairs).correlation_id == (expected or ANY)


def test_where_it_is() -> None:
    one = message([("a", b"1"), ("a", None)], None)
    assert (one.body, one.decoded()) == (b"", None)
    assert (one.address, one.partition, one.position) == ("orders", 3, "partition 3 offset 7")
    assert one.identity == (("orders", 3), 7, id(one.offsets))
    assert one.headers["A"] == "1"
