"""An outgoing message as Kafka takes it."""

from __future__ import annotations

from fastapi_stream_core.errors import PublishError
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.topic import wire_headers as encoded_headers
from fastapi_stream_core.topic import wire_key as encoded_key

__all__ = ("wire_headers", "wire_key", "wire_value")


def wire_key(outgoing: Outgoing) -> bytes | None:
    """Return the key as bytes, when the other options are what the client takes.

    Raises:
        PublishError: one of them is not.
    """
    key = encoded_key(outgoing)
    if outgoing.options.get("timestamp_ms") == 0:
        raise PublishError(outgoing.address, "timestamp_ms=0 means now to librdkafka; give 1 or more, or leave it out")
    return key


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
