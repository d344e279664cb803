"""Ids of messages: random UUIDs that cost no system call."""

from __future__ import annotations

import os
from random import Random

__all__ = ("goes_on", "new_id")

MOST_BYTES = 255
"""Of an id that every broker takes: AMQP has short strings for them."""

_random = Random()  # its own, so that an application's random.seed() repeats no ids
_bits = _random.getrandbits
FIXED = 0xF << 76 | 0x3 << 62
"""The bits of a UUID that say its version and variant."""
VERSION_4 = 0x4 << 76 | 0x2 << 62
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_id() -> str:
    """Return a random UUID of version 4 as text.

    `uuid.uuid4()` asks the operating system for bytes that nobody can guess. An id of a message has to be unique,
    not secret.
    """
    text = (_bits(128) & ~FIXED | VERSION_4).to_bytes(16, "big").hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def goes_on(identifier: str) -> bool:
    """Tell whether an id that a sender chose is one that every broker takes: short, and without line breaks."""
    return identifier.isprintable() and (4 * len(identifier) <= MOST_BYTES or len(identifier.encode()) <= MOST_BYTES)
