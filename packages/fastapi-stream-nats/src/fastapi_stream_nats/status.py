"""What the server says to a reader of a stream instead of a message: a code, a text, and headers."""

from __future__ import annotations

import re

__all__ = ("Status",)

DURATION = re.compile(rb"([0-9]{1,9}(?:\.[0-9]{1,9})?)(h|ms|m|s)")
"""A part of a duration as the server writes it: 1m30s."""
UNITS = {b"h": 3600.0, b"m": 60.0, b"s": 1.0, b"ms": 0.001}
MOST_DIGITS = 12
"""Of a number; whoever may publish to where the messages go can write any."""


class Status:
    """One thing that the server says, or whoever claims to be it.

    Args:
        block: the header block.

    Attributes:
        code: three digits.
        text: what follows them, in lower case.
    """

    def __init__(self, block: bytes) -> None:
        line, _, self._rest = block[9:].partition(b"\r\n")
        self.code, _, text = line.partition(b" ")
        self.text = text.lower()

    def header(self, name: bytes) -> bytes:
        """Return the value of a header, given in lower case; empty when there is none."""
        for line in self._rest.split(b"\r\n"):
            known, _, value = line.partition(b":")
            if known.lower() == name:
                return value.strip()
        return b""

    def number(self, name: bytes) -> int | None:
        """Return the number in a header; None when there is none."""
        value = self.header(name)[:MOST_DIGITS]
        return int(value) if value.isdigit() else None

    def limit(self) -> int | None:
        """Return the number that the text ends with, at least 1; None when there is none."""
        value = self.text.rpartition(b" ")[2][:MOST_DIGITS]
        return max(int(value), 1) if value.isdigit() else None

    def seconds(self) -> float | None:
        """Return the duration that the text ends with; None when there is none."""
        found = DURATION.findall(self.text.rpartition(b" ")[2])
        return sum(float(value) * UNITS[unit] for value, unit in found) if found else None
