"""The permissions that the page on security advises are enough, and what is beyond them is missed gracefully."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_redis import PublishError, RedisBroker, SASLPlaintext, StreamSub
from redis.asyncio import Redis

from programs import ROOT
from servers import Server

PAGE = (ROOT / "docs" / "security.md").read_text()
ADVISED = re.sub(r"\s+", " ", re.findall(r"resetchannels &bills\.new ([^`]+)`", PAGE)[0]).split()
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
