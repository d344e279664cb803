"""What a client, a logger or a handler does that none of them should: no message and no subscription is lost by it."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends
from fastapi_stream_core import AckPolicy, BrokerUnavailable, Retry, StreamMessage, outage, ping, run
from fastapi_stream_core.subscription import Status
from fastapi_stream_core.testing.conformance import until

from scripted import DEADLINE, ScriptedBroker

AWAY = BrokerUnavailable("elsewhere", "publish", 0.0)


async def acked(broker: ScriptedBroker, *texts: str) -> None:
    await until(lambda: {f"ack {text}" for text in texts} <= set(broker.script.log))


def nothing_is_left(broker: ScriptedBroker) -> None:
    dispatcher = broker.script.sources[0].dispatcher
    assert dispatcher.backlog() == 0
    assert dispatcher.held_bytes() == 0
    assert dispatcher.unfinished() == set()


class Cancelled:
    """A ping whose client cancels it by itself some times, as one does whose connection was closed meanwhile."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.asked = asyncio.Event()

    async def __call__(self, timeout: float) -> bool:
        self.times -= 1
        self.asked.set()
        if self.times < 0:
            return True
        raise asyncio.CancelledError


async def test_an_outage_ends_though_the_client_cancelled_a_ping() -> None:
    broker = ScriptedBroker()
    attempts: list[int] = []

    @broker.subscriber("in")
    async def handle(body: bytes, message: StreamMessage) -> None:
        attempts.append(message.attempt)
        if len(attempts) == 1:
            raise AWAY

    async with broker:
        broker.script.ping = Cancelled(2)  # type: ignore[method-assign]
        broker.script.give("1", "2")
        await acked(broker, "1", "2")
        assert attempts == [1, 1, 1]
        assert broker.subscribers[0].status is Status.RUNNING
        nothing_is_left(broker)


async def test_an_outage_ends_though_a_ping_outlives_its_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "PING_SECONDS", 0.001)
    monkeypatch.setattr(ping, "MORE_SECONDS", 0.01)
    broker = ScriptedBroker()
    attempts: list[int] = []
    pings: list[float] = []
    go = asyncio.Event()

    async def hang(timeout: float) -> bool:
        pings.append(timeout)
        while len(pings) == 1 and not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()
        return True

    @broker.subscriber("in")
    async def handle(body: bytes, message: StreamMessage) -> None:
        attempts.append(message.attempt)
        if len(attempts) == 1:
            raise AWAY

    async with broker:
        broker.script.ping = hang  # type: ignore[method-assign]
        broker.script.give("1")
        try:
            await acked(broker, "1")
            assert attempts == [1, 1]
            assert len(pings) == 2
            nothing_is_left(broker)
        finally:
            go.set()


async def test_who_watches_over_a_broker_goes_on_though_the_client_cancelled_a_ping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(run, "AWAY_SECONDS", 0.01)
    broker = ScriptedBroker()

    @broker.subscriber("in")
    async def handle(body: bytes) -> None: ...

    async with broker:
        subscription = broker.subscribers[0]
        broker.script.ping = ping = Cancelled(10**6)  # type: ignore[method-assign]
        await asyncio.wait_for(ping.asked.wait(), DEADLINE)
        await until(lambda: subscription.status is Status.BACKING_OFF)
        ping.times = 0
        await until(lambda: subscription.status is Status.RUNNING)


class Broken(logging.LoggerAdapter):  # type: ignore[type-arg]
    """A logger that somebody wrote in a hurry."""

    def isEnabledFor(self, level: int) -> bool:
        raise RuntimeError("no level")

    def __repr__(self) -> str:
        raise RuntimeError("no name")


