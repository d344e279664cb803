"""Ids of messages: random UUIDs that cost no system call."""

from __future__ import annotations

import os
from random import Random

__all__ = ("new_id",)

_random = Random()  # its own, so that an application's random.seed() repeats no ids
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_id() -> str:
    """Return a random UUID of version 4 as text.

    `uuid.uuid4()` asks the operating system for bytes that nobody can guess. An id of a message has to be unique,
    not secret.
    """
    text = f"{_random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[int(text[16], 16) & 3]}{text[17:20]}-{text[20:]}"
