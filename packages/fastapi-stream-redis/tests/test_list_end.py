"""Items of a list that were taken off and not handled when their subscription stops."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fastapi_stream_redis import RedisBroker

FULL = "OOM command not allowed when used memory > 'maxmemory'."
BEFORE_7 = "ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'"
FORBIDDEN = "NOPERM this user has no permissions to run the 'eval' command"
UNKNOWN = "ERR unknown command 'EVAL'"


@pytest.mark.parametrize(
    ("refusals", "no_scripts"),
    [(12, BEFORE_7), (12, FORBIDDEN), (1000, UNKNOWN)],
    ids=["room after a while, before Redis 7", "room after a while, forbidden", "never room"],
)
async def test_items_go_back_to_a_full_server_or_are_said_to_be_gone(
    wire: Any, refusals: int, no_scripts: str, caplog: pytest.LogCaptureFixture
) -> None:
    """When no script may be run, which would not need the room."""
    wire.answers["EVAL"] = Exception(no_scripts)
    begun, release = asyncio.Event(), asyncio.Event()
    wire.answers["BLMPOP"] = wire.once([b"jobs", [b"1"]], [b"jobs", [b"2"]])
    offered: list[list[bytes]] = []

    def put_back(words: list[bytes]) -> Any:
        offered.append(words[2:])
        return Exception(FULL) if len(offered) <= refusals else 1

    wire.answers["LPUSH"] = put_back
    broker = RedisBroker(wire.url, publish_timeout=0.2)

    @broker.subscriber(list="jobs")
    async def handle(body: int) -> None:
        begun.set()
        await broker.publish(body, list="results")

    wire.answers["RPUSH"] = Exception(FULL)
    with caplog.at_level(logging.WARNING):
        async with broker:
            await asyncio.wait_for(begun.wait(), 10)
            while not broker.report.counts.get("paused"):
                release.clear()
                asyncio.get_running_loop().call_later(0.02, release.set)
                await release.wait()
    assert offered[0] == [b"1"]
    gone = [record.getMessage() for record in caplog.records if "are gone" in record.getMessage()]
    assert len(gone) == (refusals > 100)
    assert all("1 items" in one and "maxmemory" in one for one in gone)
    assert (len(offered) == refusals + 1) is not bool(gone)
