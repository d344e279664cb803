"""An HTTP client of an app on the running event loop, its lifespan included."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

__all__ = ("Client", "Reply", "client_of")


@dataclass
class Reply:
    """What the app answered."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.content)


class Client:
    """Calls an ASGI app with requests without a body."""

    def __init__(self, app: FastAPI, state: dict[str, Any]) -> None:
        self.app = app
        self.state = state

    async def get(self, path: str) -> Reply:
        """Send a GET request."""
        return await self.request("GET", path)

    async def post(self, path: str) -> Reply:
        """Send a POST request."""
        return await self.request("POST", path)

    async def talk(self, path: str, *texts: str) -> list[str]:
        """Open a websocket, send texts, and return the texts that came back."""
        incoming: list[dict[str, Any]] = [{"type": "websocket.connect"}]
        incoming += [{"type": "websocket.receive", "text": text} for text in texts]
        incoming.append({"type": "websocket.disconnect", "code": 1000})
        answers: list[str] = []

        async def receive() -> dict[str, Any]:
            return incoming.pop(0)

        async def send(event: Any) -> None:
            if event["type"] == "websocket.send":
                answers.append(event["text"])

        await self.app({**self._scope("websocket", path), "subprotocols": []}, receive, send)
        return answers

    def _scope(self, kind: str, path: str) -> dict[str, Any]:
        path, _, query = path.partition("?")
        return {
            "type": kind,
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws" if kind == "websocket" else "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"host", b"test")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": dict(self.state),
        }

    async def request(self, method: str, path: str) -> Reply:
        """Send a request and return the whole answer."""
        scope = {**self._scope("http", path), "method": method}
        reply = Reply(0, {}, b"")

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(event: Any) -> None:
            if event["type"] == "http.response.start":
                reply.status_code = event["status"]
                reply.headers = {name.decode(): value.decode() for name, value in event["headers"]}
            elif event["type"] == "http.response.body":
                reply.content += event.get("body", b"")

        await self.app(scope, receive, send)
        return reply


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[Client]:
    """Run the app's lifespan and yield a client."""
    async with app.router.lifespan_context(app) as state:
        yield Client(app, dict(state or {}))
