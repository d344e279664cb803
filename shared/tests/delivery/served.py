"""An app that is started and ended as its server does."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI

from scripted import DEADLINE


class Server:
    """Starts and ends an app as a server does."""

    def __init__(self, app: FastAPI) -> None:
        self._incoming: asyncio.Queue[str] = asyncio.Queue()
        self._started = asyncio.Event()
        self._incoming.put_nowait("lifespan.startup")
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))  # type: ignore[arg-type]

    async def _receive(self) -> dict[str, Any]:
        return {"type": await self._incoming.get()}

    async def _send(self, event: Any) -> None:
        if event["type"] == "lifespan.startup.complete":
            self._started.set()

    async def started(self) -> None:
        await asyncio.wait_for(self._started.wait(), DEADLINE)

    def end(self) -> None:
        self._incoming.put_nowait("lifespan.shutdown")

    async def ended(self) -> None:
        await asyncio.wait_for(self.task, DEADLINE)
