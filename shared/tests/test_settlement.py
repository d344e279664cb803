"""Whatever a client says to a settlement, the worker goes on and the log has one line."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import pytest
from fastapi import BackgroundTasks
from fastapi_stream_core import AckPolicy, NackMessage, Outgoing, PublishError, RejectMessage, Retry, StreamMessage
from fastapi_stream_core.testing.conformance import until

from scripted import DEADLINE, Message, ScriptedBroker, ScriptedSource


class Refused(Exception):
    """What the client of this file raises."""


def refusing(broker: ScriptedBroker, *names: str) -> None:
    def fail(name: str) -> None:
        if name in names:
            raise Refused(name)

    broker.script.fail = fail


async def finished(broker: ScriptedBroker, *lines: str) -> None:
    await until(lambda: [one for one in broker.script.log if one in lines] == list(lines))


@pytest.mark.parametrize("kind", ["async", "sync", "batch", "ack first", "by hand"])
@pytest.mark.parametrize("waits", [False, True])
async def test_an_acknowledgement_that_raises(
    kind: str, waits: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[Any] = []
    policy = {"ack first": AckPolicy.ACK_FIRST, "by hand": AckPolicy.MANUAL}.get(kind, AckPolicy.NACK_ON_ERROR)
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in", ack_policy=policy, batch=kind == "batch")

    async def handle(body: bytes, message: StreamMessage) -> None:
        if kind == "by hand":
            await message.ack()
        handled.append(body)

    def sync_handle(body: bytes) -> None:
        handled.append(body)

    async def batch_handle(bodies: list[bytes]) -> None:
        handled.extend(bodies)

    subscriber({"sync": sync_handle, "batch": batch_handle}.get(kind, handle))
    if waits:
        ack = ScriptedSource.ack

        async def later(source: ScriptedSource, message: StreamMessage) -> None:
            await asyncio.sleep(0)
            ack(source, message)

        def begun(source: ScriptedSource, message: StreamMessage) -> Awaitable[None]:
            return later(source, message)

        monkeypatch.setattr(ScriptedSource, "ack", begun)
    refusing(broker, "ack")
    with caplog.at_level(logging.WARNING):
        async with broker:
            broker.script.give("1", "2", lane=0)
            await finished(broker, "ack 1", "ack 2")
            worker = [task for task in asyncio.all_tasks() if task.get_name() == broker.subscribers[0].label]
            broker.script.give("3", lane=0)
            await finished(broker, "ack 1", "ack 2", "ack 3")
            assert [one.done() for one in worker] == [False], "the same worker goes on"
    assert handled == [b"1", b"2", b"3"]
    assert broker.report.counts == {"late": 3}
    assert [record.getMessage().count("could not be settled: Refused: ack") for record in caplog.records] == [1] * 3


class Pending:
    """What a client gives for each acknowledgement: a future, or a coroutine that waits for one.

    Attributes:
        begun: the futures, in order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, is_future: bool) -> None:
        self.begun: list[asyncio.Future[None]] = []
        ack = ScriptedSource.ack

        async def waiting(future: asyncio.Future[None]) -> None:
            await future

        def begin(source: ScriptedSource, message: StreamMessage) -> Awaitable[None]:
            ack(source, message)
            future = asyncio.get_running_loop().create_future()
            self.begun.append(future)
            return future if is_future else waiting(future)

        monkeypatch.setattr(ScriptedSource, "ack", begin)

    async def cancelled(self, count: int) -> None:
        """Wait for so many, and cancel the last one as a client does that lost its connection."""
        await until(lambda: len(self.begun) == count)
        await asyncio.sleep(0)
        self.begun[-1].cancel()


