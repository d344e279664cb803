"""What librdkafka says, as lines of the broker's log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError
from fastapi_stream_core.shown_address import scrub

if TYPE_CHECKING:
    from fastapi_stream_core.report import Report

__all__ = ("ClientLog",)

INTERVAL = 10.0
"""Seconds between two lines about the same thing."""
HOLDS_SECONDS = 45.0
"""How long an error explains what fails; one that lasts is said again after 30 s, at the next attempt to connect."""
REFUSED = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL})
QUIET = frozenset({"CONFWARN"})
"""Facilities that tell a consumer of options for producers, and the other way round: `config=` is for both."""


class ClientLog:
    """Passes lines of one client from its threads to the event loop; the same thing is said every ten seconds at most.

    Attributes:
        fatal: the error after which the client does nothing any more.
        refused: the error of credentials or certificates that are wrong; waiting does not help.
        complained: when the client last said anything; None once it is known to be connected.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._said: dict[str, float] = {}
        self._last: str | None = None
        self._last_at = 0.0
        self.fatal: KafkaError | None = None
        self.refused: KafkaError | None = None
        self.complained: float | None = None

    def log(self, level: int, text: str, *values: Any) -> None:
        """Take a line; the client calls this as it calls a logger."""
        facility = str(values[0]) if values else text
        now = monotonic()
        if facility not in QUIET:
            self.complained = now
        if facility in QUIET or now - self._said.get(facility, -INTERVAL) < INTERVAL:
            return
        self._said[facility] = now
        self._line(min(level, logging.WARNING), "%s", scrub(text % values if values else text))

    def error(self, error: KafkaError) -> None:
        """Take an error of the whole client (`error_cb`); it goes on by itself unless the error is fatal."""
        if self.reason() is None or error.code() != KafkaError._ALL_BROKERS_DOWN:  # which counts what was said before
            self._last = scrub(error.str())
            self._last_at = monotonic()
        if error.fatal():
            self.fatal = error
        self.complained = monotonic()
        if error.code() in REFUSED:
            self.refused = error

    def reason(self) -> str | None:
        """Return the last error that the client reported, unless it is too old to explain what fails now."""
        return self._last if monotonic() - self._last_at < HOLDS_SECONDS else None

    def _line(self, level: int, text: str, *values: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it everything that could be told
            self._loop.call_soon_threadsafe(self._report.line, level, text, *values)
