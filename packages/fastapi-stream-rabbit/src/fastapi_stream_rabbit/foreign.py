"""Lets the client library read messages of foreign services whose texts are not UTF-8.

AMQP 0-9-1 does not say how a short string is encoded, RabbitMQ passes any bytes on, and the client library ends the
connection when they are not UTF-8: it gets the same message again on the next one, for ever, and with it everything
else on the connection stands still. Here such a text is read as Latin-1, which has a character for every byte; texts
in UTF-8 are read as before.
"""

from __future__ import annotations

from typing import Any

from pamqp import decode

__all__ = ("read_foreign_text", "text_of")

_short_text = decode.METHODS["shortstr"]
_table = decode.METHODS["table"]


def read_foreign_text() -> None:
    """Teach the client library of this process; doing it again changes nothing."""
    decode.METHODS["shortstr"] = _any_short_text
    decode.METHODS["table"] = decode.TABLE_MAPPING[b"F"] = _any_table


def text_of(value: bytes) -> str:
    """Return a text in UTF-8, and any other one as if it were Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _any_short_text(value: bytes) -> tuple[int, Any]:
    try:
        return _short_text(value)
    except UnicodeDecodeError:
        return value[0] + 1, text_of(value[1 : value[0] + 1])


def _any_table(value: bytes) -> tuple[int, Any]:
    try:
        return _table(value)
    except UnicodeDecodeError:
        end = int.from_bytes(value[:4], "big") + 4
    table: dict[str, Any] = {}
    offset = 4
    while offset < end:
        used, name = _any_short_text(value[offset:])
        offset += used
        used, table[name] = decode.embedded_value(value[offset:])
        offset += used
    return end, table
