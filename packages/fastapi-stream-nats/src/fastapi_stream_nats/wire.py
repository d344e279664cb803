"""Messages as they are sent, within what the server takes, and what a stream says of them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from fastapi_stream_core.errors import PublishError, shorten
from fastapi_stream_core.headers import HeaderValue
from fastapi_stream_core.response import Outgoing
from pydantic_core import from_json

from .subject import fault, fields

__all__ = ("DEFAULT_LIMITS", "Limits", "confirmation", "message_headers", "payload_of", "publication")

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NEWLINES = bytes.maketrans(b"\r\n", b"  ")
REMEMBERED = 200
"""Subjects, names and values of so many characters are remembered as they are sent; longer ones are made each time."""


class Limits(NamedTuple):
    """What the server takes at most; for more it ends the connection.

    Attributes:
        payload: bytes of headers and body together.
        line: bytes of the line before them, with subject and reply subject.
    """

    payload: int
    line: int


DEFAULT_LIMITS = Limits(1024 * 1024, 4096)
"""The server's defaults."""


def publication(message: Outgoing, limits: Limits, reply: bytes = b"", expected: str | None = None) -> bytes:
    """Return the command that publishes a message.

    Args:
        message: what is published.
        limits: what the server takes.
        reply: where a confirmation goes; by default where the message says, which then is no header.
        expected: the stream that has to store it.

    Raises:
        PublishError: the subject or a header can't be sent, or the whole is more than the server takes.
    """
    subject = _subject(message.address, message.address)
    if not reply and message.reply_to:
        reply = _subject(message.reply_to, message.address)
    body = message.body
    block = message_headers(message, expected is None, b"" if expected is None else _expected(expected))
    head, size = len(block), len(block) + len(body)
    line = (
        b"HPUB %b %b %d %d\r\n" % (subject, reply, head, size)
        if block
        else b"PUB %b %b %d\r\n" % (subject, reply, size)
    )
    if size > limits.payload:
        raise PublishError(
            message.address,
            f"{len(body)} bytes and {head} bytes of headers are more than the server takes, {limits.payload}",
        )
    if len(line) > limits.line:
        raise PublishError(
            message.address,
            f"a subject of {len(subject)} bytes and a reply subject of {len(reply)} bytes are too long for one line:"
            f" the server takes {limits.line}",
        )
    return b"%b%b%b\r\n" % (line, block, body)


def payload_of(commands: bytes) -> int:
    """Return how large the message of a command is; 0 for what is no message."""
    if not commands.startswith((b"PUB ", b"HPUB ")):
        return 0
    return int(fields(commands[: commands.find(b"\r\n")])[-1])


def confirmation(data: bytes) -> dict[str, Any] | None:
    """Read what a stream says of a message; None when it is something else, that a subscriber of the subject said."""
    try:
        answer = from_json(data)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    stored = isinstance(answer.get("stream"), str) and isinstance(answer.get("seq"), int)
    return answer if isinstance(answer.get("error"), dict) or stored else None


def message_headers(message: Outgoing, core: bool, extra: bytes = b"") -> bytes:
    """Return the header block of a message; empty when it has none.

    Args:
        message: its headers and ids.
        core: whether the protocol has a place of its own for `reply_to`.
        extra: further header lines, finished.

    Raises:
        PublishError: a header name can't be sent.
    """
    if message.headers or (message.reply_to and not core):
        pairs = message.wire_headers()
        if core and message.reply_to:
            pairs = [pair for pair in pairs if pair[0] != "reply_to" or pair in message.headers]
        return _block(message.address, pairs, extra)
    if message.content_type:
        line = _known_line if len(message.content_type) <= REMEMBERED else _line
        extra += line("content-type", message.content_type)
    if message.correlation_id:
        return b"NATS/1.0\r\n%bcorrelation_id: %b\r\n\r\n" % (extra, _text(message.correlation_id))
    return b"NATS/1.0\r\n%b\r\n" % extra if extra else b""


def _subject(subject: str, address: str) -> bytes:
    """Return a subject as it is sent.

    Raises:
        PublishError: it can't be.
    """
    encoded = _known_subject(subject) if len(subject) <= REMEMBERED else _encoded(subject)
    if encoded is None:
        raise PublishError(address, f"{shorten(subject)} is no subject: {fault(subject)}")
    return encoded


def _encoded(subject: str) -> bytes | None:
    return None if fault(subject) else subject.encode()


_known_subject = lru_cache(maxsize=512)(_encoded)


def _start(name: str) -> bytes | None:
    """Return a header line up to its value; None when the protocol can't take the name."""
    return f"{name}: ".encode() if _HEADER_NAME.fullmatch(name) else None


_known_start = lru_cache(maxsize=512)(_start)


def _text(value: HeaderValue) -> bytes:
    if isinstance(value, str):
        if value.isascii() and value.isprintable():
            return value.strip().encode()
        value = value.encode("utf-8", "surrogateescape")
    return value.strip().translate(_NEWLINES)


def _line(name: str, value: str) -> bytes:
    return b"%b: %b\r\n" % (name.encode(), _text(value))


_known_line = lru_cache(maxsize=512)(_line)


def _expected(stream: str) -> bytes:
    return (_known_line if len(stream) <= REMEMBERED else _line)("Nats-Expected-Stream", stream)


def _block(subject: str, headers: list[tuple[str, HeaderValue]], extra: bytes) -> bytes:
    lines = [b"NATS/1.0\r\n", extra]
    for name, value in headers:
        start = _known_start(name) if len(name) <= REMEMBERED else _start(name)
        if start is None:
            raise PublishError(subject, f"{shorten(name)} is no header name: letters, digits and !#$%&'*+-.^_`|~ only")
        lines += (start, _text(value), b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
