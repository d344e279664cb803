"""Address templates: `users.{uid}` names one segment of an address.

An address is chosen by whoever sends the message, so it is matched in time that grows only linearly with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cached_property
from typing import TypeAlias

from .errors import SetupError
from .option_type import show

__all__ = ("Template", "Wildcard", "refuse_parameters")

_NAME = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}")
_LONE = re.compile("[{}]")


def refuse_parameters(text: str) -> None:
    """Refuse the address of a publisher when it has parameters: nothing says what to put there.

    Raises:
        SetupError: it has some.
    """
    names = [found["name"] for found in _NAME.finditer(text) if (found["name"] or "").isidentifier()]
    if names:
        raise SetupError(
            f"publisher({text!r})",
            f"{{{names[0]}}} is a parameter, and a publisher sends to one address",
            "name that, or have the handler call the broker's publish() with the address",
        )


class Wildcard(Enum):
    """What a broker's wildcard stands for, where it is a whole segment."""

    ONE = "one segment"
    SOME = "one segment or more"
    ANY = "any number of segments"


_NO_WILDCARDS: Mapping[str, Wildcard] = {}


class Template:
    """An address with named segments.

    `{name}` stands for one segment without a dot, or for a part of one; `{{` and `}}` are literal braces. In
    `x-{a}-{b}` the first parameter takes as much as it can.

    Args:
        text: the template as the user wrote it.
        wildcards: the broker's own wildcards.

    Attributes:
        text: the template as the user wrote it.
        names: the parameters, in order.

    Raises:
        SetupError: it is no text, a name is no identifier or is there twice, or a brace has no partner.
    """

    def __init__(self, text: str, wildcards: Mapping[str, Wildcard] = _NO_WILDCARDS) -> None:
        if not isinstance(text, str):
            raise SetupError("an address", f"{show(text)} is none", "give it as text, such as 'users.{uid}'")
        lone = _LONE.search(_NAME.sub("", text))
        if lone is not None:
            raise SetupError(
                f"address {text!r}",
                f"a {lone[0]!r} has no partner",
                "write parameters as in 'users.{uid}', and '{{' or '}}' for a brace that is one",
            )
        self.text = text
        self._wildcards = wildcards
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

    def wildcard(self, mark: str = "*") -> str:
        """Return the address with `mark` for each parameter: what the broker is asked for."""
        return mark.join(self._pieces)

    def regex(self) -> str:
        """Return a regular expression of the address, for a client that looks for one; it matches in linear time."""
        out = re.escape(self._pieces[0])
        for number, piece in enumerate(self._pieces[1:], 2):
            # A parameter ends where what follows it is for the first time: there is nothing to try again.
            stop = f"(?!{re.escape(piece)})" if piece and number < len(self._pieces) else ""
            more = f"(?:{stop}[^.])*" if piece or number == len(self._pieces) else ""
            out += f"[^.]{more}{re.escape(piece)}"
        return out

    def match(self, address: str) -> dict[str, str]:
        """Return the parameters that `address` gives; empty when it does not match or there are none."""
        if not self.names:
            return {}
        if self._deterministic is not None:
            found = self._deterministic.fullmatch(address)
            return found.groupdict() if found is not None else {}
        values = _match(self._blocks, self._gaps, address.split("."))
        return dict(zip(self.names, values, strict=True)) if values is not None else {}

    @cached_property
    def _segments(self) -> list[Segment]:
        """The segments: a wildcard, or the texts around its parameters."""
        return [self._wildcards.get(one) or one.split("\0") for one in "\0".join(self._pieces).split(".")]

    @cached_property
    def _deterministic(self) -> re.Pattern[str] | None:
        """The regular expression of a template in which there is nothing to try twice: the usual one."""
        names = iter(self.names)
        out: list[str] = []
        for one in self._segments:
            if one is Wildcard.ONE:
                out.append("[^.]*")
            elif one is Wildcard.SOME and len(out) == len(self._segments) - 1:
                out.append(".*")
            elif isinstance(one, list) and len(one) <= 2:
                out.append(
                    "".join([re.escape(one[0]), *(f"(?P<{next(names)}>[^.]+){re.escape(end)}" for end in one[1:])])
                )
            else:
                return None
        return re.compile(r"\.".join(out), re.DOTALL)

    @cached_property
    def _gaps(self) -> list[Wildcard]:
        """The wildcards for several segments."""
        return [one for one in self._segments if one is Wildcard.SOME or one is Wildcard.ANY]

    @cached_property
    def _blocks(self) -> list[list[Segment]]:
        """The segments before, between and behind these wildcards."""
        blocks: list[list[Segment]] = [[]]
        for one in self._segments:
            if one is Wildcard.SOME or one is Wildcard.ANY:
                blocks.append([])
            else:
                blocks[-1].append(one)
        return blocks


Segment: TypeAlias = Wildcard | list[str]


def _match(blocks: Sequence[list[Segment]], gaps: Sequence[Wildcard], segments: Sequence[str]) -> list[str] | None:
    """Return the parameters in their order; None when the segments are not those of the template."""
    begin, end = len(blocks[0]), len(segments)
    head = _match_block(blocks[0], segments, 0)
    if head is None or not gaps:
        return head if begin == end else None
    end -= len(blocks[-1])
    if end - begin < gaps.count(Wildcard.SOME):
        return None
    tail = _match_block(blocks[-1], segments, end)
    # A wildcard takes as much as it can, so each block between two of them is as far behind as it can be.
    for block, gap in zip(reversed(blocks[1:-1]), reversed(gaps[1:]), strict=True):
        if gap is Wildcard.SOME:
            end -= 1
        end -= len(block)
        inner = None
        while end >= begin and (inner := _match_block(block, segments, end)) is None:
            end -= 1
        if inner is None or tail is None:
            return None
        tail = inner + tail
    if tail is None or end - begin < (gaps[0] is Wildcard.SOME):
        return None
    return head + tail


def _match_block(block: Sequence[Segment], segments: Sequence[str], begin: int) -> list[str] | None:
    """Return the parameters of the segments at one place."""
    found: list[str] = []
    if len(segments) - begin < len(block):
        return None
    for at, one in enumerate(block, begin):
        if isinstance(one, Wildcard):
            continue
        values = _match_segment(one, segments[at])
        if values is None:
            return None
        found += values
    return found


def _match_segment(texts: Sequence[str], segment: str) -> list[str] | None:
    """Return what stands between the texts; the first one is as long as it can be, then the second, ..."""
    first, *others = texts
    if not others:
        return [] if segment == first else None
    begin, end = len(first), len(segment) - len(others[-1])
    if end <= begin or not (segment.startswith(first) and segment.endswith(others[-1])):
        return None
    found: list[str] = []
    # So each text between is as far behind as it can be.
    for text in reversed(others[:-1]):
        at = segment.rfind(text, begin + 1, end - 1) if end - 1 > begin else -1
        if at < 0:
            return None
        found.append(segment[at + len(text) : end])
        end = at
    return [segment[begin:end], *reversed(found)]
