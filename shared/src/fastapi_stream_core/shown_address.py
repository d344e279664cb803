"""What of an address is shown in errors, logs and documents: never a user, a password or a token.

Whatever can't be read for certain is not shown. An address may hold several servers, a mistake in its scheme, a
password with unescaped characters; a client library quotes all that in the text of its errors.
"""

from __future__ import annotations

import re

from .error_tree import tree_of

__all__ = ("HIDDEN", "clean_cause", "is_readable", "scrub", "without_credentials")

HIDDEN = "***"
"""Stands for what is not shown."""
LONGEST = 10_000
"""Characters of the longest address that is read."""

_BETWEEN = re.compile(r"([\s,;]+)")
_SHOWABLE = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?"
    r"(?:[\w.*{}-]+|\[[0-9A-Fa-f:.]+(?:%\w+)?\])?(?::(?:\d{1,5}|\{\w+\}))?"
    r"(?:/[\w./~%+:|{}!$&'()*=-]*)?"
)
_SLASHES = re.compile(r":/{1,3}|//|:\\")
_IN_QUERY = re.compile(r"[?#]")
_TOKEN = re.compile(r"[^\s'\"<>]+")
_NAMED = re.compile(
    r"""(?ix) (?P<name>
            pass(?:word|wd|phrase)? | pwd | secret | token | api_?key | cred(?:ential)?s? | auth(?:orization)?
            | jwt | nkey | seed
        )
        (?P<is> ["']? \s{0,3} [=:] \s{0,3} ) (?: (?: basic | bearer | digest ) \s{1,3} )?
        (?: [bru]{0,2} (?: "[^"]*" | '[^']*' ) | [^\s&,;)}\]]+ )"""
)
_NO_PORT = re.compile(r"://[^\s/@:\[\]]*(?:%40\S*|:(?!\d{1,5}(?![^\s/?#,;'\")>]))\S*)")


def without_credentials(address: object) -> str:
    """Return an address, or several of them in one text, without credentials, query and fragment.

    Args:
        address: what somebody gave as an address, right or wrong.

    Returns:
        Scheme, host, port and path of each, with what separates them; `***` for what can't be read for certain.
    """
    if not isinstance(address, str) or len(address) > LONGEST:
        return HIDDEN
    parts = _BETWEEN.split(address)
    shown: list[str] = []
    at = len(parts) - 1
    while at >= 0:
        part = parts[at]
        # A password may hold what separates addresses; then it began before.
        while at >= 2 and "@" in part and "://" not in part:
            part = parts[at - 2] + parts[at - 1] + part
            at -= 2
        shown.append(_one_shown(part))
        if at:
            shown.append(parts[at - 1])
        at -= 2
    return "".join(reversed(shown))


def _is_certain(address: str) -> bool:
    behind_authority = address.rpartition("://")[2].partition("/")[2]
    return "@" not in behind_authority and _one_shown(address) != HIDDEN


def _one_shown(address: str) -> str:
    if not address:
        return ""
    scheme, mark, rest = address.partition("://")
    if not mark:
        scheme, rest = "", address
    server, _, after = rest.partition("?") if "?" in rest else rest.partition("#")
    if "@" in after:
        return HIDDEN  # the end of a password, or a value of the query
    server = server.partition("#")[0] if "@" not in server.partition("#")[2] else HIDDEN + "@"
    authority, _, path = server.partition("/")
    if "@" in authority and "@" in path:
        return HIDDEN
    found = _SHOWABLE.fullmatch(scheme + mark + server.rpartition("@")[2])
    if found is None or found[0] == scheme + mark:
        return HIDDEN
    return found[0]


def is_readable(address: object) -> bool:
    """Tell whether an address can be read for certain, so that a client library reads the same in it.

    It can't when characters of the password had to be escaped, when a scheme or a port is mistyped. A package refuses
    such an address before its client quotes it.
    """
    if not isinstance(address, str) or len(address) > LONGEST:
        return False
    return all(_is_certain(part) for part in _BETWEEN.split(address)[::2] if part)


def scrub(text: str) -> str:
    """Return the text of a foreign error, or of a value, without the credentials that it may quote.

    What looks like the userinfo of a URL, or like the value of a password, becomes `***`; rather too much than too
    little.
    """
    if "@" in text:
        text = "\n".join(_line_scrubbed(line) for line in text.split("\n"))
    text = _TOKEN.sub(_without_query, _NO_PORT.sub(f"://{HIDDEN}", text))
    return _NAMED.sub(rf"\g<name>\g<is>{HIDDEN}", text)


def _without_query(found: re.Match[str]) -> str:
    token = found[0]
    slashes = token.find("://")
    query = None if slashes < 0 else _IN_QUERY.search(token, slashes)
    return token if query is None else f"{token[: query.start()]}?{HIDDEN}"


def _line_scrubbed(line: str) -> str:
    first, last = line.find("@"), line.rfind("@")
    if first < 0:
        return line
    slashes = _SLASHES.search(line, 0, last)
    if slashes is not None:
        after = line[last:]
        if _IN_QUERY.search(line, slashes.end(), last):
            after = _TOKEN.sub("", after, count=1)
        return f"{line[: slashes.end()]}{HIDDEN}{after}"
    begin = max(line.rfind(mark, 0, first) for mark in "'\"`<(")
    return f"{line[: (begin if begin >= 0 else line.rfind(' ', 0, first)) + 1]}{HIDDEN}{line[last:]}"


def clean_cause(error: BaseException) -> BaseException:
    """Return an error of a client library as it may be the cause of ours, and so stand in a traceback.

    That is the error itself; or, when it or an error that led to it quotes credentials, one that says the same
    without them: `raise BrokerUnavailable(...) from clean_cause(error)`.
    """
    for one in tree_of(error, hidden=True):
        said = "\n".join((str(one), repr(one), *map(str, getattr(one, "__notes__", ()))))
        if scrub(said) != said:
            return CleanedError(error)
    return error


class CleanedError(Exception):
    """An error of a client library, without the credentials that it quoted and without its traceback."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {scrub(str(error))}")