@pytest.mark.parametrize("kind", ["async", "sync", "batch"])
async def test_a_logger_that_raises_at_every_question(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    broker = ScriptedBroker(logger=Broken(logging.getLogger("test"), {}))
    subscriber = broker.subscriber("in", batch=kind == "batch")
    subscriber.retry = Retry(delay=0.001)
    seen: list[bytes] = []

    def note(body: Any) -> None:
        seen.append(body)
        if len(seen) == 1:
            raise ValueError("once")

    async def handle(body: bytes) -> None:
        note(body)

    async def batch(bodies: list[bytes]) -> None:
        note(bodies)

    def sync(body: bytes) -> None:
        note(body)

    handlers: dict[str, Any] = {"async": handle, "batch": batch, "sync": sync}
    subscriber(handlers[kind])
    async with broker:
        broker.script.give("1", "2", "3")
        await acked(broker, "1", "2", "3")
        await until(lambda: not broker.script.sources[0].dispatcher.backlog())
        nothing_is_left(broker)
    assert broker.report.counts["log_failed"] >= 1
    assert "no level" in capsys.readouterr().err


class Odd(Exception):
    """An error that can be neither shown nor compared."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")


class Hostile(Exception):
    """An error that looks like a group until somebody asks."""

    @property
    def exceptions(self) -> object:
        raise RuntimeError("no members")


class HandsOn(Exception):
    """An error that hands on whatever it is asked, as wrappers do."""

    def __getattr__(self, name: str) -> object:
        raise KeyError(name)


class Unlike(Exception):
    """An error that calls something else its exceptions."""

    exceptions = ("timeout", "refused")


class OwnMember(Exception):
    """An error that holds itself."""

    @property
    def exceptions(self) -> object:
        return (self,)


class Chained(Exception):
    """The last one of a hundred attempts, each made where the one before was caught."""

    def __init__(self) -> None:
        super().__init__("attempt 100")
        last: BaseException = self
        for number in reversed(range(100)):
            last.__context__ = ValueError(f"attempt {number}")
            last = last.__context__


class Ring(Exception):
    """An error that led to the one that led to it, which has no truth."""

    def __init__(self) -> None:
        super().__init__("round and round")
        self.__cause__ = Odd()
        self.__cause__.__context__ = self


ERRORS: list[BaseException] = [
    StopIteration("x"),
    StopAsyncIteration("x"),
    GeneratorExit(),
    asyncio.CancelledError(),
    asyncio.InvalidStateError(),
    Odd(),
    Hostile(),
    HandsOn(),
    Unlike(),
    OwnMember(),
    Chained(),
    Ring(),
]
if sys.version_info >= (3, 11):
    ERRORS.append(BaseExceptionGroup("several", [ValueError(), asyncio.CancelledError()]))  # noqa: F821
    deep: Exception = AWAY
    for _ in range(3000):
        deep = ExceptionGroup("deep", [deep, ValueError()])  # noqa: F821
    ERRORS.append(deep)


@pytest.mark.parametrize("kind", ["async", "waits", "sync", "batch", "dependency"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_of_any_kind_is_the_failure_of_its_message_alone(kind: str, error: BaseException) -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in", batch=kind == "batch", max_workers=1)
    subscriber.retry = Retry(delay=0.001)
    raised: list[object] = []

    def fail(body: Any) -> None:
        if b"1" in body and not raised:
            raised.append(body)
            raise error

    async def handle(body: bytes) -> None:
        fail(body)

    async def waits(body: bytes) -> None:
        await asyncio.sleep(0)
        fail(body)

    def sync(body: bytes) -> None:
        fail(body)

    async def batch(bodies: list[bytes]) -> None:
        fail(bodies)

    def dependency(body: bytes) -> Iterator[None]:
        fail(body)
        yield

    async def depends(body: bytes, _: Any = Depends(dependency)) -> None: ...

    handlers: dict[str, Any] = {"async": handle, "waits": waits, "sync": sync, "batch": batch, "dependency": depends}
    subscriber(handlers[kind])
    async with broker:
        broker.script.give("1")
        broker.script.give("2", "3")
        await acked(broker, "1", "2", "3")
        await until(lambda: not broker.script.sources[0].dispatcher.backlog())
        assert raised
        assert broker.script.sources[0].dispatcher.handled >= 3
        nothing_is_left(broker)


@pytest.mark.parametrize(
    "error", [one for one in ERRORS if isinstance(one, Exception)], ids=lambda one: type(one).__name__
)
async def test_an_error_of_any_kind_is_told_in_a_line(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker()

    @broker.subscriber("in", ack_policy=AckPolicy.REJECT_ON_ERROR)
    async def handle(body: bytes) -> None:
        if body == b"1":
            raise error

    async with broker:
        broker.script.give("1", "2")
        await acked(broker, "2")
        await until(lambda: "reject 1" in broker.script.log)
        nothing_is_left(broker)
    assert [record.levelname for record in caplog.records if "at 1" in record.getMessage()] == ["ERROR"]
    assert "log_failed" not in broker.report.counts


async def test_a_background_task_that_is_cancelled_leaves_the_worker_at_work() -> None:
    broker = ScriptedBroker()

    async def cancelled() -> None:
        raise asyncio.CancelledError

    @broker.subscriber("in")
    async def handle(body: bytes, tasks: BackgroundTasks) -> None:
        tasks.add_task(cancelled)

    async with broker:
        broker.script.give("1", "2")
        await acked(broker, "1", "2")
        broker.script.give("3")
        await acked(broker, "3")
        await until(lambda: not broker.script.sources[0].dispatcher.backlog())
        nothing_is_left(broker)
