"""Headers of a message: case-insensitive, a name may occur more than once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    `str`; a value that is not UTF-8 stays `bytes`.
    """

    __slots__ = ("_index", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, HeaderValue]] = ()) -> None:
        self._pairs = pairs if isinstance(pairs, (list, tuple)) else tuple(pairs)
        self._index: dict[str, HeaderValue] | None = None

    @classmethod
    def of_bytes(cls, pairs: Iterable[tuple[str, bytes | None]]) -> Headers:
        """Build from raw values; a null value is left out."""
        return cls([(name, text_or_bytes(value)) for name, value in pairs if value is not None])

    def _lower(self) -> dict[str, HeaderValue]:
        if self._index is None:
            self._index = {name.lower(): value for name, value in self._pairs}
        return self._index

    def __getitem__(self, name: str) -> HeaderValue:
        return self._lower()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._pairs))

    def __len__(self) -> int:
        return len(self._lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lower()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Mapping):
            return self._lower() == {str(name).lower(): value for name, value in other.items()}
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._pairs))

    def __repr__(self) -> str:
        return f"Headers({list(self._pairs)!r})"

    def getlist(self, name: str) -> list[HeaderValue]:
        """Return every value of `name`, in the order of the wire."""
        lower = name.lower()
        return [value for key, value in self._pairs if key.lower() == lower]

    def multi_items(self) -> list[tuple[str, HeaderValue]]:
        """Return all pairs, repeated names included."""
        return list(self._pairs)

    def text(self, name: str) -> str | None:
        """Return the value as text, or None when there is none or it is not text."""
        value = self._lower().get(name)
        return value if isinstance(value, str) else None
