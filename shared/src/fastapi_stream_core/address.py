"""Address templates: `users.{uid}` names one segment of an address."""

from __future__ import annotations

import re

from .errors import SetupError

__all__ = ("Template",)

_NAME = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}")


class Template:
    """An address with named segments.

    `{name}` stands for one segment without a dot; `{{` and `}}` are literal braces.

    Attributes:
        text: the template as the user wrote it.
        names: the parameters, in order.

    Raises:
        SetupError: a name is no identifier, or is there twice.
    """

    __slots__ = ("_pattern", "_pieces", "names", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces: list[str] = []
        names: list[str] = []
        literal, last = "", 0
        for found in _NAME.finditer(text):
            literal += text[last : found.start()]
            last = found.end()
            name = found["name"]
            if name is None:
                literal += found[0][0]
                continue
            if not name.isidentifier() or name in names:
                problem = "is there twice" if name in names else "is no name"
                raise SetupError(
                    f"address {text!r}", f"{{{name}}} {problem}", "use each parameter name once, as in 'users.{uid}'"
                )
            self._pieces.append(literal)
            names.append(name)
            literal = ""
        self._pieces.append(literal + text[last:])
        self.names = tuple(names)
        self._pattern: re.Pattern[str] | None = None

    def wildcard(self, mark: str = "*") -> str:
        """Return the address with `mark` for each parameter: what the broker is asked for."""
        return mark.join(self._pieces)

    def regex(self, segment: str = r"[^.]+", wildcards: dict[str, str] | None = None) -> str:
        """Return the regular expression of the address, the parameters as named groups.

        Args:
            segment: what a parameter matches.
            wildcards: the broker's own wildcards in the literal text, each with the expression that it stands for.
        """
        pieces = [_literal(piece, wildcards or {}) for piece in self._pieces]
        out = pieces[0]
        for name, piece in zip(self.names, pieces[1:], strict=True):
            out += f"(?P<{name}>{segment}){piece}"
        return out

    def match(self, address: str, wildcards: dict[str, str] | None = None) -> dict[str, str]:
        """Return the parameters that `address` gives; empty when it does not match or there are none."""
        if not self.names:
            return {}
        if self._pattern is None:
            self._pattern = re.compile(self.regex(wildcards=wildcards))
        found = self._pattern.fullmatch(address)
        return found.groupdict() if found else {}


def _literal(text: str, wildcards: dict[str, str]) -> str:
    if not wildcards:
        return re.escape(text)
    marks = re.compile("|".join(re.escape(mark) for mark in sorted(wildcards, key=len, reverse=True)))
    out, last = "", 0
    for found in marks.finditer(text):
        out += re.escape(text[last : found.start()]) + wildcards[found[0]]
        last = found.end()
    return out + re.escape(text[last:])
