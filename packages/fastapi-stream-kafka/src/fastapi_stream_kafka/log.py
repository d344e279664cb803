"""Keeps the client's log readable while the broker is away, and free of passwords.

Each client of aiokafka writes ten errors a second then, and at DEBUG the bytes of the authentication.
"""

from __future__ import annotations

import logging
from threading import Lock
from time import monotonic

__all__ = ("guard_log",)

LOGGERS = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)
SECONDS = 10.0
MOST_LINES = 200


class Repeated(logging.Filter):
    """Passes a warning or an error once in ten seconds, with the number of its repetitions in between."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()
        self._written: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        text = record.getMessage()
        now = monotonic()
        with self._lock:
            written, left_out = self._written.get((record.name, text), (-SECONDS, 0))
            if now - written < SECONDS:
                self._written[record.name, text] = (written, left_out + 1)
                return False
            if len(self._written) >= MOST_LINES:
                self._written.clear()
            self._written[record.name, text] = (now, 0)
        if left_out:
            record.msg, record.args = f"{text} (and {left_out} times more)", ()
        return True


class Secret(logging.Filter):
    """Leaves out what is sent and received for the authentication: it holds the password."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or "SaslAuthenticate" not in record.getMessage()


_repeated = Repeated()
_secret = Secret()


def guard_log() -> None:
    """Install the filters on aiokafka's loggers; a second time changes nothing.

    A logger that is set to DEBUG keeps its repetitions.
    """
    logging.getLogger("aiokafka.conn").addFilter(_secret)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if logger.level != logging.DEBUG:
            logger.addFilter(_repeated)