@pytest.mark.parametrize("kind", ["async", "sync", "batch", "ack first", "by hand"])
@pytest.mark.parametrize("is_future", [False, True])
async def test_an_acknowledgement_that_the_client_cancels(
    kind: str, is_future: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []
    policy = {"ack first": AckPolicy.ACK_FIRST, "by hand": AckPolicy.MANUAL}.get(kind, AckPolicy.NACK_ON_ERROR)
    broker, pending = ScriptedBroker(), Pending(monkeypatch, is_future)
    subscriber = broker.subscriber("in", ack_policy=policy, batch=kind == "batch")

    async def handle(body: bytes, message: StreamMessage, tasks: BackgroundTasks) -> None:
        tasks.add_task(ran.append, body)
        if kind == "by hand":
            await message.ack()

    def sync_handle(body: bytes) -> None:
        ran.append(body)

    async def batch_handle(bodies: list[bytes], tasks: BackgroundTasks) -> None:
        tasks.add_task(ran.append, bodies[0])

    subscriber({"sync": sync_handle, "batch": batch_handle}.get(kind, handle))
    with caplog.at_level(logging.WARNING):
        async with broker:
            workers: list[asyncio.Task[Any]] = []
            for count, body in enumerate(("1", "2"), 1):
                broker.script.give(body, lane=0)
                await pending.cancelled(count)
                await until(lambda: len(ran) == count)  # noqa: B023
                workers += [one for one in asyncio.all_tasks() if one.get_name() == broker.subscribers[0].label]
            assert len(set(workers)) == 1, "the same worker goes on"
            await until(lambda: broker.script.sources[0].dispatcher.backlog() == 0)
    assert ran == [b"1", b"2"]
    assert broker.report.counts == {"late": 2}
    assert ["could not be settled" in record.getMessage() for record in caplog.records] == [True, True]


@pytest.mark.parametrize("is_future", [False, True])
async def test_a_worker_that_is_cancelled_while_it_waits_for_its_client_ends(
    is_future: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, pending = ScriptedBroker(graceful_timeout=0.01), Pending(monkeypatch, is_future)

    @broker.subscriber("in")
    async def handle(body: bytes) -> None: ...

    async with broker:
        broker.script.give("1")
        await until(lambda: len(pending.begun) == 1)
        (worker,) = [one for one in asyncio.all_tasks() if one.get_name() == broker.subscribers[0].label]
    assert worker.cancelled()
    await until(pending.begun[0].cancelled)
    assert "late" not in broker.report.counts


@pytest.mark.parametrize("redelivers", [False, True])
async def test_a_rejection_and_a_nack_that_raise(redelivers: bool) -> None:
    broker = ScriptedBroker({"redelivers": redelivers})
    subscriber = broker.subscriber("in")
    subscriber.retry = Retry(delay=0.001)

    @subscriber
    async def handle(body: bytes, message: StreamMessage) -> None:
        if body == b"reject":
            raise RejectMessage
        if body == b"fail" and message.attempt == 1:
            raise ValueError("once")

    refusing(broker, "reject", "nack")
    async with broker:
        broker.script.give("reject", "fail", "last")
        await finished(broker, "ack last")
        assert "reject reject" in broker.script.log
        if redelivers:
            assert "nack fail" in broker.script.log
        else:
            await until(lambda: "ack fail" in broker.script.log)


async def test_a_client_that_cannot_pause_loses_no_message_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker()
    subscriber = broker.subscriber("in")
    subscriber.retry = Retry(delay=0.001)

    @subscriber
    async def handle(body: bytes, message: StreamMessage) -> None:
        if message.attempt == 1 and body == b"1":
            raise ValueError("once")

    refusing(broker, "hold", "keep", "resume")
    async with broker:
        broker.script.give("1", "2", lane=0)
        await finished(broker, "ack 1", "ack 2")
        assert [one for one in broker.script.log if not one.startswith("ack")] == [
            "start",
            "hold 0",
            "keep 1",
            "resume 0",
        ]
    assert caplog.text.count("Refused") == 3


async def test_a_lane_that_is_taken_away_while_it_is_held_is_not_held_when_it_comes_back() -> None:
    broker = ScriptedBroker()

    @broker.subscriber("in")
    async def handle(message: StreamMessage) -> None:
        await message.nack(60)

    async with broker:
        script = broker.script
        script.give("1", "2", lane=0)
        await until(lambda: "keep 1" in script.log)
        await script.sources[0].dispatcher.revoke([0], 10.0)
        assert script.log == ["start", "hold 0", "keep 1", "resume 0"]


# What asks for another delivery at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("redelivers", [False, True])
@pytest.mark.parametrize("delay", [0, 0.0, -5])
async def test_a_nack_by_hand_does_not_spin(delay: float, redelivers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = ScriptedBroker({"redelivers": redelivers})
    delays: list[float] = []
    monkeypatch.setattr(ScriptedSource, "nack", lambda source, message, seconds: delays.append(seconds))
    monkeypatch.setattr(ScriptedSource, "keep", lambda source, message, seconds: delays.append(seconds))
    single, several = broker.subscriber("in"), broker.subscriber("in", batch=True)

    @single
    async def handle(body: bytes, message: StreamMessage) -> None:
        await message.nack(delay)

    @several
    async def handle_batch(bodies: list[bytes], message: StreamMessage) -> None:
        await message.nack(delay=delay)

    async with broker:
        broker.script.give("1")
        broker.script.give("2")
        await until(lambda: len(delays) >= 2)
    assert delays == [0.2] * len(delays)


# A log that raises -------------------------------------------------------------------------------------------------


class Refusing(logging.Filter):
    """A filter with a bug."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise KeyError("a bug in a filter")


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("kind", ["async", "sync", "batch"])
async def test_a_log_that_raises_touches_no_message(
    kind: str, adapter: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(logging.NullHandler())
    logger.addFilter(Refusing())
    broker = ScriptedBroker(logger=logging.LoggerAdapter(logger, {}) if adapter else logger)
    policy = AckPolicy.REJECT_ON_ERROR
    rejecting = broker.subscriber("in", ack_policy=policy, batch=kind == "batch")

    async def handle(body: bytes) -> None:
        if body == b"1":
            raise ValueError("it fails")

    def sync_handle(body: bytes) -> None:
        if body == b"1":
            raise ValueError("it fails")

    async def batch_handle(bodies: list[bytes]) -> None:
        if b"1" in bodies:
            raise ValueError("it fails")

    rejecting({"sync": sync_handle, "batch": batch_handle}.get(kind, handle))
    async with broker:
        broker.script.give("1", lane=0)
        await finished(broker, "reject 1")
        worker = [task for task in asyncio.all_tasks() if task.get_name() == broker.subscribers[0].label]
        broker.script.give("2", lane=0)
        await finished(broker, "ack 2")
        assert [task.done() for task in worker] == [False], "the same worker goes on"
        await until(lambda: broker.script.sources[0].dispatcher.backlog() == 0)
    assert broker.report.counts["rejected"] == 1
    assert broker.report.counts["log_failed"] >= 1
    assert capsys.readouterr().err.count("KeyError: ") == 1, "it is told once"


async def test_a_message_is_settled_before_its_failure_is_logged() -> None:
    broker = ScriptedBroker()
    seen: list[list[str]] = []

    class Looks(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if "failed" in record.getMessage():
                seen.append(list(broker.script.log))
            return True

    look = Looks()
    logging.getLogger("fastapi_stream.local").addFilter(look)

    @broker.subscriber("in", ack_policy=AckPolicy.REJECT_ON_ERROR)
    async def handle(body: bytes) -> None:
        raise ValueError("it fails")

    try:
        async with broker:
            broker.script.give("1")
            await finished(broker, "reject 1")
            await until(lambda: seen)
    finally:
        logging.getLogger("fastapi_stream.local").removeFilter(look)
    assert seen == [["start", "reject 1"]]


# What is no `Exception` --------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """As libraries have it for what no handler should catch."""


@pytest.mark.parametrize("policy", [AckPolicy.ACK, AckPolicy.REJECT_ON_ERROR, AckPolicy.NACK_ON_ERROR])
@pytest.mark.parametrize("kind", ["async", "sync", "batch"])
async def test_an_interruption_never_settles_a_message(kind: str, policy: AckPolicy) -> None:
    broker = ScriptedBroker({"pace": 0.0})
    subscriber = broker.subscriber("in", ack_policy=policy, batch=kind == "batch")
    subscriber.retry = Retry(attempts=2)
    runs: list[Any] = []

    def run(body: Any) -> None:
        runs.append(body)
        if len(runs) <= 3:
            raise Interrupted("interrupted")
        if len(runs) == 4 and policy is AckPolicy.NACK_ON_ERROR:
            raise ValueError("the first delivery that counts")

    async def handle(body: bytes) -> None:
        run(body)

    def sync_handle(body: bytes) -> None:
        run(body)

    async def batch_handle(bodies: list[bytes]) -> None:
        run(bodies)

    subscriber({"sync": sync_handle, "batch": batch_handle}.get(kind, handle))
    async with broker:
        broker.script.give("1", lane=0)
        await until(lambda: {"ack 1", "reject 1"} & set(broker.script.log))
    assert "reject 1" not in broker.script.log
    assert len(runs) == (5 if policy is AckPolicy.NACK_ON_ERROR else 4)


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("kind", ["async", "sync", "batch"])
@pytest.mark.parametrize("policy", [AckPolicy.ACK, AckPolicy.NACK_ON_ERROR])
def test_what_ends_the_process_ends_it_and_leaves_the_message(
    policy: AckPolicy, kind: str, raised: type[BaseException]
) -> None:
    broker = ScriptedBroker(logger=None)

    async def handle(body: bytes) -> None:
        raise raised(3)

    def sync_handle(body: bytes) -> None:
        raise raised(3)

    async def batch_handle(bodies: list[bytes]) -> None:
        raise raised(3)

    subscriber = broker.subscriber("in", ack_policy=policy, batch=kind == "batch")
    subscriber({"sync": sync_handle, "batch": batch_handle}.get(kind, handle))

    async def main() -> None:
        async with broker:
            broker.script.give("1")
            await asyncio.Event().wait()

    with pytest.raises(raised):
        asyncio.run(main())
    assert not [line for line in broker.script.log if line.split()[0] in ("ack", "reject", "nack", "keep")]
    assert broker.script.log[-1] == "close"


# What failed after it was settled ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("verdict", "count"), [("nack", 2), ("ack", 1), ("reject", 1)])
async def test_a_failure_after_a_settlement_by_hand_says_that_it_stays(
    verdict: str, count: int, batch: bool, caplog: pytest.LogCaptureFixture
) -> None:
    broker = ScriptedBroker({"pace": 0.0})
    runs: list[Any] = []

    async def handle(body: bytes, message: StreamMessage) -> None:
        runs.append(body)
        if len(runs) == 1:
            await getattr(message, verdict)()
            raise ValueError("after it")

    async def batch_handle(bodies: list[bytes], message: StreamMessage) -> None:
        await handle(b"", message)

    subscriber = broker.subscriber("in", ack_policy=AckPolicy.REJECT_ON_ERROR, batch=batch)
    subscriber(batch_handle if batch else handle)
    async with broker:
        broker.script.give("1")
        await finished(broker, "reject 1" if verdict == "reject" else "ack 1")
        await until(lambda: "failed" in broker.report.counts)
        await until(lambda: len(runs) == count)
    assert broker.report.counts == {"failed": 1}
    assert f"delivery 1, {verdict}ed before: ValueError: after it" in caplog.text.replace("rejecteded", "rejected")


# Background tasks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "batch"])
async def test_background_tasks_run_when_all_went_well_and_not_before(kind: str) -> None:
    broker = ScriptedBroker({"pace": 0.0})
    sent: list[str] = []
    ran: list[list[str]] = []

    def later() -> None:
        ran.append([line for line in broker.script.log if line.startswith("ack")])

    async def publish(outgoing: Outgoing) -> None:
        sent.append(outgoing.body.decode())
        if len(sent) < 3:
            raise PublishError("out", "refused")

    broker.script.publish = publish  # type: ignore[method-assign]

    async def handle(body: bytes, tasks: BackgroundTasks) -> bytes:
        tasks.add_task(later)
        return body

    async def batch_handle(bodies: list[bytes], tasks: BackgroundTasks) -> bytes:
        tasks.add_task(later)
        return bodies[0]

    subscriber = broker.subscriber("in", batch=kind == "batch")
    subscriber(broker.publisher("out")({"async": handle, "batch": batch_handle}[kind]))
    async with broker:
        broker.script.give("1")
        await finished(broker, "ack 1")
        broker.script.give("2")
        await until(lambda: len(ran) == 2)
        await until(lambda: broker.script.sources[0].dispatcher.backlog() == 0)
    assert sent == ["1", "1", "1", "2"]
    assert ran == [["ack 1"], ["ack 1", "ack 2"]]


async def test_a_batch_that_fails_is_the_last_delivery_of_nobody_else() -> None:
    broker = ScriptedBroker({"redelivers": True})

    @broker.subscriber("in", batch=True)
    async def handle(bodies: list[bytes]) -> None:
        raise ValueError("one of them")

    async with broker:
        first = broker.script.give("old", "new", attempt=25, redelivered=True)
        first[1].attempt = 1
        await until(lambda: len(broker.script.log) >= 3)
    assert set(broker.script.log[1:3]) == {"reject old", "nack new"}
    assert broker.report.counts["rejected"] == broker.report.counts["retried"] == 1


class Asking(Message):
    """A message whose sender waits for an answer."""

    __slots__ = ()

    @property
    def reply_to(self) -> str:
        return "inbox"


async def test_an_answer_that_only_its_address_refuses_pauses_nobody() -> None:
    broker = ScriptedBroker()
    runs: list[bytes] = []

    @broker.subscriber("in")
    async def handle(body: bytes) -> bytes:
        runs.append(body)
        return body

    async with broker:
        broker.script.away = broker.script.answers = True
        broker.script.items.put_nowait([Asking(b"1", None, "in")])
        broker.script.give("2")
        await until(lambda: {"ack 1", "ack 2"} <= set(broker.script.log))
    assert runs == [b"1", b"2"]
    assert broker.report.counts == {"replies_refused": 1}


async def test_an_answer_is_sent_when_its_broker_is_back() -> None:
    broker = ScriptedBroker()

    @broker.subscriber("in")
    async def handle(body: bytes) -> bytes:
        return body

    async with broker:
        broker.script.away = True
        broker.script.items.put_nowait([Asking(b"1", None, "in")])
        await asyncio.wait_for(broker.script.refused.wait(), DEADLINE)
        await until(lambda: broker.report.counts.get("paused"))
        broker.script.away = False
        await until(lambda: "ack 1" in broker.script.log)
    assert broker.script.published == ["1"]
    assert "replies_refused" not in broker.report.counts


async def test_what_a_lost_source_fetched_is_handed_back_where_the_broker_has_it_no_more() -> None:
    broker = ScriptedBroker({"settles": False})
    begun, over = asyncio.Event(), asyncio.Event()

    @broker.subscriber("in")
    async def handle(body: bytes) -> None:
        begun.set()
        await over.wait()

    async with broker:
        broker.script.give("1", "2", "3")
        await asyncio.wait_for(begun.wait(), DEADLINE)
        broker.script.items.put_nowait(ConnectionResetError("cut"))
        await until(lambda: "close" in broker.script.log)
        asyncio.get_running_loop().call_later(0.05, over.set)
    assert [line for line in broker.script.log if line.startswith("release")] == ["release 2", "release 3"]


async def test_failures_that_wait_do_not_slow_a_source_that_follows_the_handler() -> None:
    broker = ScriptedBroker({"adaptive": True, "window": 100})
    handled: list[str] = []

    @broker.subscriber("in")
    async def handle(text: str) -> None:
        if text.startswith("bad"):
            raise NackMessage(delay=60.0)
        handled.append(text)

    async with broker:
        for number in range(5):
            broker.script.give(f"bad {number}")
        broker.script.give("good")
        await until(lambda: handled == ["good"])
