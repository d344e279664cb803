"""What an exception means for a message: one function decides."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from enum import Enum

from fastapi.exceptions import RequestValidationError

from .error_tree import leaves_of, members_of
from .errors import BrokerUnavailable, DecodeError, NotStarted, SetupError
from .keywords import check_keywords
from .option_type import show
from .quantity import LONGEST, is_seconds

__all__ = (
    "AckMessage",
    "AckPolicy",
    "Decision",
    "NackMessage",
    "RejectMessage",
    "Retry",
    "SkipMessage",
    "Verdict",
    "decide",
)


LEAST_DELAY = 0.2
"""Seconds until a message is delivered again, whatever was asked for: a message that fails at once must not spin."""


LEAST_FAILURES = 3
"""Failures in this process before a message is given up that was delivered before it: nobody knows how that ended."""
UNEXPLAINED = 20
"""Deliveries more than `Retry.attempts` after which a message is given up when it fails for the first time here."""


def at_least(delay: float | None) -> float | None:
    """Return a delay that somebody asked for, in seconds, or the least one; None stays None.

    Raises:
        SetupError: it is no number, or more than a client can hold.
    """
    if delay is None:
        return None
    if not is_seconds(delay):
        raise SetupError(
            "nack", f"delay={show(delay)} is no number of seconds up to {LONGEST}", "give an int or a float, or None"
        )
    return max(LEAST_DELAY, delay)


class AckPolicy(Enum):
    """When a message is acknowledged, and what a failing handler means.

    The default is `NACK_ON_ERROR`: at least once.
    """

    ACK_FIRST = "ack_first"
    """Acknowledged before the handler runs: at most once."""
    ACK = "ack"
    """Acknowledged at the end, whether the handler failed or not."""
    REJECT_ON_ERROR = "reject_on_error"
    """Acknowledged after success; a message that fails is rejected at once."""
    NACK_ON_ERROR = "nack_on_error"
    """Acknowledged after success; a message that fails is delivered again with backoff, then rejected."""
    MANUAL = "manual"
    """Only `message.ack()`, `.nack()` and `.reject()` settle the message; an invalid one, which no handler sees, is
    rejected."""


class Verdict(Enum):
    """How a message was settled."""

    ACK = "acked"
    NACK = "nacked"
    REJECT = "rejected"


class HandlerException(Exception):
    """Base of the exceptions that settle the current message, from a handler or any of its dependencies."""

    verdict = Verdict.ACK


class AckMessage(HandlerException):
    """Acknowledge the message now."""


class SkipMessage(HandlerException):
    """Skip the message: it is acknowledged and nothing is published."""


class NackMessage(HandlerException):
    """Have the message delivered again, after the backoff and without a limit.

    Args:
        delay: seconds until then, never under 0.2; by default those of the retry policy.

    Raises:
        SetupError: the delay is no number, or more than a client can hold.
    """

    verdict = Verdict.NACK

    def __init__(self, delay: float | None = None) -> None:
        super().__init__()
        self.delay = at_least(delay)


class RejectMessage(HandlerException):
    """Reject the message: it is not delivered again."""

    verdict = Verdict.REJECT


@check_keywords
@dataclass(frozen=True)
class Retry:
    """How often and when a message that failed is delivered again.

    Attributes:
        attempts: how often its handler may fail. Deliveries that the broker counted before this process had the message
            count as failures, since nobody can tell what became of them; but it is not given up before the handler
            failed three times here (or `attempts` times, if that is less), unless there were 20 deliveries more.
        delay: seconds before the second delivery.
        backoff: factor between one delay and the next.
        max_delay: upper bound of a delay, in seconds.
        jitter: share of the delay by which it varies at random, up and down.
    """

    attempts: int = 5
    delay: float = 0.2
    backoff: float = 2.0
    max_delay: float = 30.0
    jitter: float = 0.2

    def after(self, attempt: int) -> float:
        """Return the seconds to wait after delivery number `attempt`, which counts from 1.

        Never under 0.2, nor under `delay` where that is less: nothing turns around without a pause.
        """
        try:
            delay = min(self.delay * self.backoff ** (min(attempt, 64) - 1), self.max_delay)
        except OverflowError:
            delay = self.max_delay
        return max(delay * (1 + random.uniform(-self.jitter, self.jitter)), min(self.delay, LEAST_DELAY))

    def is_over(self, failures: int, earlier: int = 0) -> bool:
        """Tell whether a message is given up.

        Args:
            failures: how often its handler failed in this process.
            earlier: how often it was delivered before this process had it.
        """
        counted = failures + earlier
        is_seen = failures >= min(LEAST_FAILURES, self.attempts)
        return counted >= self.attempts + (0 if is_seen else UNEXPLAINED)


@dataclass(frozen=True)
class Decision:
    """What becomes of a message whose handling raised.

    Attributes:
        verdict: how it is settled; None leaves it unsettled.
        delay: seconds until it is delivered again, for `NACK`.
        failed: whether it counts as a failure and is logged.
        final: whether this was its last delivery.
        away: it is nobody's fault but that of a broker that is away: the message waits for it, and no delivery counts.
    """

    verdict: Verdict | None
    delay: float = 0.0
    failed: bool = True
    final: bool = True
    away: bool = False

    def gone(self) -> Decision:
        """Return the decision for a broker that can't deliver again."""
        return replace(self, verdict=Verdict.REJECT, delay=0.0, final=True)


