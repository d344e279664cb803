"""What the server says of a consumer, as the client gives it on: it may lack anything, and be of any type."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import count
from typing import Any

import pytest
from fastapi_stream_core.subscription import Status
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_nats import NatsBroker
from fastapi_stream_nats.settings import changes, paused_until
from nats.js.api import ConsumerConfig, ConsumerInfo
from toy_nats import ToyServer, message

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


STATE = ("messages", "bytes", "first_seq", "last_seq", "consumer_count")
STREAM = {**INFO, "config": {"name": "s", "subjects": ["s"]}, "state": dict.fromkeys(STATE, 0)}
CONSUMER = {**INFO, "config": {"durable_name": "d", "ack_policy": "explicit", "filter_subject": "s"}}
ODD: list[Any] = [
    [],
    7,
    {},
    {**CONSUMER, "created": None},
    {**CONSUMER, "created": "yesterday"},
    {**CONSUMER, "config": None},
    {**CONSUMER, "config": []},
    {**CONSUMER, "config": {"filter_subjects": 7, "max_deliver": "x"}},
    {**CONSUMER, "config": {"filter_subject": "t", "metadata": ["x"]}},
    {**CONSUMER, "ack_floor": {"consumer_seq": "x", "stream_seq": "y"}},
    {"error": "x"},
]


async def test_answers_that_are_none() -> None:
    """What is wrong with them is said as of a server that does not answer, and a good one ends it."""
    answers = iter([CONSUMER, *ODD])
    async with ToyServer() as server:
        broker = NatsBroker(server.url)

        @broker.subscriber("s", stream="s", durable="d", pull_sub=True)
        async def handler(msg: str) -> None: ...

        async def answer() -> None:
            for times in count(1):
                await server.until(b"PUB $JS.API.", 30, times)
                subject, reply = re.findall(rb"PUB (\$JS\.API\.\S+) (\S+) ", bytes(server.got))[times - 1]
                (number,) = [one for name, one in server.subscriptions.items() if reply.decode().startswith(name[:-1])]
                if b".STREAM." in subject:
                    await server.send(message(reply, number, json.dumps(STREAM).encode()))
                elif b".CONSUMER.INFO." in subject:
                    await server.send(message(reply, number, json.dumps(next(answers, CONSUMER)).encode()))

        answering = asyncio.ensure_future(answer())
        (subscriber,) = broker.subscribers
        async with broker:
            await until(lambda: subscriber.status is Status.BACKING_OFF)
            await until(lambda: subscriber.running)
            assert next(answers, None) is None
        answering.cancel()
    assert "restarted" not in broker.report.counts
