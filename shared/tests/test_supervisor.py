"""A consumer never dies silently, and no message is lost with its source."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi_stream_core import (
    AckPolicy,
    BrokerUnavailable,
    Outgoing,
    Source,
    StreamMessage,
    Subscription,
    Transport,
    supervisor,
)
from fastapi_stream_core.errors import StreamError
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_core.testing.reference import LocalBroker


class ScriptedSource(Source):
    """Gives what a test puts into its transport; an exception there is raised."""

    def __init__(self, subscription: Subscription, transport: "ScriptedTransport") -> None:
        super().__init__(subscription)
        self.transport = transport
        self.log = transport.log

    async def start(self) -> None:
        self.log.append("start")
        if self.transport.start_errors:
            raise self.transport.start_errors.pop(0)

    async def fetch(self, limit: int) -> Sequence[StreamMessage]:
        item = await self.transport.items.get()
        if isinstance(item, BaseException):
            raise item
        self.transport.limits.append(limit)
        return [item] if isinstance(item, StreamMessage) else item

    def ack(self, message: StreamMessage) -> None:
        self.log.append(f"ack {message.body.decode()}")

    def reject(self, message: StreamMessage) -> None:
        self.log.append(f"reject {message.body.decode()}")

    def hold(self, lane: Any) -> None:
        self.log.append(f"hold {lane}")

    def resume(self, lane: Any) -> None:
        self.log.append(f"resume {lane}")

    def stop(self) -> None:
        self.log.append("stop")
        self.transport.items.put_nowait([])

    async def release(self, messages: Any) -> None:
        self.log.append("release " + "".join(message.body.decode() for message in messages))
        self.transport.released.set()

    async def flush(self) -> None:
        self.log.append("flush")

    async def close(self) -> None:
        self.log.append("close")


class ScriptedTransport(Transport):
    def __init__(self) -> None:
        self.log: list[str] = []
        self.released = asyncio.Event()
        self.items: asyncio.Queue[Any] = asyncio.Queue()
        self.start_errors: list[Exception] = []
        self.limits: list[int] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def source(self, subscription: Subscription) -> Source:
        return ScriptedSource(subscription, self)

    async def publish(self, message: Outgoing) -> None: ...

    async def ping(self, timeout: float) -> bool:
        return True


class ScriptedBroker(LocalBroker):
    made: ScriptedTransport

    def transport(self) -> Transport:
        self.made = ScriptedTransport()
        return self.made


def message(body: str, **options: Any) -> StreamMessage:
    return StreamMessage(body.encode(), None, "a", **options)


async def test_a_source_that_breaks_is_replaced() -> None:
    seen = Inbox()
    broker = ScriptedBroker()

    @broker.subscriber("a")
    async def handler(body: bytes) -> None:
        seen.put(body)

    async with broker:
        transport = broker.made
        transport.items.put_nowait(ConnectionError("gone"))
        transport.items.put_nowait(message("1"))
        assert await seen.take() == b"1"
        assert broker.subscribers[0].running
        assert broker.report.counts["restarted"] == 1
    assert transport.log == ["start", "close", "start", "ack 1", "stop", "release ", "flush", "close"]


@pytest.mark.parametrize("losses", [2, 1000])
async def test_a_connection_that_is_lost_at_the_start_is_tried_again(
    losses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 0.01)
    broker = ScriptedBroker(startup_timeout=0.5)
    broker.subscriber("a")(lambda: None)
    original = broker.transport

    def losing() -> Transport:
        made = original()
        broker.made.start_errors += [BrokerUnavailable("amqp://host/", "subscribe", 0.0, "cut")] * losses
        return made

    broker._life.make_transport = losing
    if losses > 2:
        with pytest.raises(BrokerUnavailable, match="cut"):
            await broker.start()
        assert not broker.running
    else:
        async with broker:
            assert broker.subscribers[0].running
            assert broker.made.log[:5] == ["start", "close", "start", "close", "start"]
    starts = broker.made.log.count("start")
    assert starts == broker.made.log.count("close") > 2


class Told(StreamError):
    is_told = True


@pytest.mark.parametrize("error", [StreamError("gone"), Told("gone")])
async def test_a_source_that_breaks_is_one_line_unless_it_is_told(
    error: StreamError, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Inbox()
    broker = ScriptedBroker()

    @broker.subscriber("a")
    async def handler(body: bytes) -> None:
        seen.put(body)

    async with broker:
        broker.made.items.put_nowait(error)
        broker.made.items.put_nowait(message("1"))
        assert await seen.take() == b"1"
        assert broker.report.counts["restarted"] == 1
    lines = [record for record in caplog.records if "the consumer stopped" in record.getMessage()]
    assert len(lines) == (0 if error.is_told else 1)


async def test_a_client_that_cancels_itself_is_replaced() -> None:
    seen = Inbox()
    broker = ScriptedBroker()

    @broker.subscriber("a")
    async def handler(body: bytes) -> None:
        seen.put(body)

    async with broker:
        broker.made.items.put_nowait(asyncio.CancelledError())
        broker.made.items.put_nowait(message("1"))
        assert await seen.take() == b"1"


async def test_a_start_that_fails_closes_everything() -> None:
    broker = ScriptedBroker(startup_timeout=0.3)

    @broker.subscriber("a")
    async def handler(body: bytes) -> None: ...

    original = broker.transport

    def failing() -> Transport:
        made = original()
        broker.made.start_errors += [BrokerUnavailable("amqp://u:secret@host/", "connect", 1.0)] * 100
        return made

    broker._life.make_transport = failing
    with pytest.raises(BrokerUnavailable) as caught:
        await broker.start()
    assert "secret" not in str(caught.value)
    assert not broker.running
    assert broker.made.log[-1] == "close"


async def test_what_waits_behind_a_failed_message_of_its_lane_keeps_the_order() -> None:
    seen = Inbox()
    broker = ScriptedBroker()

    @broker.subscriber("a")
    async def handler(body: bytes, msg: StreamMessage) -> None:
        seen.put((body.decode(), msg.attempt))
        if body == b"1" and msg.attempt < 2:
            raise ValueError("once")

    async with broker:
        broker.made.items.put_nowait(
            [message("1", lane=0), message("2", lane=0), message("3", lane=1), message("4", lane=0)]
        )
        got = await seen.take_many(5)
        assert got == [("1", 1), ("3", 1), ("1", 2), ("2", 1), ("4", 1)]
    assert broker.made.log[1:8] == ["hold 0", "ack 3", "resume 0", "ack 1", "ack 2", "ack 4", "stop"]


async def test_a_handler_may_go_on_after_its_nack() -> None:
    seen = Inbox()
    release = asyncio.Event()
    broker = ScriptedBroker()
    running: list[int] = []

    @broker.subscriber("a", max_workers=2, ack_policy=AckPolicy.MANUAL)
    async def handler(body: bytes, msg: StreamMessage) -> None:
        running.append(msg.attempt)
        assert len(running) == 1
        if msg.attempt == 1:
            await msg.nack(delay=0.0)
            asyncio.get_running_loop().call_later(0.5, release.set)
            await release.wait()
        else:
            await msg.ack()
            seen.put(msg.attempt)
        running.clear()

    async with broker:
        broker.made.items.put_nowait(message("1"))
        assert await seen.take() == 2
    assert broker.report.counts.get("failed", 0) == 0


async def test_a_copy_does_not_run_while_the_first_run_goes_on() -> None:
    class Copied(StreamMessage):
        __slots__ = ()

        @property
        def identity(self) -> str:
            return self.body.decode()

    seen = Inbox()
    release = asyncio.Event()
    broker = ScriptedBroker()

    @broker.subscriber("a", max_workers=2)
    async def handler(body: bytes) -> None:
        seen.put(body)
        if body == b"1":
            await release.wait()

    async with broker:
        items = broker.made.items
        items.put_nowait([Copied(b"1", None, "a")])
        assert await seen.take() == b"1"
        items.put_nowait([Copied(b"1", None, "a", redelivered=True), Copied(b"2", None, "a")])
        assert await seen.take() == b"2"
        release.set()
        items.put_nowait([Copied(b"3", None, "a")])
        assert await seen.take() == b"3"
    assert seen.all == [b"1", b"2", b"3"]
    assert broker.made.log.count("ack 1") == 2


class Alike(StreamMessage):
    """A message that nothing but its content tells from another one."""

    __slots__ = ()
    sure_of_copies = False

    def is_copy_of(self, other: StreamMessage) -> bool:
        return other._source is not self._source and other.body == self.body


async def test_what_only_looks_like_a_copy_waits_and_runs_itself() -> None:
    seen = Inbox()
    release = asyncio.Event()
    broker = ScriptedBroker()
    at_once, most = 0, 0

    @broker.subscriber("a", max_workers=5)
    async def handler(body: bytes, msg: StreamMessage) -> None:
        nonlocal at_once, most
        seen.put(body)
        if body == b"1" and not msg.redelivered:
            at_once += 1
            await release.wait()
            at_once -= 1
        elif body == b"1":
            most = max(most, at_once)

    async with broker:
        items = broker.made.items
        items.put_nowait([Alike(b"1", None, "a")])
        assert await seen.take() == b"1"
        items.put_nowait(ConnectionError("gone"))
        # The second one can only be another message: the broker delivers again once what this process holds.
        items.put_nowait([Alike(b"1", None, "a", redelivered=True), Alike(b"1", None, "a", redelivered=True)])
        assert await seen.take() == b"1"
        # A copy that is lost with its own source makes room for the next one.
        items.put_nowait(ConnectionError("gone again"))
        items.put_nowait([Alike(b"1", None, "a", redelivered=True), Alike(b"2", None, "a")])
        assert await seen.take() == b"2"
        assert most == 1
        release.set()
        assert await seen.take() == b"1"
        assert (at_once, most) == (0, 1)
    assert seen.all == [b"1", b"1", b"2", b"1"]
    assert broker.made.log.count("ack 1") == 3


async def test_what_fails_on_a_source_that_is_gone_is_the_brokers_to_deliver_again() -> None:
    seen = Inbox()
    broker = ScriptedBroker()
    waiting: list[int] = []

    @broker.subscriber("a")
    async def handler(body: bytes, msg: StreamMessage) -> None:
        assert msg._source is not None
        waiting.append(msg._source.dispatcher.backlog())
        seen.put(body)
        if body == b"1":
            msg._source.gone = True
            raise ValueError("no")

    async with broker:
        broker.made.items.put_nowait([message("1"), message("2")])
        assert await seen.take() == b"1"
        assert await seen.take() == b"2"
    assert waiting == [2, 1]
    assert broker.made.log.count("ack 1") == 0


@pytest.mark.parametrize("is_paused", [False, True], ids=["busy", "paused"])
async def test_a_source_that_breaks_is_replaced_while_nothing_is_fetched(
    is_paused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(ScriptedSource, "window", 2)
    begun, opened, release = Inbox(), Inbox(), asyncio.Event()
    broker = ScriptedBroker()

    async def start(self: ScriptedSource) -> None:
        opened.put(self)

    async def no_answer(self: Transport, timeout: float) -> bool:
        return False

    monkeypatch.setattr(ScriptedSource, "start", start)
    monkeypatch.setattr(ScriptedTransport, "ping", no_answer)

    @broker.subscriber("a", max_workers=2)
    async def handler(body: bytes) -> None:
        begun.put(body)
        if is_paused:
            raise BrokerUnavailable("amqp://host/", "publish", 0.0, "cut")
        await release.wait()

    async with broker:
        transport = broker.made
        transport.items.put_nowait([message("1"), message("2")])
        await begun.take_many(1 if is_paused else 2)
        (source,) = opened.all
        for _ in range(9):  # until it waits
            await asyncio.sleep(0)
        assert broker.report.counts.get("paused", 0) == is_paused
        transport.items.put_nowait(ConnectionError("gone"))
        source.note_broken()
        assert await opened.take() is source
        assert await opened.take() is not source
        release.set()


async def test_no_more_is_fetched_than_there_is_room_for() -> None:
    release = asyncio.Event()
    started = Inbox()
    broker = ScriptedBroker()

    @broker.subscriber("a", max_workers=2)
    async def handler(body: bytes) -> None:
        started.put(body)
        await release.wait()

    async with broker:
        transport = broker.made
        transport.items.put_nowait([message(str(number)) for number in range(5)])
        await started.take_many(2)
        transport.items.put_nowait([])
        await asyncio.sleep(0)
        assert 0 < transport.limits[0] <= 500
        release.set()
        await started.take_many(3)


async def test_messages_that_wait_for_each_other_are_all_fetched() -> None:
    started = Inbox()
    together = asyncio.Event()
    broker = ScriptedBroker()

    @broker.subscriber("a", max_workers=4)
    async def handler(body: bytes) -> None:
        started.put(body)
        await together.wait()

    async with broker:
        source = ScriptedSource
        before, source.window = source.window, 4
        try:
            broker.made.items.put_nowait(ConnectionError("gone"))  # the next source has the small window
            for bodies in ("123", "4"):
                broker.made.items.put_nowait([message(body) for body in bodies])
            assert sorted(await started.take_many(4)) == [b"1", b"2", b"3", b"4"]
        finally:
            source.window = before
            together.set()


async def test_a_stop_hands_back_what_was_not_started() -> None:
    started = asyncio.Event()
    broker = ScriptedBroker(graceful_timeout=5.0)

    @broker.subscriber("a")
    async def handler(body: bytes) -> None:
        started.set()
        await broker.made.released.wait()

    async with broker:
        broker.made.items.put_nowait([message("1"), message("2"), message("3")])
        await started.wait()
    assert broker.made.log == ["start", "stop", "release 23", "ack 1", "flush", "close"]


async def test_a_handler_that_outlasts_the_graceful_timeout_is_not_settled() -> None:
    started = asyncio.Event()
    cancelled: list[bool] = []
    broker = ScriptedBroker(graceful_timeout=0.05)

    @broker.subscriber("a")
    async def handler(body: bytes) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with broker:
        broker.made.items.put_nowait([message("1")])
        await started.wait()
    assert cancelled == [True]
    assert "ack 1" not in broker.made.log


async def test_the_loop_gets_its_turn_while_a_backlog_drains() -> None:
    seen = Inbox()
    broker = ScriptedBroker()
    turns: list[float] = []

    @broker.subscriber("a")
    async def handler(body: bytes) -> None:
        if body == b"4999":
            seen.put(body)

    async with broker:
        loop = asyncio.get_running_loop()
        stop: list[bool] = []

        def tick() -> None:
            turns.append(loop.time())
            if not stop:
                loop.call_soon(tick)

        tick()
        for start in range(0, 5000, 500):
            broker.made.items.put_nowait([message(str(number)) for number in range(start, start + 500)])
        await seen.take()
        stop.append(True)
    assert len(turns) > 20


async def test_what_waits_behind_failed_messages_is_given_back_when_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ScriptedSource, "window", 10)
    broker, seen = ScriptedBroker(), Inbox()
    given: list[str] = []

    @broker.subscriber("a")
    async def handler(msg: str) -> None:
        if msg.startswith("bad") and "free" not in seen.all:
            raise RuntimeError("not yet")
        seen.put(msg)

    def give_back(source: Source, lane: Any, messages: Sequence[StreamMessage]) -> bool:
        given.extend(one.body.decode() for one in messages)
        return True

    async with broker:
        source = broker.subscribers[0].runs[0]._source
        assert source is not None
        source.give_back = give_back.__get__(source)  # type: ignore[method-assign]
        broker.made.items.put_nowait([message("bad 1", lane=1), *(message(f"a {n}", lane=1) for n in range(8))])
        broker.made.items.put_nowait([message("bad 2", lane=2), *(message(f"b {n}", lane=2) for n in range(8))])
        broker.made.items.put_nowait([message("free", lane=3)])
        got = await seen.take_many(3 + 8)
    assert {"bad 1", "bad 2", "free"} <= set(got)
    assert len(given) == 8
    assert given == [f"{given[0][0]} {n}" for n in range(8)]
    kept = [one for one in seen.all if one[0] in "ab" and not one.startswith("bad")]
    assert kept == [f"{kept[0][0]} {n}" for n in range(8)]
    assert kept[0] not in given
