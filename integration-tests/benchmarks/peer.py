"""The peer's side of the in-process comparison, over a client in memory."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from typing import Any

from fast_depends.pydantic import PydanticSerializer
from fastapi import FastAPI
from records import record
from side import MemoryProducer, Side, again

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from faststream import BaseMiddleware
    from faststream.kafka.fastapi import KafkaRouter as PeerRouter

__all__ = ("Peer",)

NULL = open(os.devnull, "w")  # noqa: SIM115  (the peer's logger keeps it for as long as the process lives)


class Around(BaseMiddleware):  # type: ignore[misc]
    """A middleware of the peer's that does nothing."""

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        return await call_next(msg)


class Peer(Side):
    """One handler of FastStream's plugin, called as its loop calls it. Its log is its own, to the same place."""

    def __init__(
        self,
        handler: Callable[..., Any],
        body: bytes,
        publish: bool = False,
        log: bool = False,
        around: int = 0,
        **options: Any,
    ) -> None:
        self.producer = MemoryProducer()
        quiet: dict[str, Any] = {} if log else {"logger": None}
        with warnings.catch_warnings(), self._silent():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.router = PeerRouter("localhost:9092", middlewares=[Around] * around, **quiet)
        self.batch = options.get("batch", False)
        if publish:
            handler = self.router.publisher("out")(again(handler))
        self.router.subscriber("orders", **options)(handler)
        self.app = FastAPI()
        self.app.include_router(self.router)
        self.template = record(body)

    @contextlib.contextmanager
    def _silent(self) -> Any:
        with contextlib.redirect_stdout(NULL), contextlib.redirect_stderr(NULL):
            yield

    async def __aenter__(self) -> Peer:
        broker: Any = self.router.broker
        self.subscriber: Any = broker.subscribers[0]
        with self._silent():
            broker._setup_logger()
        self.subscriber._build_fastdepends_model()
        await broker._producer.connect(self.producer, PydanticSerializer())
        self.subscriber.running = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.subscriber.running = False

    @property
    def sent(self) -> int:  # type: ignore[override]
        return self.producer.sent

    async def run(self, count: int) -> None:
        consume, template = self.subscriber.consume, self.template
        if self.batch:
            for _ in range(count // 100):
                await consume((template,) * 100)
        else:
            for _ in range(count):
                await consume(template)
