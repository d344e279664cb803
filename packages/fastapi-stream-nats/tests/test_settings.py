"""What the server says of a consumer, as the client gives it on: it may lack anything, and be of any type."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi_stream_nats.settings import changes, paused_until
from nats.js.api import ConsumerConfig, ConsumerInfo

INFO: dict[str, Any] = {"name": "d", "stream_name": "s", "created": "2026-01-01T00:00:00Z"}
DATE = "2026-01-01T12:00:00Z"


@pytest.mark.parametrize(
    ("said", "until"),
    [
        ({"paused": True, "config": {"pause_until": DATE}}, DATE),
        ({"paused": True, "config": {}}, "it is resumed"),
        ({"paused": True, "config": {"pause_until": 7}}, "it is resumed"),
        ({"paused": True}, "it is resumed"),
        ({"paused": False, "config": {"pause_until": DATE}}, None),
        ({"paused": "yes", "config": {"pause_until": DATE}}, None),
        ({"config": {"pause_until": DATE}}, None),
    ],
)
def test_until_when_a_consumer_is_paused(said: dict[str, Any], until: str | None) -> None:
    assert paused_until(ConsumerInfo.from_response({**INFO, **said})) == until


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        ({"filter_subject": "a"}, {"filter_subjects": ["a"]}, ""),
        ({"filter_subjects": ["a", "b"]}, {"filter_subjects": ["b", "a"]}, ""),
        ({"filter_subject": "a"}, {"filter_subject": "b"}, "filter_subjects=\"['b']\""),
        ({"filter_subject": "a"}, {}, "filter_subjects='[]'"),
        ({"deliver_group": "a"}, {"deliver_group": "b\n"}, "deliver_group='b\\n'"),
        ({"deliver_group": ""}, {}, ""),
        ({"headers_only": False}, {}, ""),
        ({"ack_wait": 30_000_000_000}, {"ack_wait": 2_000_000_000}, "ack_wait='2.0'"),
        ({"max_ack_pending": 7}, {"max_ack_pending": 8, "metadata": {"a": "b"}, "description": "x"}, ""),
    ],
)
def test_what_was_changed(before: dict[str, Any], now: dict[str, Any], shown: str) -> None:
    assert changes(ConsumerConfig.from_response(before), ConsumerConfig.from_response(now)) == shown
