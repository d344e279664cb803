"""Options of packages for brokers with topics, partitions and groups: what every client library of them knows.

Defaults are those of the clients unless the text says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Le
from typing_extensions import TypedDict

from .options import BrokerOptions, Option, PublisherOptions, SubscriberOptions
from .quantity import Amount, Count, Name

__all__ = (
    "TopicConnectionOptions",
    "TopicMessageOptions",
    "TopicProducerOptions",
    "TopicPublisherOptions",
    "TopicSubscriberOptions",
)

LAST_PARTITION = 2**31 - 1
LAST_TIMESTAMP_MS = 2**63 - 1
PartitionNumber: TypeAlias = Annotated[int, Ge(0), Le(LAST_PARTITION)]
TimestampMs: TypeAlias = Annotated[int, Ge(0), Le(LAST_TIMESTAMP_MS)]


class TopicConnectionOptions(BrokerOptions, total=False):
    """Options of every connection: the producer's, the consumers', that of the administration."""

    client_id: Annotated[Name, Option("fastapi-stream", "name of the client in the broker's logs and quotas")]
    request_timeout_ms: Annotated[Count, Option(40000, "milliseconds until a request counts as lost")]
    retry_backoff_ms: Annotated[Amount, Option(100, "milliseconds between two tries of a request")]
    metadata_max_age_ms: Annotated[
        Count,
        Option(300000, "milliseconds after which metadata is asked for again; at most 3000 for a `pattern`"),
    ]
    connections_max_idle_ms: Annotated[
        Count | None, Option(540000, "milliseconds after which an idle connection is closed; None for never")
    ]
    allow_auto_create_topics: Annotated[
        bool,
        Option(True, "make the topics of subscribers that do not exist, with the broker's default partitions"),
    ]


class TopicProducerOptions(TypedDict, total=False):
    """Options of the producer."""

    acks: Annotated[
        Literal[0, 1, -1, "all"],
        Option("all", "replicas that confirm a message; with 1 it is lost when its leader dies"),
    ]
    enable_idempotence: Annotated[
        bool | None,
        Option(None, "have the broker drop copies that a retry makes; None is yes with `acks='all'` (the clients: no)"),
    ]
    compression_type: Annotated[
        Literal["gzip", "snappy", "lz4", "zstd"] | None, Option(None, "compression of the messages; None for none")
    ]
    max_request_size: Annotated[Count, Option(1048576, "most bytes of one request, and so of one message")]


class TopicSubscriberOptions(SubscriberOptions, total=False):
    """Options of a subscriber."""

    group_id: Annotated[
        Name | None,
        Option(
            None,
            "the group that shares the messages and keeps the offsets; None gets every message, and after a restart"
            " begins at `auto_offset_reset`",
        ),
    ]
    auto_offset_reset: Annotated[
        Literal["latest", "earliest", "none"],
        Option("latest", "where to begin without a committed offset: at the end, at the beginning, or not at all"),
    ]
    batch: Annotated[bool, Option(False, "the handler takes a list of messages of one partition")]
    batch_timeout_ms: Annotated[
        Amount, Option(200, "milliseconds that a batch waits for more messages (FastStream's default)")
    ]
    max_records: Annotated[Count | None, Option(None, "most messages of one batch; None is 100")]
    pattern: Annotated[
        Name | None,
        Option(None, "regular expression of the topics; `{name}` is one segment of the name and a path parameter"),
    ]
    group_instance_id: Annotated[
        Name | None,
        Option(
            None,
            "name of a static member: it comes back within the session without a rebalance; each process needs its own,"
            " since of two with the same name the group knows only the last",
        ),
    ]
    fetch_max_wait_ms: Annotated[
        Amount, Option(500, "milliseconds that the broker waits for `fetch_min_bytes` before it answers")
    ]
    fetch_max_bytes: Annotated[Count, Option(52428800, "most bytes of one answer")]
    fetch_min_bytes: Annotated[Count, Option(1, "fewest bytes of one answer")]
    max_partition_fetch_bytes: Annotated[Count, Option(1048576, "most bytes of one answer for each partition")]
    check_crcs: Annotated[bool, Option(True, "check the checksums of the records")]
    max_poll_interval_ms: Annotated[
        Count,
        Option(300000, "milliseconds without polling until the group goes on alone; handlers of any length are fine"),
    ]
    session_timeout_ms: Annotated[
        Count, Option(10000, "milliseconds without a heartbeat until a member counts as dead (FastStream's default)")
    ]
    heartbeat_interval_ms: Annotated[Count, Option(3000, "milliseconds between two heartbeats")]
    isolation_level: Annotated[
        Literal["read_uncommitted", "read_committed"],
        Option("read_uncommitted", "whether messages of open and aborted transactions are read (FastStream's default)"),
    ]


class TopicPublisherOptions(PublisherOptions, total=False):
    """Options of a publisher."""

    key: Annotated[bytes | str | None, Option(None, "key of every message; that of a response or a call wins")]
    partition: Annotated[PartitionNumber | None, Option(None, "partition of every message; None lets the key decide")]


class TopicMessageOptions(TypedDict, total=False):
    """Options of one message."""

    key: Annotated[bytes | str | None, Option(None, "messages of one key go to one partition")]
    partition: Annotated[PartitionNumber | None, Option(None, "number of the partition; None lets the key decide")]
    timestamp_ms: Annotated[TimestampMs | None, Option(None, "milliseconds since 1970; None is now")]
