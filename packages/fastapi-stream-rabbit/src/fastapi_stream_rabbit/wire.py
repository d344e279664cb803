"""One message between the core and AMQP: properties, headers and limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

from aiormq import spec
from fastapi_stream_core.errors import PublishError
from fastapi_stream_core.headers import Headers, HeaderValue, text_or_bytes
from fastapi_stream_core.response import Outgoing

from .schema import SHORT

__all__ = ("headers_of", "properties_of")


def properties_of(outgoing: Outgoing, app_id: str | None) -> spec.Basic.Properties:
    """Return the AMQP properties of a message.

    Raises:
        PublishError: a property is longer than AMQP allows, or out of its range.
    """
    options = outgoing.options
    texts = {
        "content_type": outgoing.content_type,
        "content_encoding": options.get("content_encoding"),
        "correlation_id": outgoing.correlation_id,
        "reply_to": outgoing.reply_to,
        "message_id": options.get("message_id") or uuid4().hex,
        "message_type": options.get("message_type"),
        "user_id": options.get("user_id"),
        "app_id": options.get("app_id", app_id),
    }
    for name, value in (*texts.items(), ("routing_key", outgoing.address)):
        if value and len(value) * 4 > SHORT and len(value.encode()) > SHORT:
            raise PublishError(outgoing.address[:80], f"{name} has more than {SHORT} bytes")
    priority = options.get("priority")
    if priority is not None and not 0 <= priority <= SHORT:
        raise PublishError(outgoing.address, f"priority={priority} is not within 0 and 255")
    timestamp = options.get("timestamp")
    return spec.Basic.Properties(
        headers=_table(outgoing),
        delivery_mode=2 if options.get("persist", True) else 1,
        priority=priority,
        expiration=_expiration(options.get("expiration")),
        timestamp=_time(timestamp) if timestamp is not None else datetime.now(timezone.utc),
        **texts,
    )


def _table(outgoing: Outgoing) -> dict[str, Any]:
    """Return the headers as an AMQP table; a name that occurs more than once has a list."""
    table: dict[str, Any] = {}
    repeated: set[str] = set()
    for name, value in outgoing.headers:
        if len(name) * 4 > SHORT and len(name.encode()) > SHORT:
            raise PublishError(outgoing.address, f"the name of the header {name[:40]!r}... has more than {SHORT} bytes")
        encoded = _field(value)
        if name not in table:
            table[name] = encoded
        elif name in repeated:
            table[name].append(encoded)
        else:
            repeated.add(name)
            table[name] = [table[name], encoded]
    return table


def _field(value: HeaderValue) -> str | bytearray:
    if isinstance(value, bytes):
        decoded = text_or_bytes(value)
        # The client library knows bytes only as a bytearray.
        return decoded if isinstance(decoded, str) else bytearray(decoded)
    return value


def _expiration(value: Any) -> str | None:
    """Return the milliseconds until a message expires, as AMQP wants them: in a text."""
    if value is None:
        return None
    if isinstance(value, datetime):
        value = value - datetime.now(value.tzinfo)
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    return str(max(0, int(seconds * 1000)))


def _time(value: datetime | float) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromtimestamp(value, tz=timezone.utc)


def headers_of(properties: spec.Basic.Properties) -> Headers:
    """Return AMQP headers as text; a list is a repeated header, bytes that are not UTF-8 are kept.

    The content type is there too, as it is on brokers that have headers only.
    """
    table: Mapping[str, Any] | None = properties.headers
    pairs: list[tuple[str, HeaderValue]] = []
    if properties.content_type:
        pairs.append(("content-type", properties.content_type))
    for name, value in (table or {}).items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is not None:
                pairs.append((name, _text(item)))
    return Headers(pairs)


def _text(value: Any) -> HeaderValue:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return text_or_bytes(bytes(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)
