"""An outgoing message as Kafka takes it."""

from __future__ import annotations

from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.topic import wire_headers as encoded_headers
from fastapi_stream_core.topic import wire_key

__all__ = ("wire_headers", "wire_key", "wire_value")


def wire_value(outgoing: Outgoing) -> bytes | None:
    """Return the value; None is a null one, a tombstone when there is a key."""
    return None if outgoing.is_null else outgoing.body


def wire_headers(outgoing: Outgoing) -> list[tuple[str, bytes]]:
    """Return the headers: names, which the client encodes, and bytes.

    Raises:
        ValueError: a name or a value can't be encoded; at such a name the client would end the process.
    """
    pairs = encoded_headers(outgoing)
    for name, _ in pairs:
        if not name.isascii():
            name.encode()
        if "\0" in name:
            raise ValueError(f"the header {name!r} has a null character in its name")
    return pairs
