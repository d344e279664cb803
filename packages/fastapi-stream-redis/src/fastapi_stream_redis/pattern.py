"""Patterns of channels, as Redis matches them, with parameters: in time that grows only linearly with the channel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from fastapi_stream_core.address import Template

__all__ = ("ChannelPattern", "as_bytes")

GLOB = re.compile(r"\\(?P<plain>.)|(?P<any>\*+)|(?P<one>\?)|\[(?P<no>\^?)(?P<set>(?:\\.|[^\]])*)\]?|(?P<text>.)", re.S)
RANGE = re.compile(r"\\(?P<plain>.)|(?P<first>.)-(?P<last>.)|(?P<text>.)", re.S)


@dataclass(frozen=True)
class One:
    """One byte out of a set; `regex` says which."""

    regex: str

    @cached_property
    def allowed(self) -> frozenset[str]:
        return frozenset(found for found in map(chr, range(256)) if re.fullmatch(self.regex, found, re.S))


@dataclass(frozen=True)
class Some:
    """Any text for a `*`; one byte or more without a dot for a parameter, which has a name."""

    name: str | None


Part: TypeAlias = "str | One | Some"


class ChannelPattern:
    """What a template with Redis' wildcards takes.

    A wildcard takes as much as it can. Redis compares bytes: a `?` is one byte of the UTF-8 of a channel. So channels
    are looked at as one character for each byte.

    Args:
        template: `{name}` stands for a segment without a dot, `*`, `?` and `[ab]` for what Redis says.
    """

    def __init__(self, template: Template) -> None:
        self._parts: list[Part] = []
        segments = template.wildcard("\0").split("\0")
        self._add(segments[0])
        for name, text in zip(template.names, segments[1:], strict=True):
            self._parts.append(Some(name))
            self._add(text)
        self._simple = re.compile(_regex(self._parts), re.S) if _is_simple(self._parts) else None

    def _add(self, text: str) -> None:
        literal = ""
        for found in GLOB.finditer(as_bytes(text)):
            part: Part | None = None
            if found["any"]:
                part = Some(None)
            elif found["one"]:
                part = One(".")
            elif found["set"] is not None:
                part = One(_set(found["no"], found["set"]))
            if part is None:
                literal += found["plain"] or found["text"]
                continue
            if literal:
                self._parts.append(literal)
                literal = ""
            self._parts.append(part)
        if literal:
            self._parts.append(literal)

    def match(self, channel: str) -> dict[str, str] | None:
        """Return the parameters that a channel gives, its bytes as characters; None when it is not meant."""
        if self._simple is not None:
            found = self._simple.fullmatch(channel)
            return None if found is None else found.groupdict()
        reach = self._reach(channel)
        return None if reach is None else self._walk(channel, reach)

    def _reach(self, channel: str) -> list[bytearray] | None:
        """Mark, for each part, the places from which it and all behind it match; None when there is no match."""
        size = len(channel)
        behind = bytearray(size + 1)
        behind[size] = 1
        reach = [behind]
        for part in reversed(self._parts):
            here = bytearray(size + 1)
            if isinstance(part, str):
                at = channel.find(part)
                while at >= 0:
                    here[at] = behind[at + len(part)]
                    at = channel.find(part, at + 1)
            elif isinstance(part, One):
                for at in range(size):
                    here[at] = behind[at + 1] and channel[at] in part.allowed
            elif part.name is None:
                last = behind.rfind(1)
                here[: last + 1] = b"\1" * (last + 1)
            else:
                begin = 0
                for segment in channel.split("."):
                    end = begin + len(segment)
                    last = behind.rfind(1, begin + 1, end + 1)
                    if last > 0:
                        here[begin:last] = b"\1" * (last - begin)
                    begin = end + 1
            behind = here
            reach.append(here)
        reach.reverse()
        return reach if reach[0][0] else None

    def _walk(self, channel: str, reach: list[bytearray]) -> dict[str, str]:
        found: dict[str, str] = {}
        at = 0
        for part, behind in zip(self._parts, reach[1:], strict=True):
            if isinstance(part, str):
                at += len(part)
            elif isinstance(part, One):
                at += 1
            elif part.name is None:
                at = behind.rfind(1, at)
            else:
                dot = channel.find(".", at)
                begin, at = at, behind.rfind(1, at + 1, (len(channel) if dot < 0 else dot) + 1)
                found[part.name] = channel[begin:at]
        return found


def as_bytes(text: str) -> str:
    """Return a text with one character for each byte of its UTF-8."""
    return text if text.isascii() else text.encode(errors="replace").decode("latin-1")


def _is_simple(parts: list[Part]) -> bool:
    """Tell whether a regular expression never goes back far: one part that varies, or parameters that end at dots."""
    varying = [at for at, part in enumerate(parts) if isinstance(part, Some)]
    if len(varying) < 2:
        return True
    followers = [parts[at + 1] if at + 1 < len(parts) else "." for at in varying]
    ended = all(isinstance(one, str) and one.startswith(".") for one in followers)
    return ended and all(isinstance(part, Some) and part.name for part in (parts[at] for at in varying))


def _regex(parts: list[Part]) -> str:
    text = ""
    for part in parts:
        if isinstance(part, Some):
            text += ".*" if part.name is None else f"(?P<{part.name}>[^.]+)"
        else:
            text += re.escape(part) if isinstance(part, str) else part.regex
    return text


def _set(no: str, members: str) -> str:
    """Return the expression of a set; Redis turns a range that is given backwards, and an empty set takes nothing."""
    inside = ""
    for found in RANGE.finditer(members):
        if found["first"] is not None:
            first, last = sorted((found["first"], found["last"]))
            inside += f"{re.escape(first)}-{re.escape(last)}"
        else:
            inside += re.escape(found["plain"] or found["text"])
    if not inside:
        return "." if no else "(?!)."
    return f"[{no}{inside}]"
