"""Types of options that every package needs: times, counts and names, with the bounds that every client can hold."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from annotated_types import Ge, Gt, Le, MinLen

from .errors import SetupError
from .option_type import show

__all__ = ("Amount", "Count", "Name", "Pause", "Seconds", "Size", "check_timeout", "is_seconds")

LONGEST = 1_000_000
"""Seconds, more than eleven days: in milliseconds they still fit into the 32 bits that some clients have."""
MOST = 2**31 - 1
MOST_BYTES = 2**63 - 1

Seconds: TypeAlias = Annotated[float, Gt(0), Le(LONGEST)]
"""A time that passes: it is not 0, and it ends."""
Pause: TypeAlias = Annotated[float, Ge(0), Le(LONGEST)]
"""A time that may be 0, and ends."""
Count: TypeAlias = Annotated[int, Ge(1), Le(MOST)]
"""How many, or how many milliseconds, or bytes of one thing on the wire; not 0."""
Amount: TypeAlias = Annotated[int, Ge(0), Le(MOST)]
"""The same, which may be 0."""
Size: TypeAlias = Annotated[int, Ge(1), Le(MOST_BYTES)]
"""Bytes of memory."""
Name: TypeAlias = Annotated[str, MinLen(1)]
"""What something is called: a name that is empty would be none."""


def is_seconds(value: object) -> bool:
    """Tell whether a value given in a call, where no option is read, is a time that ends; 0 or less is one too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LONGEST


def check_timeout(subject: str, value: float, hint: str = "give more than 0") -> None:
    """Refuse a timeout of a call that is no time that passes and ends.

    Raises:
        SetupError: it is none.
    """
    if not (is_seconds(value) and value > 0):
        raise SetupError(subject, f"timeout={show(value)} is no number of seconds up to {LONGEST}", hint)
