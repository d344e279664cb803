"""Headers of a message: case-insensitive, a name may occur more than once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

__all__ = ("HeaderInput", "HeaderValue", "Headers", "header_pairs")

HeaderValue: TypeAlias = str | bytes
HeaderInput: TypeAlias = Mapping[str, object]


def header_pairs(headers: HeaderInput | None) -> list[tuple[str, HeaderValue]]:
    """Flatten what `publish(headers=...)` takes: a list is a repeated header, other values become text."""
    pairs: list[tuple[str, HeaderValue]] = []
    for name, value in (headers or {}).items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is not None:
                pairs.append((name, item if isinstance(item, (str, bytes)) else str(item)))
    return pairs


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
