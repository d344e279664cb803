"""One record of a topic with partitions."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from .codec import JSON
from .headers import MOST_HEADERS, Headers
from .message import UNSET, StreamMessage

if TYPE_CHECKING:
    from .partition import Offsets, Partition

__all__ = ("TopicMessage",)

Pairs = Iterable[tuple[str, "bytes | None"]]

OTHERS = 500
LONGEST = 64
"""Most names that are remembered, and most characters of one: senders choose them."""
_others: set[str] = set()
"""Names of headers, as they were spelled, that mean nothing to this module; so they are not looked at again."""


class TopicMessage(StreamMessage):
    """One record: what packages for clients of such a broker have in common. `lane` is its partition.

    A null value, a tombstone, has an empty `body` and decodes to None.

    Args:
        raw: the client's own object.
        value: its value.
        offset: its offset in the partition.
        lane: topic and number of the partition.
        offsets: those of the partition, where its acknowledgement is noted.
        redelivered: whether this process has fetched it before.

    Attributes:
        offset: as given.
        offsets: as given.
        pairs_of: called with the client's object, returns its headers, names and bytes; not for a message that waits.
    """

    __slots__ = ("_content_type", "_reply_to", "offset", "offsets")

    pairs_of: ClassVar[Any]
    lane: Partition
    _content_type: str | None

    def __init__(
        self,
        raw: Any,
        value: bytes | None,
        offset: int,
        lane: Partition,
        offsets: Offsets | None = None,
        redelivered: bool = False,
    ) -> None:
        # What `StreamMessage.__init__` does, without its call: this runs for every message.
        self.body = value or b""
        self.raw_message = raw
        self.address = lane[0]
        self.lane = lane
        self.redelivered = redelivered
        self.attempt = 1
        # A tombstone is no empty text, whatever its content type says.
        self._decoded = None if value is None else UNSET
        self._reply_to = UNSET
        self.background = self._source = self._verdict = None
        self._headers = self._path = self._correlation_id = None
        self.offset = offset
        self.offsets = offsets

    def renew(self, counts: bool = True) -> None:
        is_null = self._decoded is None and not self.body
        super().renew(counts)
        if is_null:
            self._decoded = None

    @property
    def content_type(self) -> str | None:
        if self._reply_to is not UNSET:
            return self._content_type
        content_type = reply_to = None
        pairs: Sequence[tuple[str, bytes | None]] = self.pairs_of(self.raw_message) or ()
        if len(pairs) > MOST_HEADERS:
            pairs = pairs[:MOST_HEADERS]
        for name, value in pairs:
            if name == "content-type":
                content_type = JSON if value == b"application/json" else _text(value, content_type)
            elif name not in _others:
                meant = name.lower()
                if meant == "content-type":
                    content_type = _text(value, content_type)
                elif meant == "reply_to":
                    reply_to = _text(value, reply_to)
                elif len(_others) < OTHERS and len(name) <= LONGEST:
                    _others.add(name)
        self._content_type, self._reply_to = content_type, reply_to
        return content_type

    @property
    def reply_to(self) -> str | None:
        if self._reply_to is UNSET:
            _ = self.content_type
        reply_to: str | None = self._reply_to
        return reply_to

    @property
    def partition(self) -> int:
        """Number of the partition it came from."""
        return self.lane[1]

    @property
    def pairs(self) -> Pairs:
        """The headers as they came: names and bytes, the first thousand."""
        return islice(self.pairs_of(self.raw_message) or (), MOST_HEADERS)

    def read_headers(self) -> Headers:
        return Headers.of_bytes(self.pairs)

    def read_correlation_id(self) -> str | None:
        # All headers would be put into an index for this one, of every message whose result is published.
        found = None
        for name, value in self.pairs:
            if len(name) == 14 and name.lower() == "correlation_id":
                found = _text(value, found)
        return found

    @property
    def size(self) -> int:
        """How many bytes the record holds: value, key and headers."""
        size = len(self.body) + len(self.key or b"")
        for name, value in self.pairs_of(self.raw_message) or ():
            size += len(name) + len(value or b"")
        return size

    @property
    def key(self) -> bytes | None:
        """The key."""
        return None

    @property
    def identity(self) -> Hashable:
        # A partition that was deleted and made again has other offsets: its first message is not that of before.
        return (self.lane, self.offset, id(self.offsets))

    @property
    def position(self) -> str:
        return f"partition {self.partition} offset {self.offset}"


def _text(value: bytes | None, before: str | None) -> str | None:
    """Return the text of a header, None when it is empty or no text; a null value is as if it were not there."""
    if value is None:
        return before
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        return None
