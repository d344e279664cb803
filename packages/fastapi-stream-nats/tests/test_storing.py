"""A message for a stream, while the server is slow to say that there is none."""

from __future__ import annotations

import asyncio
import re

import pytest
from fastapi_stream_nats import BrokerUnavailable, NatsBroker
from toy_nats import ToyServer, message


async def test_all_attempts_to_store_a_message_have_one_deadline() -> None:
    async with ToyServer() as server, NatsBroker(server.url, logger=None) as broker:
        loop = asyncio.get_running_loop()

        async def say_slowly_that_there_is_no_stream() -> None:
            for attempt in range(1, 4):
                await server.until(b"PUB s ", times=attempt)
                await asyncio.sleep(2.0)
                reply = re.findall(rb"PUB s (\S+) ", server.got)[-1]
                (number,) = [one for subject, one in server.subscriptions.items() if subject.endswith(".*")]
                await server.send(message(reply, number, headers=b"NATS/1.0 503\r\n\r\n"))

        saying = asyncio.ensure_future(say_slowly_that_there_is_no_stream())
        began = loop.time()
        with pytest.raises(BrokerUnavailable, match=r"after 3 s"):
            await broker.publish("hi", "s", stream="orders", timeout=3.0)
        assert loop.time() - began < 4.5  # a second attempt with a time of its own would end after 5 s
        saying.cancel()
