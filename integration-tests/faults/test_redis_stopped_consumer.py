"""A consumer whose process stands still, as one that is stopped by a signal or whose machine is paused."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from uuid import uuid4

from redis.asyncio import Redis

from servers import Server
from waiting import until

STOPPED_SECONDS = 4.0
"""Longer than an answer may take: the two seconds that a command waits, and `socket_timeout`."""
ROUNDS = 2
PROGRAM = """
import asyncio, signal, sys
from fastapi_stream_redis import RedisBroker

async def main(url, name):
    broker, stop = RedisBroker(url, logger=None, socket_timeout=1.0, message_format="raw"), asyncio.Event()

    @broker.subscriber(list=name)
    async def handle(msg: int) -> None:
        await broker.publish(msg, list=name + "-out")

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with broker:
        await broker.publish("up", list=name + "-up")
        await stop.wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_a_list_gave_to_a_process_that_stood_still_is_handled(redis_server: Server) -> None:
    name = f"test-{uuid4().hex[:12]}"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, redis_server.url, name)
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        try:
            await until(lambda: client.llen(f"{name}-up"), what="the start")
            for number in range(ROUNDS):
                process.send_signal(signal.SIGSTOP)
                await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
                await client.rpush(name, number)  # type: ignore[misc]
                await asyncio.sleep(STOPPED_SECONDS)
                process.send_signal(signal.SIGCONT)
                await until(lambda: client.llen(f"{name}-out"), 10.0, what=f"handling of message {number}")
                assert await client.lpop(f"{name}-out") == b"%d" % number  # type: ignore[misc]
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            assert await process.wait() == 0
            await client.delete(f"{name}-up")
