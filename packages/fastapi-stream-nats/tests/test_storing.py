"""A message for a stream, while the server is slow to say that there is none."""

from __future__ import annotations

import asyncio
import gc
import re

import pytest
from fastapi_stream_nats import BrokerUnavailable, NatsBroker, PublishError
from toy_nats import ToyServer, message


async def test_all_attempts_to_store_a_message_have_one_deadline() -> None:
    """A second attempt with a time of its own, begun when the first second is over, would end after the longest."""
    async with ToyServer() as server, NatsBroker(server.url, logger=None) as broker:
        sending = [
            asyncio.ensure_future(broker.publish("hi", subject, stream="orders", timeout=timeout))
            for subject, timeout in (("short", 1.0), ("s", 2.0), ("long", 2.9))
        ]
        short, again, longest = sending
        with pytest.raises(BrokerUnavailable, match=r"after 1 s"):
            await short
        reply = re.findall(rb"PUB s (\S+) ", server.got)[-1]
        (number,) = [one for subject, one in server.subscriptions.items() if subject.endswith(".*")]
        await server.send(message(reply, number, headers=b"NATS/1.0 503\r\n\r\n"))
        await asyncio.wait(sending[1:], return_when=asyncio.FIRST_COMPLETED)
        assert again.done()
        assert not longest.done()
        with pytest.raises(BrokerUnavailable, match=r"after 2 s"):
            await again
        assert server.got.count(b"PUB s ") == 2
        longest.cancel()


async def test_a_publication_that_is_given_up_while_it_is_late(caplog: pytest.LogCaptureFixture) -> None:
    """The stop of the broker ends what waits for a confirmation; who waits no more leaves nothing behind."""
    async with ToyServer() as server, NatsBroker(server.url, logger=None) as broker:
        sending = asyncio.ensure_future(broker.publish("hi", "s", stream="orders"))
        await server.until(b"PUB $JS.API.STREAM.INFO.orders ")
        sending.cancel()
        await broker.stop()
        with pytest.raises(asyncio.CancelledError):
            await sending
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_what_is_not_permitted_is_refused_as_it_is_written() -> None:
    """A sender may have an answer denied whose subject differs from one that is permitted only in its letters' case."""
    async with ToyServer() as server, NatsBroker(server.url, logger=None) as broker:
        sending = {
            subject: asyncio.ensure_future(broker.publish("hi", subject, stream="out"))
            for subject in ("out.good", "out.GOOD", 'out."')
        }
        await server.until(b"PUB out.", times=len(sending))
        reply = re.findall(rb"PUB out.good (\S+) ", server.got)[-1]
        (number,) = [one for subject, one in server.subscriptions.items() if subject.endswith(".*")]
        for shown in (b"out.GOOD", b'out.\\"'):
            await server.send(b"-ERR 'Permissions Violation for Publish to \"%b\"'\r\n" % shown)
        for subject in ("out.GOOD", 'out."'):
            with pytest.raises(PublishError, match=r"permissions violation"):
                await sending.pop(subject)
        await server.send(message(reply, number, b'{"stream": "out", "seq": 1}'))
        stored = await sending.pop("out.good")
        assert stored is not None
        assert stored.seq == 1


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("tea", "tea"),
        ('"\\', r"\"\\"),
        ("a\u200db", r"a\u200db"),
        ("\U000e0041", r"\U000e0041"),
        (r"\u0041", r"\\u0041"),
    ],
)
async def test_only_the_subject_that_the_server_denies_is_refused(subject: str, shown: str) -> None:
    """It writes quotation marks, backslashes, and what it takes to be unprintable, in its own way."""
    async with ToyServer() as server, NatsBroker(server.url, logger=None) as broker:
        refused, other = (asyncio.ensure_future(broker.publish("hi", one, stream="orders")) for one in (subject, "A"))
        await server.until(b"PUB A ")
        await server.send(f"-ERR 'Permissions Violation for Publish to \"{shown}\"'\r\n".encode())
        with pytest.raises(PublishError, match="permissions violation"):
            await refused
        assert not other.done()
        other.cancel()
