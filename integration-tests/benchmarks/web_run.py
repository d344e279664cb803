"""One measured app, a process of its own: python web_run.py redis stream ours uvloop URL ADDRESS COUNT PORT ticked.

The app is served by uvicorn, its one subscriber handles a backlog, and it ends when the backlog is handled.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import uvicorn
from fastapi import FastAPI
from order import Order
from process import tell
from run import router_of, scenario_of

from ticker import Ticker

LONGEST_SECONDS = 30.0
"""After which a backlog that is not handled is left: the peer needs minutes where each message is confirmed alone."""


class Drain:
    """Counts the handler's calls.

    Attributes:
        began: when the first message was handled, on the monotonic clock.
        ended: when the last one was.
    """

    def __init__(self, total: int, ticker: Ticker) -> None:
        self.ticker = ticker
        self.left = total
        self.began = 0.0
        self.ended = 0.0
        self.over = asyncio.Event()

    def note(self) -> None:
        if not self.began:
            self.began = time.monotonic()
            self.ticker.longest = 0.0  # what the start took; the turn of this first message still counts
        self.left -= 1
        if not self.left:
            self.ended = time.monotonic()
            self.over.set()


class Server(uvicorn.Server):
    """Notes when its start-up was over: the app's lifespan runs, the socket listens."""

    listens = 0.0

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        self.listens = time.monotonic()


async def serve(app: FastAPI, port: int, drain: Drain, ticked: bool) -> dict[str, float]:
    """Serve until the backlog is handled."""
    server = Server(uvicorn.Config(app, port=port, log_level="error"))
    ticker = drain.ticker
    gc.collect()
    gc.freeze()  # the heap of the imports
    tell(ready=True)
    began = time.monotonic()
    if ticked:
        ticker.start()
    serving = asyncio.create_task(server.serve())
    draining = asyncio.create_task(drain.over.wait())
    await asyncio.wait((serving, draining), timeout=LONGEST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    draining.cancel()
    if ticked:
        ticker.stop()
    ended = drain.ended or time.monotonic()
    await asyncio.sleep(0.1)  # the answer that waited for the end of the backlog
    server.should_exit = True
    await serving
    return {
        "began": began,
        "listens": server.listens,
        "drain began": drain.began,
        "drain ended": ended,
        "left": drain.left,
        "turn": ticker.longest,
        "collected": ticker.collected,
    }


def main(*arguments: str) -> None:
    """Run the app on one kind of event loop."""
    broker, kind, variant, loop, url, address, count, port, ticked = arguments
    scenario = scenario_of(broker)(url, kind, address)
    router, subscriber = router_of(scenario, variant)
    drain = Drain(int(count), Ticker())

    @subscriber()
    async def handle(order: Order) -> None:
        drain.note()

    app = FastAPI()
    app.include_router(router)

    @app.get("/ping")
    async def ping() -> str:
        return "pong"

    if loop == "uvloop":
        from uvloop import run
    else:
        from asyncio import run
    tell(result=run(serve(app, int(port), drain, ticked == "ticked")))


if __name__ == "__main__":
    main(*sys.argv[1:])
