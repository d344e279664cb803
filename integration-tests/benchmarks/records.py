"""The records of the in-process comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord

__all__ = ("BODY", "HEADERS", "INVALID", "TEXT", "record")

HEADERS = [("content-type", b"application/json"), ("correlation_id", b"c-1"), ("x-tenant", b"acme")]
TEXT_HEADERS = [("content-type", b"text/plain"), ("correlation_id", b"c-1"), ("x-tenant", b"acme")]
BODY = b'{"id": 17, "name": "a pound of tea", "price": 3.5, "tags": ["green", "loose", "organic"], "paid": true}'
TEXT = b"a pound of tea"
INVALID = BODY.replace(b"17", b'"x"')


def record(body: bytes = BODY, offset: int = 0) -> Any:
    """One record as aiokafka gives it."""
    headers: Sequence[tuple[str, bytes]] = TEXT_HEADERS if body is TEXT else HEADERS
    return ConsumerRecord("orders", 0, offset, 0, 0, None, body, None, 0, len(body), headers)
