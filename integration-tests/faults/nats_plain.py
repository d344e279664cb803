"""A NATS server without JetStream, and a client that answers in its place."""

from __future__ import annotations

import json
from typing import Any

from fastapi_stream_core.testing.conformance import Inbox
from nats.aio.client import Client
from nats.aio.msg import Msg

from servers import ProcessServer

CONFIG = {"name": "out", "retention": "limits", "storage": "file", "discard": "old", "num_replicas": 1}
STATE = {"messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "consumer_count": 0}
INFO = {"config": {**CONFIG, "subjects": ["out.*"]}, "state": STATE, "created": "2026-01-01T00:00:00Z"}
"""What JetStream says of a stream "out"."""
SILENCE = "silence"


class PlainServer(ProcessServer):
    """A server without JetStream."""

    def command(self) -> list[str]:
        return [option for option in super().command() if option != "-js"]


async def answering(client: Client, answer: Any) -> Inbox:
    """Answer for a JetStream that the server does not have; return the questions."""
    asked = Inbox()

    async def respond(message: Msg) -> None:
        asked.put(message.subject)
        if answer != SILENCE:
            await message.respond(json.dumps(answer).encode())

    if answer is not None:
        await client.subscribe("$JS.API.STREAM.INFO.out", cb=respond)
        await client.flush()
    return asked
