"""The permissions that the page on security advises are enough, and what is beyond them is missed gracefully."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_redis import PublishError, RedisBroker, SASLPlaintext, SetupError, StreamSub
from redis.asyncio import Redis

from programs import ROOT
from servers import Server

PAGE = (ROOT / "docs" / "security.md").read_text()
ADVISED = re.sub(r"\s+", " ", re.findall(r"resetchannels &bills\.\* ([^`]+)`", PAGE)[0]).split()
LEAST = ["-@all", "+ping", "+select", "+client|id", "+client|unblock", "+@stream", "+@list", "+@pubsub"]


@pytest.mark.parametrize("commands", [ADVISED, LEAST], ids=["advised", "least"])
async def test_an_app_of_few_permissions(redis_server: Server, commands: list[str]) -> None:
    name = f"test-{uuid4().hex[:12]}"
    async with Redis.from_url(redis_server.url, protocol=2) as admin:
        rules = ["on", ">sesame", "resetkeys", f"~{name}-*", "resetchannels", f"&{name}-*", *commands]
        await admin.execute_command("ACL", "SETUSER", name, *rules)
        try:
            broker, seen = RedisBroker(redis_server.url, logger=None, security=SASLPlaintext(name, "sesame")), Inbox()
            places: list[dict[str, Any]] = [
                {"stream": StreamSub(f"{name}-s", group="g")},
                {"stream": StreamSub(f"{name}-s", group="h", consumer="one")},
                {"stream": f"{name}-s"},
                {"list": f"{name}-l"},
                {"channel": f"{name}-c"},
            ]
            for place in places:

                @broker.subscriber(**place)
                async def handle(body: int) -> None:
                    seen.put(body)

            async with broker:
                await broker.publish(1, stream=f"{name}-s")
                await broker.publish(2, list=f"{name}-l")
                await broker.publish(3, f"{name}-c")
                assert sorted(await seen.take_many(5)) == [1, 1, 1, 2, 3]
                with pytest.raises(PublishError, match="permission"):
                    await broker.publish(4, "somebody-elses")
            assert "restarted" not in broker.report.counts
        finally:
            await admin.execute_command("ACL", "DELUSER", name)


@pytest.mark.parametrize(
    "place",
    [
        {"channel": "forbidden"},
        {"channel": "forbidden.{event}"},
        {"list": "forbidden"},
        {"stream": "forbidden"},
        {"stream": StreamSub("forbidden", group="g")},
    ],
    ids=str,
)
async def test_what_the_user_may_not_read_is_said_at_the_start(redis_server: Server, place: dict[str, Any]) -> None:
    name = f"test-{uuid4().hex[:12]}"
    async with Redis.from_url(redis_server.url, protocol=2) as admin:
        rules = ["on", ">sesame", "resetkeys", f"~{name}-*", "resetchannels", f"&{name}-*", *ADVISED]
        await admin.execute_command("ACL", "SETUSER", name, *rules)
        try:
            broker = RedisBroker(redis_server.url, logger=None, security=SASLPlaintext(name, "sesame"))

            @broker.subscriber(**place)
            async def handle(body: int) -> None: ...

            with pytest.raises(SetupError, match="permissions") as caught:
                await broker.start()
            assert caught.value.subject == broker.subscribers[0].label
            assert f"user '{name}' may not, at {broker.address}" in str(caught.value)
            assert "sesame" not in str(caught.value)
        finally:
            await admin.execute_command("ACL", "DELUSER", name)


async def test_the_channels_that_are_advised_are_those_of_the_example(redis_server: Server) -> None:
    """A pattern of channels is permitted as it is written, and `bills.{event}` is the pattern `bills.*`."""
    name = f"test-{uuid4().hex[:12]}"
    async with Redis.from_url(redis_server.url, protocol=2) as admin:
        channels = re.findall(r"resetchannels (&\S+)", PAGE)
        rules = ["on", ">sesame", "resetkeys", "resetchannels", *channels, *ADVISED]
        await admin.execute_command("ACL", "SETUSER", name, *rules)
        try:
            broker, seen = RedisBroker(redis_server.url, logger=None, security=SASLPlaintext(name, "sesame")), Inbox()

            @broker.subscriber("bills.{event}")
            async def handle(body: int, event: str) -> None:
                seen.put((event, body))

            async with broker:
                await broker.publish(1, "bills.new")
                assert await seen.take() == ("new", 1)
        finally:
            await admin.execute_command("ACL", "DELUSER", name)
