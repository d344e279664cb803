"""Bytes to values and back, by content type."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel
from pydantic_core import from_json, to_json
from starlette.responses import Response as HTTPResponse

from .errors import DecodeError, EncodeError
from .response import Response

if TYPE_CHECKING:
    from .message import StreamMessage

__all__ = ("BYTES", "JSON", "TEXT", "as_text", "decode", "encode", "is_json")

JSON = "application/json"
TEXT = "text/plain"
BYTES = "application/octet-stream"
LONGEST_KNOWN = 200
"""Characters of the longest content type that is kept."""
_SCALARS = frozenset({str, int, float, bool, type(None)})


def is_json(content_type: str) -> bool:
    """Tell whether a content type means JSON: `application/json`, or any `+json` suffix, with parameters or not."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")


def _kind(content_type: str) -> str:
    """Return how to decode: as JSON, as text or as bytes. A sender chooses the text, so a long one is not kept."""
    return _known_kind(content_type) if len(content_type) <= LONGEST_KNOWN else _kind_of(content_type)


def _kind_of(content_type: str) -> str:
    if is_json(content_type):
        return JSON
    return TEXT if content_type.strip().lower().startswith(TEXT) else BYTES


_known_kind = lru_cache(maxsize=64)(_kind_of)


def encode(value: Any) -> tuple[bytes, str | None]:
    """Encode one value for the wire.

    Returns:
        The body and its content type: `bytes` are sent untouched and None is an empty body, both without a
        content type; `str` is `text/plain`; everything else is JSON, as FastAPI would render it.

    Raises:
        EncodeError: the value has no JSON, or holds itself, a response of HTTP, or text that UTF-8 does not know.
    """
    try:
        return _encoded(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise EncodeError(value, error) from None


def _encoded(value: Any) -> tuple[bytes, str | None]:
    if value is None:
        return b"", None
    if isinstance(value, bytes):
        return value, None
    if isinstance(value, str):
        return value.encode(), TEXT
    if BaseModel in type(value).__mro__:  # isinstance() asks pydantic's metaclass, in Python
        return to_json(value, by_alias=True), JSON
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value), None
    return to_json(value if _is_plain(value) else jsonable_encoder(value, custom_encoder=_REFUSED)), JSON


def _refuse_http(response: HTTPResponse) -> Any:
    """Refuse what FastAPI's encoder would make of it: status, headers and body."""
    raise TypeError(
        f"{type(response).__name__} answers an HTTP request: return the value itself, or the Response of this package"
    )


def _refuse_inner(response: Response) -> Any:
    """Refuse what the encoder would make of a response inside a body: its attributes."""
    raise TypeError(f"{type(response).__name__} is the whole result, and no part of one: give its body there")


_REFUSED: dict[Any, Any] = {HTTPResponse: _refuse_http, Response: _refuse_inner}


def _is_plain(value: Any) -> bool:
    """Tell whether a value is JSON already, so that FastAPI's encoder would only copy it, at ten times the price."""
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            # FastAPI leaves out what SQLAlchemy adds.
            if type(key) is not str or key[:3] == "_sa" or not (type(item) in _SCALARS or _is_plain(item)):
                return False
        return True
    if kind is list:
        return all(type(item) in _SCALARS or _is_plain(item) for item in value)
    return kind in _SCALARS


def decode(body: bytes, content_type: str | None) -> Any:
    """Decode one body.

    `text/plain` is `str`, JSON is parsed, another declared type stays `bytes`. Without a content type, or with an empty
    one, JSON is tried and `bytes` are the answer when it is none. An empty body is None, unless it is text.

    Raises:
        DecodeError: the body is not what its content type declares.
    """
    if not body:
        return "" if content_type and _kind(content_type) == TEXT else None
    if content_type == JSON:
        try:
            return from_json(body)
        except ValueError:
            return _decode_unusual_json(body, content_type)
    if not content_type:
        try:
            return from_json(body)
        except ValueError:
            return body
    kind = TEXT if content_type == TEXT else _kind(content_type)
    if kind == JSON:
        try:
            return from_json(body)
        except ValueError:
            return _decode_unusual_json(body, content_type)
    if kind == TEXT:
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(content_type, len(body), error) from error
    return body


def as_text(value: Any, message: StreamMessage) -> Any:
    """Return the text of bytes that nobody called JSON and that only happen to be a number; other values as given."""
    is_number = isinstance(value, (int, float)) and message.content_type is None
    return message.body.decode() if is_number else value


def _decode_unusual_json(body: bytes, content_type: str) -> Any:
    """Take what the standard library takes and the fast parser does not: a byte order mark, lone surrogates."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(content_type, len(body), error) from error
