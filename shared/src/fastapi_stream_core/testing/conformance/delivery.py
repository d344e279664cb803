"""Conformance: what becomes of a message whose handling fails, and of the messages around it."""

import asyncio
import builtins
import logging
from typing import Annotated, Any
from uuid import uuid4

import pytest
from fastapi import BackgroundTasks, Depends

from ...errors import BrokerUnavailable
from ...message import StreamMessage
from ...policy import AckMessage, AckPolicy, NackMessage, RejectMessage, SkipMessage
from .cancellations import CancellationSuite
from .harness import DEADLINE, Harness, Inbox, needs, until

__all__ = ("DeliverySuite",)


class Flaky(Exception):
    """What handlers of this suite raise."""


class Interrupted(BaseException):
    """What no handler should catch, and ends no process."""


ANYTHING: list[BaseException] = [Interrupted("once"), asyncio.CancelledError(), GeneratorExit()]
if group := getattr(builtins, "BaseExceptionGroup", None):  # since Python 3.11
    ANYTHING.append(group("several", [SystemExit(1), Flaky("one of them")]))


class DeliverySuite(CancellationSuite):
    """Derive a class `TestDelivery` from it next to a fixture `harness`."""

    async def _run(
        self, harness: Harness, handler: Any, bodies: list[Any], seen: Inbox, count: int, **options: Any
    ) -> list[Any]:
        router = harness.router()
        address = harness.address()
        harness.subscribe(router, address, **options)(handler)
        async with harness.running(router) as broker:
            for body in bodies:
                await harness.publish(broker, body, address)
            return await seen.take_many(count)

    async def test_a_message_that_fails_is_delivered_again(self, harness: Harness) -> None:
        needs(harness, "settles")
        seen = Inbox()

        async def handler(msg: str, message: StreamMessage) -> None:
            seen.put((msg, message.attempt))
            if message.attempt < 3:
                raise Flaky

        assert await self._run(harness, handler, ["a"], seen, 3) == [("a", 1), ("a", 2), ("a", 3)]

    async def test_a_broker_that_is_away_takes_no_attempt(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address, max_workers=1)
        async def handler(msg: str, message: StreamMessage) -> None:
            seen.put((msg, message.attempt))
            if msg == "a" and len(seen.all) < 3:
                raise BrokerUnavailable("elsewhere", "publish", 1.0)

        async with harness.running(router) as broker:
            for body in "ab":
                await harness.publish(broker, body, address)
            assert await seen.take_many(4) == [("a", 1), ("a", 1), ("a", 1), ("b", 1)]
        assert "failed" not in router.broker.report.counts

    async def test_a_message_that_always_fails_is_rejected_and_the_next_one_goes_on(
        self, harness: Harness, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = Inbox()
        attempts: list[str] = []

        async def handler(msg: str) -> None:
            attempts.append(msg)
            if msg == "bad":
                raise Flaky("always")
            seen.put(msg)
            if msg == "last":
                return

        router = harness.router()
        address = harness.address()
        harness.subscribe(router, address)(handler)
        expected = 5 if harness.features.settles else 1
        with caplog.at_level(logging.ERROR):
            async with harness.running(router) as broker:
                await harness.publish(broker, "bad", address)
                await harness.publish(broker, "good", address)
                assert await seen.take() == "good"
                await until(lambda: attempts.count("bad") == expected and "Flaky" in caplog.text)
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 1
        text = errors[0].getMessage()
        assert address in text
        assert "handler" in text
        assert "always" in text

    @pytest.mark.parametrize("error", ANYTHING, ids=lambda error: type(error).__name__)
    async def test_a_handler_may_raise_anything(self, harness: Harness, error: BaseException) -> None:
        seen = Inbox()
        failed: list[str] = []

        async def handler(msg: str) -> None:
            if msg == "bad" and not failed:
                failed.append(msg)
                raise error
            seen.put(msg)

        count = 2 if harness.features.settles else 1
        got = await self._run(harness, handler, ["bad", "good"], seen, count)
        assert sorted(got) == (["bad", "good"] if harness.features.settles else ["good"])

    async def test_what_cannot_be_decoded_or_is_invalid_is_rejected_at_once(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address)
        async def handler(order: dict[str, int]) -> None:
            seen.put(order)

        async with harness.running(router) as broker:
            await harness.publish_raw(broker, b"{not json", {"content-type": "application/json"}, address)
            await harness.publish_raw(broker, b"\xff\xfe", {"content-type": "text/plain"}, address)
            await harness.publish_raw(broker, b"??", {"content-type": "application/x-unknown"}, address)
            await harness.publish(broker, {"a": "no number"}, address)
            await harness.publish(broker, {"a": 1}, address)
            assert await seen.take() == {"a": 1}
        assert router.broker.report.counts.get("retried", 0) == 0
        assert router.broker.report.counts["rejected"] == 4

    async def test_headers_that_are_not_text_are_kept(self, harness: Harness) -> None:
        needs(harness, "headers", "binary_headers")
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address)
        async def handler(message: StreamMessage) -> None:
            seen.put(message.headers["x-bin"])

        async with harness.running(router) as broker:
            await harness.publish_raw(broker, b"hi", {"x-bin": b"\xff\x00"}, address)
            assert await seen.take() == b"\xff\x00"

    async def test_exceptions_settle_the_message(self, harness: Harness) -> None:
        needs(harness, "settles")
        seen = Inbox()
        verdicts = {"ack": AckMessage(), "skip": SkipMessage(), "reject": RejectMessage(), "nack": NackMessage()}

        async def dependency(message: StreamMessage, msg: str) -> None:
            seen.put((msg, message.attempt))
            if message.attempt == 1 and msg in verdicts:
                raise verdicts[msg]

        async def handler(_: Annotated[None, Depends(dependency)]) -> None: ...

        got = await self._run(harness, handler, ["ack", "skip", "reject", "nack", "end"], seen, 6)
        assert sorted(got) == [("ack", 1), ("end", 1), ("nack", 1), ("nack", 2), ("reject", 1), ("skip", 1)]

    async def test_a_message_is_settled_by_hand(self, harness: Harness) -> None:
        needs(harness, "settles")
        seen = Inbox()

        async def handler(msg: str, message: StreamMessage) -> None:
            seen.put((msg, message.attempt))
            if msg == "nack" and message.attempt == 1:
                await message.nack()
            else:
                await message.ack()
            await message.reject()
            assert message.committed is not None

        got = await self._run(harness, handler, ["nack", "ack"], seen, 3, ack_policy=AckPolicy.MANUAL)
        assert sorted(got) == [("ack", 1), ("nack", 1), ("nack", 2)]

    @pytest.mark.parametrize("policy", [AckPolicy.ACK, AckPolicy.ACK_FIRST, AckPolicy.REJECT_ON_ERROR])
    async def test_policies_that_do_not_deliver_again(self, harness: Harness, policy: AckPolicy) -> None:
        needs(harness, "settles")
        seen = Inbox()

        async def handler(msg: str) -> None:
            seen.put(msg)
            raise Flaky

        assert await self._run(harness, handler, ["a", "b"], seen, 2, ack_policy=policy, max_workers=1) == ["a", "b"]
        assert seen.all == ["a", "b"]

    async def test_a_background_task_runs_after_the_message_is_settled(self, harness: Harness) -> None:
        seen = Inbox()

        async def task(message: StreamMessage) -> None:
            seen.put(message.committed)
            raise Flaky("in the background")

        async def handler(msg: str, tasks: BackgroundTasks, message: StreamMessage) -> None:
            tasks.add_task(task, message)

        router = harness.router()
        address = harness.address()
        harness.subscribe(router, address)(handler)
        async with harness.running(router) as broker:
            await harness.publish(broker, "a", address)
            assert (await seen.take()) is not None
            await until(lambda: router.broker.report.counts.get("background_failed") == 1)
        assert "failed" not in router.broker.report.counts

    async def test_one_worker_keeps_the_order(self, harness: Harness) -> None:
        needs(harness, "ordered")
        seen = Inbox()
        running: list[int] = []

        async def handler(msg: int) -> None:
            running.append(msg)
            assert len(running) == 1
            await asyncio.sleep(0)
            running.remove(msg)
            seen.put(msg)

        assert await self._run(harness, handler, list(range(20)), seen, 20, max_workers=1) == list(range(20))

    async def test_workers_run_at_the_same_time(self, harness: Harness) -> None:
        seen = Inbox()
        together = asyncio.Event()
        running: list[str] = []

        async def handler(msg: str) -> None:
            running.append(msg)
            if len(running) == 3:
                together.set()
            await asyncio.wait_for(together.wait(), DEADLINE)
            seen.put(msg)

        router = harness.router()
        address = harness.address()
        harness.subscribe(router, address, max_workers=3)(handler)
        async with harness.running(router) as broker:
            await asyncio.gather(*(harness.publish(broker, name, address) for name in "abc"))
            assert sorted(await seen.take_many(3)) == ["a", "b", "c"]

    async def test_a_handler_that_waits_blocks_no_other_subscription(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        slow, quick = harness.address(), harness.address()
        release = asyncio.Event()

        @harness.subscribe(router, slow)
        async def waits(msg: str) -> None:
            await asyncio.wait_for(release.wait(), DEADLINE)
            seen.put(msg)

        @harness.subscribe(router, quick)
        async def goes_on(msg: str) -> None:
            seen.put(msg)

        async with harness.running(router) as broker:
            first = asyncio.ensure_future(harness.publish(broker, "slow", slow))
            await harness.publish(broker, "quick", quick)
            assert await seen.take() == "quick"
            release.set()
            assert await seen.take() == "slow"
            await first

    async def test_stopping_finishes_what_runs_and_keeps_what_does_not(self, harness: Harness) -> None:
        needs(harness, "survives")
        group = f"group-{uuid4().hex[:8]}"
        address = harness.address()
        seen = Inbox()
        started = asyncio.Event()
        release = asyncio.Event()

        async def slow(msg: int) -> None:
            started.set()
            await asyncio.wait_for(release.wait(), DEADLINE)
            seen.put(msg)

        router = harness.router()
        harness.subscribe(router, address, group=group, max_workers=1)(slow)
        async with harness.running(router) as broker:
            for number in range(5):
                await harness.publish(broker, number, address)
            await asyncio.wait_for(started.wait(), DEADLINE)
            asyncio.get_running_loop().call_later(0.2, release.set)

        again = harness.router()

        async def quick(msg: int) -> None:
            seen.put(msg)

        harness.subscribe(again, address, group=group, max_workers=1)(quick)
        async with harness.running(again):
            assert sorted(await seen.take_many(5)) == [0, 1, 2, 3, 4]
        assert len(seen.all) == 5

    async def test_an_error_in_a_yield_dependency_publishes_nothing(self, harness: Harness) -> None:
        needs(harness, "settles")
        seen = Inbox()
        router = harness.router()
        source, target = harness.address(), harness.address()
        commits: list[str] = []

        async def transaction() -> Any:
            yield "tx"
            commits.append("commit")
            if len(commits) == 1:
                raise Flaky("the commit failed")

        @harness.subscribe(router, target)
        async def sink(msg: str) -> None:
            seen.put((msg, len(commits)))

        @harness.subscribe(router, source)
        @harness.publisher(router, target)
        async def handler(msg: str, tx: Annotated[str, Depends(transaction)]) -> str:
            return msg

        async with harness.running(router) as broker:
            await harness.publish(broker, "a", source)
            assert await seen.take() == ("a", 2)
        assert len(seen.all) == 1
