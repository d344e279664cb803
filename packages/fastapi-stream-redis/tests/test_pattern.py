"""Patterns of channels: Redis' own rules, and linear time whatever channel somebody publishes to."""

from __future__ import annotations

import random
import re
import time

import pytest
from fastapi_stream_redis import PubSub


@pytest.mark.parametrize(
    ("target", "channel", "path"),
    [
        (PubSub("x-{a}-{b}"), "x-1-2", {"a": "1", "b": "2"}),
        (PubSub("x-{a}-{b}"), "x-1-2-3", {"a": "1-2", "b": "3"}),
        (PubSub("x-{a}-{b}"), "x--", None),
        (PubSub("{a}{b}"), "123", {"a": "12", "b": "3"}),
        (PubSub("{a}{b}"), "1", None),
        (PubSub("*{a}-{b}*"), "q.1-2.z", {"a": "1", "b": "2"}),
        (PubSub("{a}.*.{b}"), "1.2.3.4", {"a": "1", "b": "4"}),
        (PubSub("{a}?{b}"), "1x2", {"a": "1", "b": "2"}),
        (PubSub("{a}[x-z]{b}"), "1y2", {"a": "1", "b": "2"}),
        (PubSub("*a*b*"), "xxaxxbxx", {}),
        (PubSub("*a*b*"), "xxbxxaxx", None),
        (PubSub("{a}.é.{b}"), "ü.é.ß", {"a": "ü", "b": "ß"}),
        (PubSub("h??llo", pattern=True), "héllo", {}),
        (PubSub("h?llo", pattern=True), "héllo", None),
        (PubSub("h[]llo", pattern=True), "hllo", None),
        (PubSub("h[^]llo", pattern=True), "hxllo", {}),
        (PubSub("h[c-a]llo", pattern=True), "hbllo", {}),
        (PubSub(r"h[\]]llo", pattern=True), "h]llo", {}),
        (PubSub("h[ab", pattern=True), "hb", {}),
        (PubSub("h[&&^~|]llo", pattern=True), "h~llo", {}),
    ],
)
def test_which_channels_are_meant(target: PubSub, channel: str, path: dict[str, str] | None) -> None:
    assert target.matches(channel) is (path is not None)
    assert target.takes(channel.encode()) is (path is not None or not target.template.names)
    if path is not None:
        assert target.capture(channel) == path


def test_a_channel_that_is_no_text_is_taken_as_redis_takes_it() -> None:
    target = PubSub("a?{b}")
    assert target.takes(b"a\xff\xfe")
    assert not target.takes(b"a\xff.")
    assert PubSub("a.{b}").capture(b"a.\xff1".decode(errors="replace")) == {"b": "\ufffd1"}


TEMPLATES = [
    "x-{a}-{b}",
    "{a}{b}{c}{d}",
    "*{a}-{b}*",
    "*a*a*a*b",
    "{a}?{b}?{c}",
    "{a}[a-c]{b}[a-c]{c}-",
    "a*{x}a{y}a*b",
]
CHANNELS = [
    "x-" + "-" * 60_000,
    "x-" + "1-" * 30_000 + ".",
    "a" * 60_000,
    "a" * 59_999 + ".",
    "a-" * 30_000,
    "." * 60_000,
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_long_channel_takes_linear_time(template: str) -> None:
    target = PubSub(template)
    for channel in CHANNELS:
        began = time.process_time()
        target.matches(channel)
        target.capture(channel)
        assert time.process_time() - began < 0.5


def test_the_outcome_is_that_of_a_regular_expression() -> None:
    chance = random.Random(1)
    for _ in range(3000):
        pieces = [chance.choice(["{}", "*", "?", "-", ".", "1", "[1-]"]) for _ in range(chance.randrange(1, 6))]
        template, expression, used = "", "", 0
        for piece in pieces:
            if piece == "{}":
                if used == 4:
                    continue
                template += f"{{{'abcd'[used]}}}"
                expression += f"(?P<{'abcd'[used]}>[^.]+)"
                used += 1
            else:
                template += piece
                expression += {"*": ".*", "?": ".", "[1-]": "[1-]"}.get(piece, re.escape(piece))
        channel = "".join(chance.choice("1-.2") for _ in range(chance.randrange(8)))
        expected = re.fullmatch(expression, channel, re.S)
        target = PubSub(template, pattern=True)
        assert target.matches(channel) is (expected is not None), (template, channel)
        if expected is not None:
            assert target.capture(channel) == expected.groupdict(), (template, channel)
