"""Lets the client library read messages of foreign services, whatever they hold.

AMQP 0-9-1 does not say how a short string is encoded, what a time is or how deep a table may be; RabbitMQ passes it on,
and the client library ends the connection when it can't read it: it gets the same message again on the next one, for
ever, and with it everything else on the connection stands still. Here texts that are not UTF-8 are read as Latin-1, and
tables and times as in `table`; what the client library can read is read as before.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pamqp import decode

from .table import CutTable, read_table, text_of, time_of

__all__ = ("read_foreign_text",)


def read_foreign_text() -> None:
    """Teach the client library of this process; doing it again changes nothing."""
    decode.METHODS["shortstr"] = _short_text
    decode.METHODS["table"] = _table
    decode.METHODS["timestamp"] = _time


def _short_text(value: bytes) -> tuple[int, Any]:
    end = value[0] + 1
    return end, text_of(value[1:end])


def _table(value: bytes) -> tuple[int, Any]:
    end = int.from_bytes(value[:4], "big") + 4
    raw = value[4:end]
    table, error = read_table(raw)
    if error is not None:
        table = CutTable(table)
        table.raw = raw
    return end, table


def _time(value: bytes) -> tuple[int, datetime | None]:
    return 8, time_of(int.from_bytes(value[:8], "big"))
