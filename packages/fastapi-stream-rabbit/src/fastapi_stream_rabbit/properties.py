"""The properties of a message, as its content header carries them."""

from __future__ import annotations

import struct
from typing import Any

from aiormq import spec

from .table import SHORT, bytes_of, text_of, time_of, write_table, write_time

__all__ = ("Properties", "client_properties", "leave_out_unknown", "read_properties")

TEXTS, OCTETS = "texts", "octets"
ORDER = (
    ("content_type", 0x8000, TEXTS),
    ("content_encoding", 0x4000, TEXTS),
    ("headers", 0x2000, "table"),
    ("delivery_mode", 0x1000, OCTETS),
    ("priority", 0x0800, OCTETS),
    ("correlation_id", 0x0400, TEXTS),
    ("reply_to", 0x0200, TEXTS),
    ("expiration", 0x0100, TEXTS),
    ("message_id", 0x0080, TEXTS),
    ("timestamp", 0x0040, "time"),
    ("message_type", 0x0020, TEXTS),
    ("user_id", 0x0010, TEXTS),
    ("app_id", 0x0008, TEXTS),
    ("cluster_id", 0x0004, TEXTS),
)
"""Name, flag and form of each property, in the order of the wire."""
FIXED = 14
"""Bytes of a content header before its properties: class, weight, size of the body, flags."""


def read_properties(head: bytes) -> tuple[dict[str, Any], str | None]:
    """Read the properties of a content header: texts, numbers, the seconds of a time, and the bytes of the headers.

    Returns:
        What is there, and what is wrong with the rest. Never raises.
    """
    values: dict[str, Any] = {}
    size = len(head)
    if size < FIXED:
        return values, "the content header is too short"
    flags = head[12] << 8 | head[13]
    here = FIXED
    more = flags
    while more & 1:  # flags of properties that AMQP 0-9-1 does not have
        if here + 2 > size:
            return values, "the flags of the properties do not end"
        more = head[here] << 8 | head[here + 1]
        here += 2
    for name, flag, form in ORDER:
        if not flags & flag:
            continue
        if here >= size:
            return values, f"there is no {name}"
        if form is TEXTS:
            begin = here + 1
            here = begin + head[here]
            value: Any = text_of(head[begin:here])
        elif form is OCTETS:
            value = head[here]
            here += 1
        elif form == "table":
            begin = here + 4
            here = begin + int.from_bytes(head[here:begin], "big")
            value = head[begin:here]
        else:
            value = int.from_bytes(head[here : here + 8], "big")
            here += 8
        if here > size:
            return values, f"{name} is longer than the content header"
        values[name] = value
    return values, None


def leave_out_unknown(properties: spec.Basic.Properties) -> spec.Basic.Properties:
    """Leave out what the client library's own message refuses, and RabbitMQ passes on; return the same object."""
    if properties.delivery_mode not in (None, 1, 2):
        properties.delivery_mode = None
    expiration = properties.expiration
    if expiration is not None and not (expiration.isascii() and expiration.isdigit()):
        properties.expiration = None
    return properties


def client_properties(values: dict[str, Any], headers: dict[str, Any] | None) -> spec.Basic.Properties:
    """Return properties as the client library knows them; a time that is no date is left out."""
    properties = spec.Basic.Properties()
    for name, value in values.items():
        setattr(properties, name, value)
    properties.headers = headers
    properties.timestamp = time_of(values["timestamp"]) if "timestamp" in values else None
    return properties


class Properties(spec.Basic.Properties):
    """The properties of a message that is published, written once.

    Args:
        values: by their names.

    Attributes:
        encoded: the bytes of the wire.

    Raises:
        ValueError: AMQP can't carry one of them.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(**values)
        self.encoded = _write(values)

    def marshal(self) -> bytes:
        return self.encoded


def _write(values: dict[str, Any]) -> bytes:
    flags = 0
    parts = [b""]
    for name, flag, form in ORDER:
        value = values.get(name)
        if not value and (value is None or form is TEXTS or form == "table"):
            continue
        flags |= flag
        if form is TEXTS:
            if not isinstance(value, str):
                raise ValueError(f"{name}={value!r} is no text")
            encoded = bytes_of(value)
            if len(encoded) > SHORT:
                raise ValueError(f"{name} has more than {SHORT} bytes")
            parts.append(bytes((len(encoded),)))
            parts.append(encoded)
        elif form is OCTETS:
            if not isinstance(value, int) or not 0 <= value <= SHORT:
                raise ValueError(f"{name}={value} is not within 0 and {SHORT}")
            parts.append(bytes((value,)))
        elif form == "table":
            parts.append(write_table(value))
        else:
            parts.append(write_time(value))
    parts[0] = struct.pack(">H", flags)
    return b"".join(parts)
