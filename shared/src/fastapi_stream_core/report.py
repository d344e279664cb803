"""What a broker writes to its log: one line for each thing, never more than a few kilobytes a second."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from .errors import DecodeError, StreamError
from .impatience import is_listening
from .invalid import InvalidMessage
from .policy import Verdict
from .render import Shown, describe, escape, holds_input, trace

if TYPE_CHECKING:
    from .message import StreamMessage
    from .policy import Decision
    from .subscription import Subscription

__all__ = ("Report", "describe")

BYTES_PER_SECOND = 4000
BURST = 8000
MOST_LINE = 2500
MOST_HANDLERS = 5
MOST_RECORD = 4000
"""Bytes of a record, with its traceback."""
MOST_ACCESS = 500
"""Characters of what a sender may have chosen, in the line for a handled message."""
_NUMBERS = frozenset({bool, int, float})
_HANDLED = "message_handled"
_HANDLED_LINE = "%s %s: %s %s"


class Report:
    """Log and counters of one broker.

    Failures of a flood of messages are thinned out to `BYTES_PER_SECOND`; how many lines were left out is
    said with the next one that is written.

    Args:
        logger: where the lines go.
        log_input: whether values of a message's body may be in them.

    Attributes:
        counts: how often each thing happened; a name is there after the first time.
            Of messages: `failed` (handling raised), `retried` and `rejected` (what became of those), `late` (a
            settlement that the client refused, or that came after its connection or partition was gone), `cancelled`
            (by a stop), `background_failed`, `replies_refused`, `foreign` (written by other means than the broker's
            protocol for it), `dropped` (by the client), `deleted` (by the broker, before they were read),
            `unreadable` (parts of it), `unroutable` (published where nothing takes it).
            Of subscriptions: `paused`, `restarted`. Of the log: `log_failed`.
    """

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any], log_input: bool = False) -> None:
        self.logger = logger
        self._log_input = log_input
        self.counts: dict[str, int] = {}
        self._budget = float(BURST)
        self._seen = monotonic()
        self._left_out = 0

    def count(self, name: str) -> None:
        """Count one occurrence."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def is_on(self, level: int) -> bool:
        """Tell whether lines of a level are written."""
        try:
            return self.logger.isEnabledFor(level)
        except Exception as error:
            self._unwritten(error)
            return False

    def message_handled(self, message: StreamMessage, level: int) -> None:
        """Log one handled message: the access log."""
        try:
            self._write_handled(message, level)
        except Exception as error:
            self._unwritten(error)

    def _write_handled(self, message: StreamMessage, level: int) -> None:
        logger = self.logger
        subscription = message.subscription
        verdict = message.committed.value if message.committed is not None else "not settled"
        who = subscription.handler_name if subscription is not None else ""
        address, position = message.address, message.position
        if not (address.isprintable() and position.isprintable() and len(address) + len(position) < MOST_ACCESS):
            address, position = escape(address), escape(position)
        values = (address, position, who, verdict)
        if not isinstance(logger, logging.Logger):
            logger.log(level, _HANDLED_LINE, *values)
            return
        # `logger.log` would walk the stack for the caller, which is this line for every message.
        logger.handle(logger.makeRecord(logger.name, level, __file__, 0, _HANDLED_LINE, values, None, _HANDLED))

    def message_failed(self, message: StreamMessage, attempt: int, error: BaseException, decision: Decision) -> None:
        """Log what became of a message whose delivery number `attempt` failed; a traceback says that it is given up.

        There is none when the message is not what the handler declares: no line of it would be the user's.
        """
        subscription = message.subscription
        who = subscription.handler_name if subscription is not None else ""
        self.count("failed")
        if decision.verdict is Verdict.NACK:
            self.count("retried")
            self.line(
                logging.WARNING,
                "%s %s: %s failed, delivery %d, again in %.1f s: %s",
                message.address,
                message.position,
                who,
                attempt,
                decision.delay,
                error,
                declared=_declared(subscription),
            )
            return
        if decision.verdict is not None:
            fate = decision.verdict.value
        else:
            fate = "left as it is" if message.committed is None else f"{message.committed.value} before"
        if decision.verdict is Verdict.REJECT:
            self.count("rejected")
        self.line(
            logging.ERROR,
            "%s %s: %s failed, delivery %d, %s: %s",
            message.address,
            message.position,
            who,
            attempt,
            fate,
            error,
            error=None if isinstance(error, (InvalidMessage, DecodeError)) else error,
            declared=_declared(subscription),
        )

    def background_failed(self, message: StreamMessage, error: BaseException) -> None:
        """Log a background task that raised; its message stays settled."""
        self.count("background_failed")
        self.line(
            logging.ERROR,
            "%s %s: a background task failed: %s",
            message.address,
            message.position,
            error,
            error=error,
            declared=_declared(message.subscription),
        )

    def waiting(self, subscription: Subscription, seconds: list[float], most: float | None) -> None:
        """Log for which handlers a stop waits, how long at most, and what ends it before."""
        name, longest = subscription.handler_name, sorted(seconds, reverse=True)[:MOST_HANDLERS]
        said = ", ".join(f"{name} ({one:.1f} s)" for one in longest)
        more = f" and {len(seconds) - len(longest)} more" if len(seconds) > len(longest) else ""
        what = "handler" if len(seconds) == 1 else "handlers"
        end = ("" if most is None else f"; {most:g} s at most") + ("; Ctrl-C again ends it" if is_listening() else "")
        text = "%s: waiting for %d %s: %s" + end
        self.line(logging.WARNING, text, subscription.label, len(seconds), what, said + more)

    def message_cancelled(self, message: StreamMessage, seconds: float, is_in_thread: bool = False) -> None:
        """Log a handler that did not end in time, and what becomes of its message; a thread can't be cancelled."""
        self.count("cancelled")
        source = message._source
        if message.committed is not None:
            fate = f"the message was {message.committed.value} before"
        elif source is not None and source.settles:
            fate = "the message is delivered again"
        else:
            fate = "the message is gone: nothing here acknowledges, so that the broker does not deliver it again"
        subscription = message.subscription
        who = subscription.handler_name if subscription is not None else ""
        what = "was given up by the stop" if is_in_thread else "was cancelled by the stop"
        thread = "its thread, if it has one, can't be cancelled and goes on; " if is_in_thread else ""
        text = f"%s %s: %s {what} after %.1f s; {thread}%s"
        self.line(logging.WARNING, text, message.address, message.position, who, seconds, fate)

    def last_delivery(self, message: StreamMessage) -> None:
        """Log a message that is to be delivered again, and that its broker does not deliver any more."""
        self.count("rejected")
        text = "%s %s: nacked at delivery %d, which is the last one that the broker makes: it does not come again"
        self.line(logging.ERROR, text, message.address, message.position, message.attempt)

    def settle_failed(self, message: StreamMessage, error: BaseException) -> None:
        """Log a settlement that the client refused; the broker delivers the message again."""
        self.count("late")
        self.line(logging.WARNING, "%s %s: could not be settled: %s", message.address, message.position, error)

    def reply_refused(self, message: StreamMessage, error: BaseException) -> None:
        """Log an answer that was not sent; its message is handled all the same."""
        self.count("replies_refused")
        declared = _declared(message.subscription)
        self.line(logging.WARNING, "%s %s: %s", message.address, message.position, error, declared=declared)

    def consumer_lost(
        self, subscription: Subscription, error: BaseException, delay: float, is_due: bool = True
    ) -> None:
        """Log a consumer that broke and when it is made again, unless its end is told otherwise, or was just before."""
        self.count("restarted")
        if not is_due or (isinstance(error, StreamError) and error.is_told):
            return
        self.line(logging.WARNING, "%s: the consumer stopped, again in %.1f s: %s", subscription.label, delay, error)

    def line(
        self,
        level: int,
        text: str,
        *values: Any,
        error: BaseException | None = None,
        declared: Callable[[], Collection[str]] | None = None,
    ) -> None:
        """Write one record if the budget allows it.

        Args:
            level: as in `logging`.
            text: with a `%s` or `%r` for each value.
            values: escaped and bounded here, and only rendered when the record is written; of an error what
                `describe` says.
            error: the error whose traceback is shown, when there is room for it.
            declared: gives the names of which a validation may speak; any other name is a key that the sender chose.
        """
        try:
            self._write(level, text, values, error, declared)
        except Exception as raised:
            self._unwritten(raised)

    def _unwritten(self, error: Exception) -> None:
        """Count a record that a logger, filter or handler refused; stderr tells of the first, as `logging` has it.

        Nothing of it reaches the message that the record is about.
        """
        self.count("log_failed")
        if self.counts["log_failed"] == 1 and logging.raiseExceptions and sys.stderr is not None:
            name = type(self.logger).__qualname__
            with suppress(OSError, ValueError):  # a stderr that is closed or full
                sys.stderr.write(f"{name} failed:\n{trace(error, MOST_LINE, self._log_input)}\n")

    def _write(
        self,
        level: int,
        text: str,
        values: tuple[Any, ...],
        error: BaseException | None,
        declared: Callable[[], Collection[str]] | None,
    ) -> None:
        logger = self.logger
        if not logger.isEnabledFor(level):
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
        names = None if declared is None else declared()
        shown = [one if type(one) in _NUMBERS else Shown(one, self._log_input, names) for one in values]
        said = _cut(text % tuple(shown), MOST_LINE)
        room = MOST_RECORD - len(said.encode())
        followed = ""
        if error is not None and self._budget >= BURST / 2:
            followed = trace(error, room // 2, self._log_input, names)
        self._budget -= len(said.encode()) + len(followed.encode())
        if not isinstance(logger, logging.Logger):
            logger.log(level, "%s", f"{said}\n{followed}" if followed else said)
            return
        caller = sys._getframe(2)
        place = (caller.f_code.co_filename, caller.f_lineno)
        raised = None
        if error is not None and followed and not holds_input(error):
            raised = (type(error), error, error.__traceback__)
        record = logger.makeRecord(logger.name, level, *place, "%s", (said,), raised, caller.f_code.co_name)
        record.exc_text = followed or None  # so that no formatter renders the error, with everything that it holds
        logger.handle(record)


def _declared(subscription: Subscription | None) -> Callable[[], Collection[str]] | None:
    return None if subscription is None else lambda: subscription.plan.declared_names


def _cut(text: str, most: int) -> str:
    """Return at most so many bytes of a text."""
    encoded = text.encode()
    return text if len(encoded) <= most else f"{encoded[: most - 3].decode(errors='ignore')}..."
