"""Nobody takes what is published to a stream of somebody else: whether it waits is what JetStream says of the stream.

The server has no JetStream, and a client of it answers for one that has lost the server of the stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import nats
import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_nats import BrokerUnavailable, NatsBroker, PublishError
from nats.aio.msg import Msg

from servers import ProcessServer, running

CONFIG = {"name": "out", "retention": "limits", "storage": "file", "discard": "old", "num_replicas": 1}
STATE = {"messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "consumer_count": 0}
INFO = {"config": {**CONFIG, "subjects": ["out.*"]}, "state": STATE, "created": "2026-01-01T00:00:00Z"}
OFFLINE = {"error": {"code": 500, "err_code": 10118, "description": "stream is offline"}}
MISSING = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}


class PlainServer(ProcessServer):
    """A server without JetStream."""

    def command(self) -> list[str]:
        return [option for option in super().command() if option != "-js"]


@pytest.fixture(scope="module")
def plain_server() -> Iterator[PlainServer]:
    with running(PlainServer()) as server:
        yield server


@pytest.mark.parametrize(
    ("answer", "subject", "error", "words"),
    [
        (INFO, "out.a", BrokerUnavailable, "the stream 'out' does not answer"),
        (OFFLINE, "out.a", BrokerUnavailable, "the stream 'out' does not answer: .*stream is offline"),
        (None, "out.a", BrokerUnavailable, "the stream 'out' does not answer"),
        ({"config": 7}, "out.a", BrokerUnavailable, "the stream 'out' does not answer"),
        (MISSING, "out.a", PublishError, "no stream takes this subject, and 'out' should"),
        (INFO, "other", PublishError, "no stream takes this subject, and 'out' should"),
    ],
    ids=["known", "offline", "silent", "nonsense", "missing", "other subjects"],
)
async def test_a_stream_that_does_not_answer(
    plain_server: PlainServer, answer: Any, subject: str, error: type[Exception], words: str
) -> None:
    asked = Inbox()
    client = await nats.connect(plain_server.url)

    async def respond(message: Msg) -> None:
        asked.put(message.subject)
        await message.respond(json.dumps(answer).encode())

    if answer is not None:
        await client.subscribe("$JS.API.STREAM.INFO.out", cb=respond)
        await client.flush()
    try:
        async with NatsBroker(plain_server.url) as broker:
            with pytest.raises(error, match=words):
                await broker.publish(b"x", subject, stream="out", timeout=1.5)
            with pytest.raises(PublishError, match="no stream takes this subject"):
                await broker.publish(b"x", subject, stream="o u.t", timeout=1.5)
    finally:
        await client.close()
    assert bool(asked.all) == (answer is not None)
