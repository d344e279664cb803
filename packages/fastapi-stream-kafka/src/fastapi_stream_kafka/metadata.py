"""What a cluster says of topics, with their ids, and without making any: the client's own question may make them."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v4, MetadataRequest_v5
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

__all__ = ("TopicState", "TopicsRequest", "states_of")

EXISTS = {0, 5}
"""Error codes of a topic that there is: none, and a leader that is not elected yet."""


class TopicState(NamedTuple):
    """One topic that there is.

    Attributes:
        identity: its id; None from a cluster older than Kafka 2.8.
        partitions: their numbers, ascending.
        is_internal: whether it belongs to the cluster itself.
        has_leaders: whether every partition can be read and written.
    """

    identity: str | None
    partitions: tuple[int, ...]
    is_internal: bool
    has_leaders: bool


class _Id(AbstractType[bytes]):
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: Any) -> bytes:
        found: bytes = data.read(16)
        return found

    @classmethod
    def repr(cls, value: bytes) -> str:
        return value.hex()


NO_ID = bytes(16)


class _Response10(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", _Id),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Request10(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _Response10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Id), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicsRequest(Request[MetadataRequest_v4 | MetadataRequest_v5 | _Request10]):
    """Asks for topics, and makes none.

    Args:
        topics: their names; None for all.
    """

    API_KEY = 3

    def __init__(self, topics: list[str] | None) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class is _Request10:
            named: Any = None if self._topics is None else [(NO_ID, name, {}) for name in self._topics]
            return _Request10(named, False, False, False, {})
        return request_struct_class(self._topics, False)


def states_of(response: Any) -> dict[str, TopicState]:
    """Return the topics that there are."""
    return {
        one["topic"]: TopicState(
            one["topic_id"].hex() if one.get("topic_id", NO_ID) != NO_ID else None,
            tuple(sorted(part["partition"] for part in one["partitions"])),
            one["is_internal"],
            bool(one["partitions"]) and all(part["leader"] >= 0 for part in one["partitions"]),
        )
        for one in response.to_object()["topics"]
        if one["error_code"] in EXISTS and one["topic"] is not None
    }
