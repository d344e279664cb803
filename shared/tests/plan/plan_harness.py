"""Messages and a subscription for tests of the plan: real ones, without a broker."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI
from fastapi_stream_core.context import ContextRepo
from fastapi_stream_core.headers import Headers
from fastapi_stream_core.injection import Injections
from fastapi_stream_core.message import BatchMessage, StreamMessage
from fastapi_stream_core.plan import Plan

JSON = "application/json"


class Message(StreamMessage):
    """A message whose headers are the pairs it was made with."""

    __slots__ = ()

    def read_headers(self) -> Headers:
        return Headers(self.raw_message)


class TheBroker:
    """What `Context("broker")` gives."""


class Owner:
    """What a plan and the context ask of a subscription."""

    def __init__(self, names: tuple[str, ...] = (), broker: Any = None) -> None:
        self.app: FastAPI | None = FastAPI()
        self.broker: Any = broker or TheBroker()
        self.logger: logging.Logger | None = logging.getLogger("plan-test")
        self.context = ContextRepo()
        self.state: dict[str, Any] = {}
        self.names = names
        self.is_batch = False

    @property
    def subscription(self) -> Owner:
        return self

    @property
    def injections(self) -> Injections:
        return Injections(type(self.broker), (Message, BatchMessage) if self.is_batch else (Message,))

    @property
    def dependency_overrides(self) -> dict[Any, Any]:
        return {} if self.app is None else self.app.dependency_overrides

    def capture(self, address: str) -> dict[str, str]:
        return dict(zip(self.names, address.split(".")[1:], strict=False))


NOTHING = object()


def message(
    value: Any = NOTHING,
    *,
    body: bytes = b"",
    content_type: str | None = None,
    headers: Any = (),
    owner: Owner | None = None,
    address: str = "orders",
) -> Message:
    """Return a message: `value` as the codec of the core writes it, or a body as it is."""
    if value is not NOTHING:
        if isinstance(value, bytes):
            body, content_type = value, None
        elif isinstance(value, str):
            body, content_type = value.encode(), "text/plain"
        else:
            body, content_type = json.dumps(value).encode(), JSON
    pairs = [("content-type", content_type)] if content_type else []
    made = Message(body, pairs + list(headers), address)
    made._source = owner  # type: ignore[assignment]
    return made


def plan(call: Any, *, owner: Owner | None = None, **options: Any) -> Plan:
    """Return the plan of a handler."""
    return Plan(call, owner=owner or Owner(), subject=f"handler {getattr(call, '__name__', call)!r}", **options)


class Bench:
    """Runs one handler for one message after another."""

    def __init__(self, call: Any, *, names: tuple[str, ...] = (), broker: Any = None, **options: Any) -> None:
        self.owner = Owner(names, broker)
        self.owner.is_batch = bool(options.get("batch"))
        self.plan = plan(call, owner=self.owner, path_names=names, **options)

    async def __call__(self, value: Any = NOTHING, **options: Any) -> Any:
        return await self.plan(message(value, owner=self.owner, **options))

    async def by_solver(self, value: Any = NOTHING, **options: Any) -> Any:
        """Handle the message through FastAPI's solver."""
        return await self.plan._tree.solve(message(value, owner=self.owner, **options))

    async def batch(self, *values: Any) -> tuple[Any, list[Any]]:
        """Sift messages and handle the good ones."""
        good, items, bad = self.plan.sift([message(value, owner=self.owner) for value in values])
        return (await self.plan(self.plan.batch_of(good, items)) if good else None), bad


__all__ = ("NOTHING", "BatchMessage", "Bench", "Message", "Owner", "message", "plan")
