"""An outgoing message as Kafka takes it."""

from __future__ import annotations

from typing import Final

from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.topic import wire_headers, wire_key

__all__ = ("NULL", "given_value", "wire_headers", "wire_key", "wire_value")

NULL: Final = object()
"""Stands for a null value until the client serializes it: before that it takes no record without key and value."""


def wire_value(outgoing: Outgoing) -> bytes | None:
    """Return the value; None is a null one, a tombstone when there is a key."""
    return None if outgoing.is_null else outgoing.body


def given_value(value: object) -> object:
    """Return the value that the client puts on the wire, of what it was given."""
    return None if value is NULL else value
