"""The server's grammar: what stands in a line of the protocol, and what a subject is."""

from __future__ import annotations

import re

__all__ = ("fault", "fields", "is_word", "readable", "unquoted")

_FORBIDDEN = re.compile("[\x00-\x20\x7f]")
_ESCAPED = re.compile(r'\\(?:u([0-9a-f]{4})|U(000[0-9a-f]{5}|0010[0-9a-f]{4})|(["\\]))')


def fields(line: bytes) -> list[bytes]:
    """Return the fields of a line: spaces and tabs stand between them, and nothing else does."""
    words = line.split(b" ")
    if b"" in words or b"\t" in line:
        words = [word for word in line.replace(b"\t", b" ").split(b" ") if word]
    return words


def fault(subject: str, wildcards: bool = False) -> str | None:
    """Return what is wrong with a subject; None when the server and every client understand it.

    The server takes control characters other than space, tab, CR, LF; clients that read the protocol with a wider idea
    of white space then give the message to another subscription.

    Args:
        subject: the subject.
        wildcards: whether it is subscribed to, so that `*` and, at its end, `>` may stand for tokens.
    """
    if not subject:
        return "it is empty"
    if _FORBIDDEN.search(subject):
        return "it has spaces or control characters"
    tokens = subject.split(".")
    if "" in tokens:
        return "there is nothing before, after or between its dots"
    if not wildcards and ("*" in tokens or ">" in tokens):
        return "it has wildcards"
    if ">" in tokens[:-1]:
        return "`>` is not at its end"
    if wildcards and any(len(token) > 1 and ("*" in token or ">" in token) for token in tokens):
        return "`*` and `>` stand for whole tokens"
    if not _is_text(subject):
        return "it is no UTF-8"
    return None


def _is_text(subject: str) -> bool:
    try:
        subject.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_word(name: str) -> bool:
    """Tell whether a name, as that of a queue group, is one field of a line."""
    return bool(name) and not _FORBIDDEN.search(name) and _is_text(name)


def readable(subject: bytes) -> str:
    """Return a subject as text; bytes that are no UTF-8, which the server lets through, are shown by their numbers."""
    return subject.decode("utf-8", "backslashreplace")


def unquoted(text: str) -> str:
    """Return a subject that an error of the server shows between quotation marks.

    It writes quotation marks and backslashes behind a backslash, and what it takes to be unprintable as a number; what
    that is depends on its version.
    """
    return _ESCAPED.sub(lambda found: found[3] or chr(int(found[1] or found[2], 16)), text)
