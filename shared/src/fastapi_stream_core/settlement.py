"""The outcome of messages: decided by the policy, told to the source.

What a handler raised is decided here. The worker acknowledges what was handled itself, as `acknowledge` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .cancellation import put_back
from .policy import Decision, Verdict, decide, is_invalid_input
from .tally import Tallies

if TYPE_CHECKING:
    from .memory import Observer
    from .message import StreamMessage
    from .outage import Outage
    from .redelivery import Redelivery
    from .subscription import Subscription

__all__ = ("Settlement",)


class Settlement:
    """Settles the messages of one subscription, each at most once for a delivery.

    Args:
        subscription: whose policy and retry decide.
        redelivery: keeps what this process handles again.
        outage: keeps what waits for a broker that is away.

    Attributes:
        observer: told of every failure.
        cancels: the stop cancels the handlers that still run; their messages stay unsettled.
    """

    def __init__(self, subscription: Subscription, redelivery: Redelivery, outage: Outage) -> None:
        self._policy = subscription.ack_policy
        self._retry = subscription.retry
        self._report = subscription.broker.report
        self._redelivery = redelivery
        self._outage = outage
        self._tallies = Tallies()
        self.observer: Observer | None = None
        self.cancels = False
        self._left: set[asyncio.Future[Any]] = set()

    def acknowledge(self, message: StreamMessage) -> Awaitable[None] | None:
        """Acknowledge a message unless it is settled already, and return what to `wait` for."""
        if message._verdict is not None or message._source is None:
            return None
        message._verdict = Verdict.ACK
        try:
            return message._source.ack(message)
        except Exception as error:
            self._report.settle_failed(message, error)
        return None

    def settle(self, message: StreamMessage, verdict: Verdict, delay: float | None = None) -> Awaitable[None] | None:
        """Settle a message unless it is settled already, and return what to `wait` for.

        An error of the client is reported: it reaches neither the handler nor the worker.

        Args:
            message: what was handled.
            verdict: the outcome.
            delay: seconds until the next delivery, for `NACK`; by default those of the retry policy.
        """
        if verdict is Verdict.ACK:
            return self.acknowledge(message)
        source = message._source
        if message._verdict is not None or source is None:
            return None
        message._verdict = verdict
        if verdict is Verdict.NACK:
            if not source.settles:
                return None
            if message.attempt >= source.most_deliveries:
                self._report.last_delivery(message)
            self._tallies.keep(message)
            delay = self._retry.after(message.attempt) if delay is None else delay
        try:
            if verdict is Verdict.REJECT:
                return source.reject(message)
            if source.redelivers:
                return source.nack(message, delay or 0.0)
        except Exception as error:
            self._report.settle_failed(message, error)
            return None
        self._redelivery.later(source, [message], delay or 0.0)
        return None

    async def finish(self, message: StreamMessage, verdict: Verdict, delay: float | None = None) -> None:
        """Settle a message and wait for it."""
        pending = self.settle(message, verdict, delay)
        if pending is not None:
            await self.wait(message, pending)

    async def by_hand(self, message: StreamMessage, verdict: Verdict, delay: float | None = None) -> None:
        """Settle a message as its handler says, and wait for it."""
        pending = self.settle(message, verdict, delay)
        if pending is not None:
            await self.wait(message, pending, by_hand=True)

    async def acknowledge_all(self, messages: Iterable[StreamMessage]) -> None:
        """Acknowledge messages one after another: `acknowledge` and `wait` without a call for each."""
        acked = Verdict.ACK
        for message in messages:
            if message._verdict is None and (source := message._source) is not None:
                message._verdict = acked
                try:
                    pending = source.ack(message)
                except Exception as error:
                    self._report.settle_failed(message, error)
                else:
                    if pending is not None:
                        await self.wait(message, pending)

    async def wait(self, message: StreamMessage, pending: Awaitable[None], by_hand: bool = False) -> None:
        """Wait for a settlement that the source has begun; one that the client cancels has failed.

        Args:
            message: what is settled.
            pending: what the source has begun. The stop cancels it with who waits; otherwise it goes on by itself.
            by_hand: a handler waits, perhaps within a timeout of its own, and not the worker.

        Raises:
            CancelledError: the stop cancelled the worker, or anybody the handler.
        """
        begun = asyncio.ensure_future(pending)
        try:
            await asyncio.wait((begun,))  # an `await` would not tell whose cancellation it is
        except BaseException as error:
            begun.add_done_callback(partial(self._given_up, message))
            if self.cancels or not isinstance(error, asyncio.CancelledError):
                begun.cancel()
                raise
            self._left.add(begun)
            begun.add_done_callback(self._left.discard)
            if by_hand:
                raise
            put_back()
            return
        try:
            begun.result()
        except (Exception, asyncio.CancelledError) as error:
            self._report.settle_failed(message, error)

    def _given_up(self, message: StreamMessage, settlement: asyncio.Future[None]) -> None:
        if not settlement.cancelled() and (error := settlement.exception()) is not None:
            self._report.settle_failed(message, error)

    async def failed(self, messages: Sequence[StreamMessage], error: BaseException) -> None:
        """Settle messages whose handling raised, as the policy decides; whatever the log does, they are settled.

        Raises:
            BaseException: the error, when it is to end the process, or the stop cancelled the task.
        """
        cancelled = isinstance(error, asyncio.CancelledError)
        if isinstance(error, (KeyboardInterrupt, SystemExit)) or (cancelled and self.cancels):
            raise error
        open_ones = [message for message in messages if message._verdict is None]
        alike: dict[tuple[int, int, int], list[StreamMessage]] = {}
        is_hopeless = is_invalid_input(error)
        for message in open_ones or messages[:1]:
            key = (message.attempt, 0, 0) if is_hopeless else self._tallies.count(message, error)
            alike.setdefault(key, []).append(message)
        for (_, failures, earlier), group in alike.items():
            await self._failed_alike(group, error, bool(open_ones), failures, earlier)
        if cancelled:
            put_back()

    async def _failed_alike(
        self, messages: Sequence[StreamMessage], error: BaseException, is_open: bool, failures: int, earlier: int
    ) -> None:
        """Settle messages that were delivered, and failed, equally often."""
        first = messages[0]
        source, attempt = first._source, first.attempt
        is_last = source is not None and attempt >= source.most_deliveries
        decision = decide(error, attempt, self._policy, self._retry, failures, earlier, is_last)
        if is_last and decision.verdict is Verdict.NACK:  # whatever asks for another delivery, there is none
            decision = replace(decision.gone(), failed=True)
        open_ones = messages if is_open else ()
        if not is_open:  # settled before it failed: that stays, and a message that was nacked comes again
            failed = decision.failed or decision.away
            decision = Decision(None, failed=failed, final=first._verdict is not Verdict.NACK)
        if decision.verdict is Verdict.NACK and source is not None and not source.settles:
            decision = decision.gone()
        if self.observer is not None:
            self.observer.failed(messages, error, decision)
        if decision.away:
            self._outage.begin(error)
            if source is not None and not source.gone:  # otherwise the broker delivers them again
                self._outage.keep(open_ones)
            return
        if decision.verdict is Verdict.NACK and source is not None and not source.redelivers:
            for message in open_ones:
                message._verdict = Verdict.NACK
                self._tallies.keep(message)
            if open_ones:
                self._redelivery.later(source, list(open_ones), decision.delay)
        elif decision.verdict is not None:
            for message in open_ones:
                await self.finish(message, decision.verdict, decision.delay)
        if decision.failed:
            self._report.message_failed(first, attempt, error, decision)
