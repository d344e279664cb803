"""A consumer process for the fault tests; each handled message is a line of its output file, with the time in ns.

Arguments: broker, url, name, output file, and a mode: `steady`; `flaky` for a handler that fails once for one message
in a hundred; `parallel` for ten workers, which end in another order than they began.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time

from pydantic import BaseModel

from durable import Durable


class Item(BaseModel):
    number: int


async def main(broker: str, url: str, name: str, output: str, mode: str) -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    durable = Durable(broker, url, name)
    file = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    failed: set[int] = set()

    options = {"max_workers": 10} if mode == "parallel" else {}

    @durable.subscriber(**options)
    async def handle(item: Item) -> None:
        if mode == "flaky" and item.number % 100 == 0 and item.number not in failed:
            failed.add(item.number)
            raise RuntimeError("once")
        await asyncio.sleep((2 + item.number % 5) / 1000 if mode == "parallel" else 0.0005)
        os.write(file, b"%d %d\n" % (item.number, time.monotonic_ns()))

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with durable.router.broker:
        os.write(file, b"started\n")
        await stop.wait()
    os.write(file, b"stopped\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
