"""An outgoing message as Kafka takes it."""

from __future__ import annotations

from fastapi_stream_core.response import Outgoing

__all__ = ("wire_headers", "wire_key", "wire_value")


def wire_key(outgoing: Outgoing) -> bytes | None:
    """Return the key as bytes."""
    key = outgoing.options.get("key")
    return key.encode() if isinstance(key, str) else key


def wire_value(outgoing: Outgoing) -> bytes | None:
    """Return the value; None is a null body, a tombstone when there is a key."""
    return None if outgoing.is_null else outgoing.body


def wire_headers(outgoing: Outgoing) -> list[tuple[str, bytes]]:
    """Return the headers as bytes."""
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in outgoing.wire_headers()]
