"""Headers of a message: case-insensitive, a name may occur more than once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from .errors import PublishError, shorten

__all__ = ("MOST_HEADERS", "HeaderInput", "HeaderValue", "Headers", "SentHeader", "header_pairs", "text_name")

HeaderValue: TypeAlias = str | bytes
"""A value as it is received."""
SentHeader: TypeAlias = Any
"""A value as it is sent: text or bytes; on a broker with typed headers also bool, int, float, Decimal, datetime."""
HeaderInput: TypeAlias = Mapping[str, object]

MOST_HEADERS = 1000
"""Most headers of one message that are read, where the broker bounds nothing but bytes: many small ones take long."""
_TYPED = (bool, int, float, Decimal, datetime)


def header_pairs(headers: HeaderInput | None, address: str = "", typed: bool = False) -> list[tuple[str, SentHeader]]:
    """Flatten what `publish(headers=...)` takes: a list is a repeated header, None is left out.

    Args:
        headers: names with their values.
        address: where the message goes to, for the error.
        typed: whether numbers and times keep their type; otherwise they become text, as everything does that has a
            text of its own.

    Raises:
        PublishError: a name is no text, or a value is nothing that a header can hold.
    """
    if headers is not None and not isinstance(headers, Mapping):
        raise PublishError(address, f"headers={shorten(repr(headers))} are no mapping of names to values")
    pairs: list[tuple[str, SentHeader]] = []
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _is_utf8(name):
            raise PublishError(address, f"the name of a header is text, and {shorten(repr(name))} is none")
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is not None:
                pairs.append((name, _sent(item, name, address, typed)))
    return pairs


def _sent(value: object, name: str, address: str, typed: bool) -> SentHeader:
    if isinstance(value, bytes) or (typed and isinstance(value, _TYPED)):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, str):
        has_text = isinstance(value, (int, float)) or type(value).__str__ is not object.__str__
        if isinstance(value, type) or not has_text:
            raise PublishError(
                address,
                f"the header {shorten(name)} is a {type(value).__name__}; a header is text, bytes, a number or a time",
            )
        value = str(value)
    if not _is_utf8(value):
        raise PublishError(address, f"the header {shorten(name)} has characters that UTF-8 does not know; send bytes")
    return value


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return False
    return True


def text_name(name: bytes) -> str:
    """Return a header's name that came as bytes: as UTF-8, and what is none as `\\xff`.

    It never fails, and what it returns can be logged, and sent again.
    """
    return name.decode("utf-8", "backslashreplace")


def text_or_bytes(value: bytes) -> HeaderValue:
    """Decode a header value as UTF-8; what is not UTF-8 is kept as it came."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


class Headers(Mapping[str, HeaderValue]):
    """Immutable view of the headers, in the order of the wire.

    A look-up ignores case and gives the last value of a repeated name; `getlist` gives all. Values are
    `str`; a value that is not UTF-8 stays `bytes`. Values are decoded when somebody asks for them.
    """

    __slots__ = ("_index", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, HeaderValue | None]] = ()) -> None:
        self._pairs: Sequence[tuple[str, HeaderValue | None]] = (
            pairs if isinstance(pairs, (list, tuple)) else tuple(pairs)
        )
        self._index = {name.lower(): value for name, value in self._pairs if value is not None}

    @classmethod
    def of_bytes(cls, pairs: Iterable[tuple[str, bytes | None]]) -> Headers:
        """Make the headers of raw values; a null value is left out."""
        return cls(pairs)

    def __getitem__(self, name: str) -> HeaderValue:
        value = self._index[name.lower()]
        return value if isinstance(value, str) else text_or_bytes(value)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, value in self._pairs if value is not None))

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._index

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Mapping):
            return {name: self[name] for name in self._index} == {str(one).lower(): other[one] for one in other}
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.multi_items()))

    def __repr__(self) -> str:
        return f"Headers({self.multi_items()!r})"

    def getlist(self, name: str) -> list[HeaderValue]:
        """Return every value of `name`, in the order of the wire."""
        lower = name.lower()
        return [value for key, value in self.multi_items() if key.lower() == lower]

    def multi_items(self) -> list[tuple[str, HeaderValue]]:
        """Return all pairs, repeated names included; a null value is left out."""
        return [
            (name, value if isinstance(value, str) else text_or_bytes(value))
            for name, value in self._pairs
            if value is not None
        ]

    def value(self, name: str) -> HeaderValue | None:
        """Return the last value of a name in lower case, or None when there is none."""
        value = self._index.get(name)
        return text_or_bytes(value) if isinstance(value, bytes) else value

    def text(self, name: str) -> str | None:
        """Return the value of a name in lower case as text, or None when there is none or it is not text."""
        value = self._index.get(name)
        if isinstance(value, bytes):
            value = text_or_bytes(value)
        return value if isinstance(value, str) else None
