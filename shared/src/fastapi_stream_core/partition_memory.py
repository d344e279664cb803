"""The memory's side of partitioned logs: topics, consumer groups, keys, offsets."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any
from zlib import crc32

from .memory import MemoryTransport
from .topic import wire_key

if TYPE_CHECKING:
    from .broker import Broker
    from .message import StreamMessage
    from .response import Outgoing
    from .subscription import Subscription

__all__ = ("PartitionMemory", "Record")


@dataclass(frozen=True)
class Record:
    """A published message at its place in the log.

    Attributes:
        topic: its topic.
        partition: number of the partition.
        offset: counted from 0 in each partition.
        timestamp_ms: milliseconds since 1970; the publisher's, or of now.
        key: bytes of the key; None for none.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None


class PartitionMemory(MemoryTransport):
    """Routes by topic and group, as a broker with partitioned logs does.

    Every subscription without a group gets a copy. A group gets one: its subscriptions share the partitions of the
    topic, so the same key always goes to the same one, and messages without a key take turns. A topic
    has one partition, or as many as its subscriptions ask for.
    """

    wire_key = staticmethod(wire_key)

    def __init__(self, broker: Broker, raise_errors: bool = True) -> None:
        super().__init__(broker, raise_errors)
        self._records: dict[int, Record] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._lock = Lock()

    # What a package says.

    @abstractmethod
    def takes(self, subscription: Subscription, topic: str) -> bool:
        """Tell whether a subscription reads a topic."""

    @abstractmethod
    def message_of(self, outgoing: Outgoing, record: Record, subscription: Subscription | None) -> StreamMessage:
        """Return a published message as `subscription` receives it; without one, as a test looks at it."""

    def group(self, subscription: Subscription) -> str | None:
        """Return the group whose members share the partitions; None for a subscription that gets everything."""
        group: str | None = subscription.options["group_id"]
        return group

    def assigned(self, subscription: Subscription, topic: str) -> Sequence[int] | None:
        """Return the partitions of a topic that a subscription names itself; None when it takes all."""
        return None

    def partition_of(self, key: bytes, count: int) -> int:
        """Return the partition of a key in a topic of `count` partitions."""
        return crc32(key) % count

    # The routing.

    def route(self, outgoing: Outgoing, subscriptions: Sequence[Subscription]) -> Iterable[Subscription]:
        topic = outgoing.address
        readers = [one for one in subscriptions if self.takes(one, topic)]
        groups: dict[str, list[Subscription]] = {}
        copies: list[Subscription] = []
        partitions = 1
        for one in readers:
            named = self.assigned(one, topic)
            group = self.group(one)
            if named is not None:
                partitions = max(partitions, *(number + 1 for number in named), 1)
                copies.append(one)
            elif group is None:
                copies.append(one)
            else:
                members = groups.setdefault(group, [])
                members.append(one)
                partitions = max(partitions, len(members))
        partition = self._place(outgoing, topic, partitions).partition
        chosen = {id(members[partition % len(members)]) for members in groups.values()}
        for one in copies:
            named = self.assigned(one, topic)
            if named is None or partition in named:
                chosen.add(id(one))
        return [one for one in readers if id(one) in chosen]

    def _place(self, outgoing: Outgoing, topic: str, count: int) -> Record:
        """Append a message to its partition."""
        key = self.wire_key(outgoing)
        partition = outgoing.options.get("partition")
        if partition is None:
            partition = self.turn(("partition", topic), range(count)) if key is None else self.partition_of(key, count)
        timestamp = outgoing.options.get("timestamp_ms")
        with self._lock:
            offset = self._ends.get((topic, partition), 0)
            self._ends[topic, partition] = offset + 1
        record = Record(topic, partition, offset, int(time.time() * 1000) if timestamp is None else timestamp, key)
        self._records[id(outgoing)] = record  # the log keeps it alive, so the id is its own
        return record

    def record(self, outgoing: Outgoing) -> Record:
        """Return the place of a message that was published."""
        return self._records[id(outgoing)]

    def message(self, outgoing: Outgoing, subscription: Subscription | None) -> StreamMessage:
        return self.message_of(outgoing, self.record(outgoing), subscription)

    def receipt(self, outgoing: Outgoing) -> Any:
        return self.record(outgoing)
