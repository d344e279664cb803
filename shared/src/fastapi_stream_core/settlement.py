"""The outcome of messages: decided by the policy, told to the source. Nothing else settles."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING

from .policy import Verdict, decide

if TYPE_CHECKING:
    from .memory import Observer
    from .message import StreamMessage
    from .redelivery import Redelivery
    from .subscription import Subscription

__all__ = ("Settlement",)


class Settlement:
    """Settles the messages of one subscription, each at most once for a delivery.

    Args:
        subscription: whose policy and retry decide.
        redelivery: keeps what this process handles again.

    Attributes:
        observer: told of every failure.
        stopping: a cancelled handler was cancelled by the stop; its message stays unsettled.
    """

    def __init__(self, subscription: Subscription, redelivery: Redelivery) -> None:
        self._policy = subscription.ack_policy
        self._retry = subscription.retry
        self._report = subscription.broker.report
        self._redelivery = redelivery
        self.observer: Observer | None = None
        self.stopping = False

    def settle(self, message: StreamMessage, verdict: Verdict, delay: float | None = None) -> Awaitable[None] | None:
        """Settle a message unless it is settled already.

        Args:
            message: what was handled.
            verdict: the outcome.
            delay: seconds until the next delivery, for `NACK`; by default those of the retry policy.
        """
        source = message._source
        if message._verdict is not None or source is None:
            return None
        message._verdict = verdict
        if verdict is Verdict.ACK:
            return source.ack(message)
        if verdict is Verdict.REJECT:
            return source.reject(message)
        if not source.settles:
            return None
        if delay is None:
            delay = self._retry.after(message.attempt)
        if source.redelivers:
            return source.nack(message, delay)
        self._redelivery.later(source, [message], delay)
        return None

    async def finish(self, message: StreamMessage, verdict: Verdict, delay: float | None = None) -> None:
        """Settle a message and wait for it; an error of the client is reported, it never reaches the handler."""
        try:
            pending = self.settle(message, verdict, delay)
            if pending is not None:
                await pending
        except Exception as error:
            self._report.settle_failed(message, error)

    async def finish_all(self, messages: Iterable[StreamMessage], verdict: Verdict) -> None:
        """Settle messages one after another."""
        is_ack = verdict is Verdict.ACK
        for message in messages:
            try:
                if is_ack and message._verdict is None and message._source is not None:  # `settle` without its call
                    message._verdict = verdict
                    pending = message._source.ack(message)
                else:
                    pending = self.settle(message, verdict)
                if pending is not None:
                    await pending
            except Exception as error:
                self._report.settle_failed(message, error)

    async def wait(self, message: StreamMessage, pending: Awaitable[None]) -> None:
        """Wait for a settlement that the source has begun."""
        try:
            await pending
        except Exception as error:
            self._report.settle_failed(message, error)

    async def failed(self, messages: Sequence[StreamMessage], error: BaseException) -> None:
        """Settle messages whose handling raised, as the policy decides."""
        cancelled = isinstance(error, asyncio.CancelledError)
        if isinstance(error, KeyboardInterrupt) or (cancelled and self.stopping):
            raise error
        first = messages[0]
        source = first._source
        decision = decide(error, first.attempt, self._policy, self._retry)
        if decision.verdict is Verdict.NACK and source is not None and not source.settles:
            decision = decision.gone()
        if decision.failed:
            self._report.message_failed(first, error, decision)
        if self.observer is not None:
            self.observer.failed(messages, error, decision)
        if decision.verdict is Verdict.NACK and source is not None and not source.redelivers:
            open_ones = [message for message in messages if message._verdict is None]
            for message in open_ones:
                message._verdict = Verdict.NACK
            if open_ones:
                self._redelivery.later(source, open_ones, decision.delay)
        elif decision.verdict is not None:
            for message in messages:
                await self.finish(message, decision.verdict, decision.delay)
        if cancelled:
            raise error
