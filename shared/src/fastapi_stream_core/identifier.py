"""Ids of messages: random UUIDs that cost no system call."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from random import Random

from .errors import SetupError
from .option_type import show

__all__ = ("checked", "goes_on", "new_id")

MOST_BYTES = 255
"""Of an id that every broker takes: AMQP has short strings for them."""
SHORT = MOST_BYTES // 4
"""Characters that are no more bytes than that, whichever they are."""
_UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

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
    """Tell whether an id that a sender chose is one that every broker takes: short, and without line breaks.

    A text of a class of its own stands for bytes that are none in UTF-8, and has a character for each.
    """
    if _UNFIT.search(identifier):
        return False
    return len(identifier.encode() if type(identifier) is str else identifier) <= MOST_BYTES


def checked(generator: Callable[[], str], subject: str) -> Callable[[], str]:
    """Return a generator of ids that is known to give what can be sent.

    Args:
        generator: a user's.
        subject: whose option it is, for the error.
    """

    def checked_id() -> str:
        made = generator()
        if type(made) is not str or not made:
            raise SetupError(
                subject,
                f"id_generator= gave {show(made)}, and an id is a text that is not empty",
                "have it return one, as `lambda: str(uuid4())` does",
            )
        return made

    return checked_id
