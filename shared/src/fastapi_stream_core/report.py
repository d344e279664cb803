"""What a broker writes to its log: one line for each thing, never more than a few kilobytes a second."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .message import StreamMessage
    from .policy import Decision
    from .subscription import Subscription

__all__ = ("Report",)

BYTES_PER_SECOND = 4000
BURST = 8000
_HANDLED = "message_handled"
_HANDLED_LINE = "%s %s: %s %s"


class Report:
    """Log and counters of one broker.

    Failures of a flood of messages are thinned out to `BYTES_PER_SECOND`; how many lines were left out is
    said with the next one that is written.

    Attributes:
        counts: how often each thing happened: `failed`, `rejected`, `retried`, `invalid`, `late`,
            `background_failed`, `replies_refused`, `restarted`.
    """

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self.logger = logger
        self.counts: dict[str, int] = {}
        self._budget = float(BURST)
        self._seen = monotonic()
        self._left_out = 0

    def count(self, name: str) -> None:
        """Count one occurrence."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def message_handled(self, message: StreamMessage, level: int) -> None:
        """Log one handled message: the access log."""
        logger = self.logger
        subscription = message.subscription
        verdict = message.committed.value if message.committed is not None else "not settled"
        who = subscription.handler_name if subscription is not None else ""
        values = (message.address, message.position, who, verdict)
        if not isinstance(logger, logging.Logger):
            logger.log(level, _HANDLED_LINE, *values)
            return
        # `logger.log` would walk the stack for the caller, which is this line for every message.
        logger.handle(logger.makeRecord(logger.name, level, __file__, 0, _HANDLED_LINE, values, None, _HANDLED))

    def message_failed(self, message: StreamMessage, error: BaseException, decision: Decision) -> None:
        """Log what a failed message comes to; the traceback is there when it is given up."""
        subscription = message.subscription
        where = f"{message.address} {message.position}"
        who = subscription.handler_name if subscription is not None else ""
        self.count("failed")
        if not decision.final:
            self.count("retried")
            self.line(
                logging.WARNING,
                "%s: %s failed, delivery %d, again in %.1f s: %s",
                where,
                who,
                message.attempt,
                decision.delay,
                describe(error),
            )
            return
        verdict = decision.verdict.value if decision.verdict is not None else "left as it is"
        if verdict == "rejected":
            self.count("rejected")
        self.line(
            logging.ERROR,
            "%s: %s failed, delivery %d, %s: %s",
            where,
            who,
            message.attempt,
            verdict,
            describe(error),
            error=error,
        )

    def background_failed(self, message: StreamMessage, error: BaseException) -> None:
        """Log a background task that raised; its message stays settled."""
        self.count("background_failed")
        self.line(
            logging.ERROR,
            "%s %s: a background task failed: %s",
            message.address,
            message.position,
            describe(error),
            error=error,
        )

    def settle_failed(self, message: StreamMessage, error: BaseException) -> None:
        """Log a settlement that the client refused; the broker delivers the message again."""
        self.count("late")
        self.line(
            logging.WARNING, "%s %s: could not be settled: %s", message.address, message.position, describe(error)
        )

    def reply_refused(self, message: StreamMessage, error: BaseException) -> None:
        """Log an answer that was not sent; its message is handled all the same."""
        self.count("replies_refused")
        self.line(logging.WARNING, "%s %s: %s", message.address, message.position, describe(error))

    def consumer_lost(self, subscription: Subscription, error: BaseException, delay: float) -> None:
        """Log a consumer that broke and when it is made again."""
        self.count("restarted")
        self.line(
            logging.WARNING, "%s: the consumer stopped, again in %.1f s: %s", subscription.label, delay, describe(error)
        )

    def line(self, level: int, text: str, *values: Any, error: BaseException | None = None) -> None:
        """Write one line if the budget allows it."""
        if not self.logger.isEnabledFor(level):
            return
        now = monotonic()
        self._budget = min(BURST, self._budget + (now - self._seen) * BYTES_PER_SECOND)
        self._seen = now
        if self._budget <= 0:
            self._left_out += 1
            return
        if self._left_out:
            text += f" (and {self._left_out} lines like this were left out)"
            self._left_out = 0
        full = error is not None and self._budget > BURST / 2
        self._budget -= 200 + (2000 if full else 0)
        self.logger.log(level, text, *values, exc_info=error if full else None)


def describe(error: BaseException) -> str:
    """Return an error as one line of bounded length."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
