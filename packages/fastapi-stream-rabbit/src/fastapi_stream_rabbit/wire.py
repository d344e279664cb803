"""One message between the core and AMQP: properties, headers and limits."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

from fastapi_stream_core.errors import PublishError
from fastapi_stream_core.headers import Headers, HeaderValue, text_or_bytes
from fastapi_stream_core.response import Outgoing

from .properties import Properties
from .table import SHORT

__all__ = ("check_frame", "content_header", "headers_of", "properties_of")

BASIC = 60
"""Class of messages in AMQP 0-9-1."""
HEAD = struct.Struct(">HHQ")
AROUND_PROPERTIES = 8 + HEAD.size
"""Bytes of a frame with a content header, besides the properties with their flags."""
FRAME_MAX = 131_072
"""Most bytes of a frame that RabbitMQ proposes, unless it is configured otherwise."""


def properties_of(outgoing: Outgoing, app_id: str | None) -> Properties:
    """Return the AMQP properties of a message.

    Raises:
        PublishError: AMQP can't carry one of them.
    """
    options = outgoing.options
    timestamp = options.get("timestamp")
    try:
        if len(outgoing.address) * 4 > SHORT and len(outgoing.address.encode()) > SHORT:
            raise ValueError(f"routing_key has more than {SHORT} bytes")
        return Properties(
            {
                "content_type": outgoing.content_type,
                "content_encoding": options.get("content_encoding"),
                "headers": _table(outgoing),
                "delivery_mode": 2 if options.get("persist", True) else 1,
                "priority": options.get("priority"),
                "correlation_id": outgoing.correlation_id,
                "reply_to": outgoing.reply_to,
                "expiration": _expiration(options.get("expiration")),
                "message_id": options.get("message_id") or uuid4().hex,
                "timestamp": _time(timestamp) if timestamp is not None else datetime.now(timezone.utc),
                "message_type": options.get("message_type"),
                "user_id": options.get("user_id"),
                "app_id": options.get("app_id", app_id),
            }
        )
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise PublishError(place_of(outgoing), str(error)) from error


def place_of(outgoing: Outgoing) -> str:
    """Return where a message goes to, for an error: its routing key, or the exchange when it has none."""
    exchange = outgoing.options.get("exchange")
    return outgoing.address or (exchange.name if exchange else "the default exchange")


def check_frame(outgoing: Outgoing, properties: Properties, frame_max: int) -> None:
    """Check that the content header of a message fits into one frame, as AMQP wants it: the body is divided, it is not.

    RabbitMQ ends the connection of who sends a longer frame, with everything else that is being published on it.

    Args:
        outgoing: the message.
        properties: its properties.
        frame_max: most bytes of a frame, as agreed with RabbitMQ; 0 is no limit.

    Raises:
        PublishError: headers and properties are too large.
    """
    size = len(properties.encoded) + AROUND_PROPERTIES
    if frame_max and size > frame_max:
        raise PublishError(
            place_of(outgoing),
            f"its headers and properties take {size} bytes, and RabbitMQ takes {frame_max}; put them into the body",
        )


def content_header(outgoing: Outgoing, app_id: str | None) -> bytes:
    """Return the content header of a message as a consumer gets it.

    Raises:
        PublishError: AMQP can't carry one of the properties, or not all of them.
    """
    properties = properties_of(outgoing, app_id)
    check_frame(outgoing, properties, FRAME_MAX)
    return HEAD.pack(BASIC, 0, len(outgoing.body)) + properties.encoded


def _table(outgoing: Outgoing) -> dict[str, Any]:
    """Return the headers as an AMQP table; a name that occurs more than once has a list."""
    table: dict[str, Any] = {}
    repeated: set[str] = set()
    for name, value in outgoing.headers:
        # Bytes that are text are text to whoever reads them.
        encoded = text_or_bytes(value) if isinstance(value, bytes) else value
        if name not in table:
            table[name] = encoded
        elif name in repeated:
            table[name].append(encoded)
        else:
            repeated.add(name)
            table[name] = [table[name], encoded]
    return table


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


def headers_of(table: Mapping[str, Any], content_type: str | None) -> Headers:
    """Return AMQP headers as text; a list is a repeated header, bytes that are not UTF-8 are kept.

    The content type is there too, as it is on brokers that have headers only.
    """
    pairs: list[tuple[str, HeaderValue]] = []
    if content_type:
        pairs.append(("content-type", content_type))
    for name, value in table.items():
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
