"""Reading what a sender chose of a record, safely."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from gc import get_referents
from itertools import groupby
from operator import itemgetter
from typing import Any

from confluent_kafka import Message
from fastapi_stream_core.partition import Partition

__all__ = ("bytes_of", "lanes_of", "read_headers", "runs_of")


def read_headers(records: Sequence[Message]) -> None:
    """Have the client read the headers of records that nobody has seen yet; it keeps them, so that this is once.

    With a name that is not UTF-8 its first `Message.headers()` returns a list and leaves an error behind, which Python
    finds at once or, where it has specialized the call, somewhere later. The second one returns the list again, with a
    pair that has no name, and the process ends when somebody looks at that. Such a header is left out; others stay.
    """
    try:
        list(map(Message.headers, records))  # `map` looks for the error; a call in a loop may not
    except (SystemError, UnicodeDecodeError):
        for record in records:
            _repair(record)


def _repair(record: Message) -> None:
    try:
        (pairs,) = map(Message.headers, (record,))
    except (SystemError, UnicodeDecodeError):
        (pairs,) = map(Message.headers, (record,))
    # Of a pair without a name nothing but its value may be touched, and only the collector knows how.
    if pairs and any(len(get_referents(pair)) != 2 for pair in pairs):
        whole: Any = [pair for pair in pairs if len(get_referents(pair)) == 2]
        record.set_headers(whole)


def bytes_of(records: Sequence[Message]) -> int:
    """Return how many bytes records hold: values, keys and headers."""
    read_headers(records)
    size = 0
    for record in records:
        size += len(record.value() or b"") + len(record.key() or b"")
        pairs: Any = record.headers() or ()
        size += sum(len(name) + len(value or b"") for name, value in pairs)
    return size


def lanes_of(records: Sequence[Message]) -> set[Partition]:
    """Return the partitions that records are of."""
    lanes: Any = set(zip(map(Message.topic, records), map(Message.partition, records), strict=True))
    return {lane for lane in lanes if lane[0] is not None}


def runs_of(messages: list[Message]) -> Iterable[tuple[Partition, list[Message]]]:
    """Return the messages in their order, divided where the partition changes; mostly there is nothing to divide."""
    topics: Any = list(map(Message.topic, messages))
    numbers: Any = list(map(Message.partition, messages))
    if not messages or topics.count(topics[0]) == numbers.count(numbers[0]) == len(messages):
        return [((topics[0], numbers[0]), messages)] if messages else []
    lanes = groupby(zip(topics, numbers, messages, strict=True), itemgetter(0, 1))
    return [(lane, [one[2] for one in run]) for lane, run in lanes]