def is_invalid_input(error: BaseException) -> bool:
    """Tell whether the message itself is wrong, so that another delivery can't help."""
    return isinstance(error, (RequestValidationError, DecodeError))


def is_away(error: BaseException) -> bool:
    """Tell whether nothing but a broker that is away made a message fail."""
    if isinstance(error, (BrokerUnavailable, NotStarted)):
        return True
    if not members_of(error):
        return False
    leaves = list(leaves_of(error))
    return bool(leaves) and all(isinstance(one, (BrokerUnavailable, NotStarted)) for one in leaves)


def is_failure(error: BaseException) -> bool:
    """Tell whether what was raised speaks against the message: no interruption, no broker that is away, no wish.

    Of a cancellation nobody can tell whether the message made it; what comes of each of its runs is its own.
    """
    if isinstance(error, asyncio.CancelledError):
        return True
    return isinstance(error, Exception) and not isinstance(error, HandlerException) and not is_away(error)


def decide(
    error: BaseException,
    attempt: int,
    policy: AckPolicy,
    retry: Retry,
    failures: int | None = None,
    earlier: int = 0,
    is_last: bool = False,
) -> Decision:
    """Decide how a message is settled whose handler, dependency, reply or publisher raised `error`.

    Args:
        error: what was raised.
        attempt: number of this delivery, from 1.
        policy: the subscription's policy.
        retry: the subscription's retry.
        failures: how often it failed in this process, this time included; by default at each delivery.
        earlier: how often it was delivered before this process had it.
        is_last: whether the broker delivers it no more, whatever it is told.
    """
    if isinstance(error, HandlerException):
        if isinstance(error, NackMessage):
            asked = error.delay
            delay = retry.after(attempt) if asked is None else asked
            return Decision(Verdict.NACK, delay, failed=False, final=False)
        return Decision(error.verdict, failed=False)
    if policy is AckPolicy.ACK_FIRST:
        return Decision(None)
    is_hopeless = is_invalid_input(error)
    if policy is AckPolicy.MANUAL:
        return Decision(Verdict.REJECT if is_hopeless else None)
    if not is_hopeless and is_away(error):
        return Decision(None, failed=False, final=False, away=True)
    is_over = is_last or retry.is_over(attempt if failures is None else failures, earlier)
    if not isinstance(error, Exception):
        if is_over and is_failure(error):
            return Decision(Verdict.REJECT)
        return Decision(Verdict.NACK, retry.after(attempt), final=False)
    if policy is AckPolicy.ACK:
        return Decision(Verdict.ACK)
    if is_hopeless or policy is AckPolicy.REJECT_ON_ERROR:
        return Decision(Verdict.REJECT)
    if is_over:
        return Decision(Verdict.REJECT)
    return Decision(Verdict.NACK, retry.after(attempt), final=False)
