"""An outgoing message as Kafka takes it."""

from __future__ import annotations

from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.topic import wire_headers, wire_key

__all__ = ("wire_headers", "wire_key", "wire_value")


def wire_value(outgoing: Outgoing) -> bytes | None:
    """Return the value: None, a tombstone, for a null body that has a key."""
    return None if outgoing.is_null and outgoing.options.get("key") is not None else outgoing.body
