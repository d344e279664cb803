"""A broker that is away is never the message's fault: it waits, no delivery counts, nothing is lost."""

import asyncio
import builtins
import logging
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends
from fastapi_stream_core import AckPolicy, BrokerUnavailable, NackMessage, Retry, Status, StreamMessage, outage
from fastapi_stream_core.policy import decide
from fastapi_stream_core.testing.conformance import until
from fastapi_stream_core.testing.reference import LocalBroker, TestLocalBroker

from scripted import DEADLINE, ScriptedBroker

FIRST_DELAY = 0.02

AWAY = BrokerUnavailable("redis://host:1", "publish", 0.1)
LATE_POLICIES = [AckPolicy.ACK, AckPolicy.REJECT_ON_ERROR, AckPolicy.NACK_ON_ERROR]
SOURCES = [{}, {"redelivers": True}, {"settles": False}]

Group: Any = getattr(builtins, "ExceptionGroup", None)  # since Python 3.11


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker of the tests comes back soon."""
    monkeypatch.setattr(outage, "FIRST_DELAY", FIRST_DELAY)


def echo(broker: Any, target: Any, **options: Any) -> Callable[..., Any]:
    """Declare a handler that publishes what it gets."""

    @broker.subscriber("in", **options)
    @target.publisher("out")
    async def handle(body: bytes) -> bytes:
        return body

    return handle  # type: ignore[no-any-return]


# The decision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", LATE_POLICIES)
def test_it_waits_and_does_not_count(policy: AckPolicy) -> None:
    for attempt in (1, 5, 100):
        decision = decide(AWAY, attempt, policy, Retry())
        assert (decision.away, decision.verdict, decision.failed, decision.final) == (True, None, False, False)


@pytest.mark.parametrize("policy", [AckPolicy.ACK_FIRST, AckPolicy.MANUAL])
def test_policies_that_settle_at_another_time_stay_as_they_are(policy: AckPolicy) -> None:
    assert not decide(AWAY, 1, policy, Retry()).away


@pytest.mark.skipif(Group is None, reason="exception groups are there since Python 3.11")
def test_a_group_counts_when_all_of_it_is_such() -> None:
    group = Group("several", [AWAY, Group("more", [AWAY])])
    assert decide(group, 1, AckPolicy.NACK_ON_ERROR, Retry()).away
    mixed = Group("several", [AWAY, ValueError()])
    assert not decide(mixed, 1, AckPolicy.NACK_ON_ERROR, Retry()).away


# The pause ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("policy", LATE_POLICIES)
async def test_no_message_is_settled_without_what_it_publishes(source: dict[str, Any], policy: AckPolicy) -> None:
    broker = ScriptedBroker(source)
    other = ScriptedBroker()
    attempts: list[int] = []

    @broker.subscriber("in", ack_policy=policy)
    @other.publisher("out")
    async def handle(body: bytes, message: StreamMessage) -> bytes:
        attempts.append(message.attempt)
        return body

    async with broker, other:
        script, away = broker.script, other.script
        away.away = True
        script.give("1", "2", "3")
        await asyncio.wait_for(away.refused.wait(), DEADLINE)
        await until(lambda: broker.subscribers[0].status is Status.PAUSED)
        await until(lambda: away.pings >= 3)
        assert (script.log, away.published) == (["start"], [])
        assert attempts == [1], "nothing else is begun"
        away.away = False
        await until(lambda: len(away.published) == 3)
        assert away.published == ["1", "2", "3"]
        await until(lambda: script.log[1:] == ["ack 1", "ack 2", "ack 3"])
        assert broker.subscribers[0].status is Status.RUNNING
    assert attempts == [1, 1, 1, 1]
    assert {"failed", "retried", "rejected"}.isdisjoint(broker.report.counts)
    assert broker.report.counts["paused"] == 1


async def test_nothing_is_fetched_meanwhile() -> None:
    broker = ScriptedBroker()
    echo(broker, broker)
    async with broker:
        script = broker.script
        script.away = True
        script.give("1")
        await until(lambda: broker.subscribers[0].status is Status.PAUSED)
        script.give("2")  # the fetch that waited already
        await until(script.items.empty)
        fetches = script.fetches
        script.give("3")
        await until(lambda: script.pings >= 3)
        assert script.fetches == fetches
        script.away = False
        await until(lambda: script.published == ["1", "2", "3"])


async def test_two_lines_tell_of_it_however_many_messages_wait(caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker()
    echo(broker, broker, max_workers=10)
    with caplog.at_level(logging.INFO):
        async with broker:
            broker.script.away = True
            broker.script.give(*map(str, range(50)))
            await until(lambda: broker.script.pings >= 2)
            broker.script.away = False
            await until(lambda: len(broker.script.published) == 50)
    lines = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert len(lines) == 2
    assert "paused" in lines[0]
    assert "scripted" in lines[0]
    assert "goes on" in lines[1]
    assert sum("not settled" in record.getMessage() for record in caplog.records) == 0


async def test_a_broker_that_answers_and_takes_nothing_is_not_tried_without_end() -> None:
    broker = ScriptedBroker()
    tries: list[float] = []

    @broker.subscriber("in")
    async def handle(body: bytes) -> None:
        tries.append(time.monotonic())
        if len(tries) < 4:
            raise AWAY

    async with broker:
        broker.script.give("1")
        await until(lambda: "ack 1" in broker.script.log)
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[0] >= FIRST_DELAY
    assert pauses[1] >= 2 * FIRST_DELAY
    assert pauses[2] >= 4 * FIRST_DELAY
    assert broker.report.counts["paused"] == 3


async def test_the_message_that_waited_runs_first_and_other_lanes_wait_too() -> None:
    broker = ScriptedBroker()
    echo(broker, broker)
    async with broker:
        script = broker.script
        script.away = True
        script.give("1", "2", lane=0)
        await until(lambda: broker.subscribers[0].status is Status.PAUSED)
        script.give("3", lane=1)
        await until(script.items.empty)
        script.away = False
        await until(lambda: len(script.published) == 3)
        assert script.published == ["1", "2", "3"]
        assert not [line for line in script.log if line.startswith(("hold", "keep"))]


async def test_what_waited_keeps_its_place_behind_a_failed_one_of_its_lane() -> None:
    broker = ScriptedBroker()
    other = ScriptedBroker()
    runs: list[str] = []
    finished: list[str] = []

    @broker.subscriber("in", max_workers=4)
    @other.publisher("out")
    async def handle(text: str) -> str:
        runs.append(text)
        if text == "0" and runs.count("0") == 1:
            raise NackMessage(delay=0.5)
        finished.append(text)
        return text

    async with broker, other:
        other.script.away = True
        broker.script.give("0", "1", "2", lane="a")
        await until(other.script.refused.is_set)
        broker.script.give("3", "4", lane="a")
        other.script.away = False
        await until(lambda: {f"ack {number}" for number in range(5)} <= set(broker.script.log))
    after = finished[finished.index("0") :]
    assert after == sorted(after)


async def test_it_counts_as_unfinished_and_keeps_its_copies() -> None:
    broker = ScriptedBroker()
    runs: list[bytes] = []

    @broker.subscriber("in", max_workers=2)
    @broker.publisher("out")
    async def handle(body: bytes) -> bytes:
        runs.append(body)
        return body

    async with broker:
        script = broker.script
        script.away = True
        (waits,) = script.give("1")
        await until(lambda: broker.subscribers[0].status is Status.PAUSED)
        dispatcher = script.sources[0].dispatcher
        assert waits in dispatcher.unfinished()
        assert dispatcher.backlog() == 1
        script.give("1", redelivered=True)
        await until(script.items.empty)
        script.away = False
        await until(lambda: script.log.count("ack 1") == 2)
    assert runs == [b"1", b"1"], "once before the outage and once after it"


async def test_a_batch_waits_as_a_batch() -> None:
    broker = ScriptedBroker()
    sizes: list[int] = []

    @broker.subscriber("in", batch=True)
    @broker.publisher("out")
    async def handle(bodies: list[bytes]) -> bytes:
        sizes.append(len(bodies))
        return b"".join(bodies)

    async with broker:
        broker.script.away = True
        broker.script.give("1", "2", "3", lane=0)
        await until(lambda: broker.script.pings >= 2)
        broker.script.give("4", lane=0)
        broker.script.away = False
        await until(lambda: broker.script.log.count("ack 4") == 1)
    assert broker.script.published[0] == "123"
    assert sizes[:2] == [3, 3]


async def test_a_sync_handler_in_a_chunk() -> None:
    broker = ScriptedBroker()
    runs: list[bytes] = []

    @broker.subscriber("in")
    def handle(body: bytes) -> None:
        runs.append(body)
        if runs.count(b"30") == 1 and body == b"30":
            raise AWAY

    async with broker:
        broker.script.give(*map(str, range(60)))
        await until(lambda: "ack 59" in broker.script.log)
    assert broker.script.log[1:61] == [f"ack {number}" for number in range(60)]
    assert runs == [str(one).encode() for one in [*range(31), *range(30, 60)]]


async def test_a_dependency_and_a_background_task() -> None:
    broker = ScriptedBroker()
    ran: list[str] = []

    async def audit() -> None:
        await broker.publish("audit", "audit")

    async def later() -> None:
        ran.append("later")

    @broker.subscriber("in")
    @broker.publisher("out")
    async def handle(body: bytes, tasks: BackgroundTasks, _: Annotated[None, Depends(audit)]) -> bytes:
        ran.append("handler")
        tasks.add_task(later)
        return body

    async with broker:
        broker.script.away = True
        broker.script.give("1")
        await until(lambda: broker.script.pings >= 2)
        broker.script.away = False
        await until(lambda: ran == ["handler", "later"])
    assert broker.script.published == ["audit", "1"]


async def test_a_message_that_was_settled_by_hand_is_not_run_again() -> None:
    broker = ScriptedBroker()
    runs: list[bytes] = []

    @broker.subscriber("in")
    async def handle(body: bytes, message: StreamMessage) -> None:
        runs.append(body)
        await message.ack()
        if body == b"1":
            raise AWAY

    async with broker:
        broker.script.give("1", "2")
        await until(lambda: "ack 2" in broker.script.log)
    assert runs == [b"1", b"2"]
    assert broker.report.counts["failed"] == 1


# The end of it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
async def test_a_stop_hands_back_what_waits(batch: bool) -> None:
    broker = ScriptedBroker()

    @broker.subscriber("in", batch=batch)
    async def handle(body: Any) -> None:
        raise AWAY

    async with broker:
        broker.script.answers = False
        broker.script.give("1", "2")
        await until(lambda: broker.subscribers[0].status is Status.PAUSED)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert sorted(one for one in broker.script.log if one[:7] in ("release", "ack 1", "ack 2")) == [
        "release 1",
        "release 2",
    ]
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("error", [asyncio.CancelledError(), OSError("no"), asyncio.TimeoutError()])
async def test_it_ends_whatever_a_ping_raises_before(error: BaseException) -> None:
    broker = ScriptedBroker()
    other = ScriptedBroker()
    echo(broker, other)
    async with broker, other:
        other.script.away = True
        broker.script.ping_error = error
        broker.script.give("1")
        await until(lambda: broker.script.pings >= 2)
        other.script.away, broker.script.ping_error = False, None
        await until(lambda: other.script.published == ["1"])
        await until(lambda: broker.subscribers[0].status is Status.RUNNING)
    assert [one for one in broker.script.log if one.startswith("ack")] == ["ack 1"]


async def test_a_stop_during_a_ping_that_hangs() -> None:
    broker = ScriptedBroker()
    pinged = asyncio.Event()

    @broker.subscriber("in")
    async def handle(body: bytes) -> None:
        raise AWAY

    async def hangs(timeout: float) -> bool:
        pinged.set()
        await asyncio.Event().wait()
        return True

    async with broker:
        broker.script.ping = hangs  # type: ignore[method-assign]
        broker.script.give("1")
        await asyncio.wait_for(pinged.wait(), DEADLINE)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert "release 1" in broker.script.log


async def test_a_handler_that_fails_so_while_it_stops_is_handed_back() -> None:
    broker = ScriptedBroker()
    began, release = asyncio.Event(), asyncio.Event()

    @broker.subscriber("in")
    async def handle(body: bytes) -> None:
        began.set()
        await release.wait()
        raise AWAY

    async with broker:
        broker.script.give("1")
        await asyncio.wait_for(began.wait(), DEADLINE)
        asyncio.get_running_loop().call_later(0.05, release.set)
    assert broker.script.log == ["start", "release 1", "close"]


async def test_a_source_that_breaks_meanwhile_takes_its_messages_with_it() -> None:
    broker = ScriptedBroker()
    echo(broker, broker)
    async with broker:
        script = broker.script
        script.away = True
        script.give("1")
        await until(lambda: broker.subscribers[0].status is Status.PAUSED)
        script.items.put_nowait(ConnectionError("gone"))  # for the fetch that waited already
        await until(lambda: script.log.count("start") == 2)
        script.away = False
        script.give("1", "2", redelivered=True)
        await until(lambda: script.published == ["1", "2"])
        assert broker.subscribers[0].status is Status.RUNNING
    assert script.log.count("ack 1") == 1


async def test_a_partition_that_goes_to_another_consumer_meanwhile() -> None:
    broker = ScriptedBroker()
    echo(broker, broker)
    async with broker:
        script = broker.script
        script.away = True
        script.give("1", lane=0)
        await until(lambda: broker.subscribers[0].status is Status.PAUSED)
        began = time.monotonic()
        await script.sources[0].dispatcher.revoke([0], 10.0)
        assert time.monotonic() - began < 5
        assert script.sources[0].dispatcher.backlog() == 0
        assert broker.subscribers[0].status is Status.RUNNING
        script.away = False
        script.give("2", lane=1)
        await until(lambda: script.published == ["2"])


async def test_what_waited_of_another_lane_goes_on_when_the_lane_of_the_outage_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    broker = ScriptedBroker(logger=logging.getLogger("outage"))
    echo(broker, broker)
    async with broker:
        script = broker.script
        script.away = True
        script.give("1", "2", lane=0)
        await until(lambda: broker.subscribers[0].status is Status.PAUSED)
        script.give("3", lane=1)
        await until(script.items.empty)
        script.away = False
        await script.sources[0].dispatcher.revoke([0], 10.0)
        await until(lambda: script.published == ["3"])
        assert len([one for one in caplog.messages if "goes on" in one]) == 1


async def test_all_workers_go_on_when_it_is_over() -> None:
    broker = ScriptedBroker()
    running, most, go = 0, 0, asyncio.Event()

    @broker.subscriber("in", max_workers=4)
    async def handle(body: bytes) -> None:
        nonlocal running, most
        if body == b"first" and broker.script.away:
            raise AWAY
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1

    async with broker:
        script = broker.script
        script.away = True
        script.give("first")
        await until(lambda: broker.subscribers[0].status is Status.PAUSED)
        script.give("1", "2", "3")
        await until(script.items.empty)
        script.away = False
        await until(lambda: most == 4)
        go.set()


async def test_under_a_test_broker_publish_raises_it() -> None:
    broker = LocalBroker()
    runs: list[str] = []

    @broker.subscriber("a")
    async def handle(text: str) -> None:
        runs.append(text)
        if len(runs) == 1:
            raise AWAY

    async with TestLocalBroker(broker):
        with pytest.raises(BrokerUnavailable):
            await asyncio.wait_for(broker.publish("one", "a"), DEADLINE)
        await until(lambda: len(runs) == 2)
