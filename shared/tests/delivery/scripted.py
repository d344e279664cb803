"""A broker that does what a test says: what is fetched, whether it answers, what the client raises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi_stream_core import BrokerUnavailable, Outgoing, Source, StreamMessage, Subscription, Transport
from fastapi_stream_core.testing.reference import LocalBroker

DEADLINE = 20.0


class Message(StreamMessage):
    """A message whose text is its body, and its identity."""

    __slots__ = ()

    @property
    def identity(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def position(self) -> str:
        return f"at {self.text}"


class Script(Transport):
    """The connection of a scripted broker, and everything that was told to it.

    Attributes:
        log: what the source was told, in order.
        published: the bodies of what was published.
        away: publishing raises `BrokerUnavailable`, and a ping is not answered.
        answers: whether a ping is answered all the same.
        ping_error: what a ping raises as long as it is there, whatever else is said.
        fail: called by name before `ack`, `reject`, `nack`, `hold`, `keep` and `resume`; it may raise.
        limits: how many messages each fetch asked for.
        takes_back: whether the source takes messages of a held lane back; then they are in `given_back`.
    """

    def __init__(self, **source: Any) -> None:
        self.log: list[str] = []
        self.published: list[str] = []
        self.items: asyncio.Queue[Any] = asyncio.Queue()
        self.away = False
        self.answers = False
        self.ping_error: BaseException | None = None
        self.pings = 0
        self.fetches = 0
        self.limits: list[int] = []
        self.takes_back = False
        self.given_back: list[list[str]] = []
        self.fail: Callable[[str], None] = lambda name: None
        self.refused = asyncio.Event()
        self.options = source
        self.sources: list[ScriptedSource] = []

    def give(self, *texts: str, **options: Any) -> list[Message]:
        """Have messages fetched at once."""
        messages = [Message(text.encode(), None, "in", **options) for text in texts]
        self.items.put_nowait(messages)
        return messages

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def source(self, subscription: Subscription) -> Source:
        source = ScriptedSource(subscription)
        source.script = self
        for name, value in self.options.items():
            setattr(source, name, value)
        self.sources.append(source)
        return source

    async def publish(self, message: Outgoing) -> None:
        if self.away:
            self.refused.set()
            raise BrokerUnavailable("scripted", "publish", 0.0)
        self.published.append(message.body.decode())

    async def ping(self, timeout: float) -> bool:
        self.pings += 1
        if self.ping_error is not None:
            raise self.ping_error
        return self.answers or not self.away


class ScriptedSource(Source):
    """Gives what is put into the script; an exception there is raised."""

    script: Script

    async def start(self) -> None:
        self.script.log.append("start")

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        self.script.fetches += 1
        self.script.limits.append(limit)
        item = await self.script.items.get()
        if isinstance(item, BaseException):
            raise item
        return item  # type: ignore[no-any-return]

    def _note(self, name: str, what: Any) -> None:
        self.script.log.append(f"{name} {what}")
        self.script.fail(name)

    def ack(self, message: StreamMessage) -> Awaitable[None] | None:
        return self._note("ack", message.body.decode())

    def reject(self, message: StreamMessage) -> Awaitable[None] | None:
        return self._note("reject", message.body.decode())

    def nack(self, message: StreamMessage, delay: float) -> Awaitable[None] | None:
        return self._note("nack", message.body.decode())

    def keep(self, message: StreamMessage, delay: float) -> None:
        self._note("keep", message.body.decode())

    def hold(self, lane: Any) -> None:
        self._note("hold", lane)

    def give_back(self, lane: Any, messages: Sequence[StreamMessage]) -> bool:
        if self.script.takes_back:
            self.script.given_back.append([message.body.decode() for message in messages])
        return self.script.takes_back

    def resume(self, lane: Any) -> None:
        self._note("resume", lane)

    def stop(self) -> None:
        self.script.items.put_nowait([])

    async def release(self, messages: Iterable[StreamMessage]) -> None:
        for message in messages:
            self.script.log.append(f"release {message.body.decode()}")

    async def close(self) -> None:
        self.script.log.append("close")


class ScriptedBroker(LocalBroker):
    """A broker over a script; the options of the source are those of `Script`."""

    def __init__(self, source: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.script = Script(**(source or {}))

    def transport(self) -> Transport:
        return self.script


@asynccontextmanager
async def running(broker: ScriptedBroker) -> Any:
    """Run a broker, and give its script."""
    async with broker:
        yield broker.script
