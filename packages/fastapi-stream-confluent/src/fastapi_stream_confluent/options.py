"""The options of Kafka, each declared once. Defaults are those of librdkafka unless the text says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from confluent_kafka import TopicPartition
from fastapi_stream_core.options import BrokerOptions, Option, PublisherOptions, SubscriberOptions
from fastapi_stream_core.router import RouterOptions

__all__ = ("KafkaBrokerOptions", "KafkaPublisherOptions", "KafkaRouterOptions", "KafkaSubscriberOptions")


class ConnectionOptions(BrokerOptions, total=False):
    """Options of every connection: the producer's, the consumers', that of the administration."""

    client_id: Annotated[str, Option("fastapi-stream", "name of the client in the broker's logs and quotas")]
    request_timeout_ms: Annotated[
        int, Option(40000, "milliseconds until a request counts as lost (that of Kafka's other clients)")
    ]
    retry_backoff_ms: Annotated[int, Option(100, "milliseconds between two tries of a request")]
    metadata_max_age_ms: Annotated[
        int,
        Option(300000, "milliseconds after which metadata is asked for again; at most 3000 for a `pattern`"),
    ]
    connections_max_idle_ms: Annotated[
        int | None, Option(540000, "milliseconds after which an idle connection is closed; None for never")
    ]
    allow_auto_create_topics: Annotated[
        bool,
        Option(True, "make the topics of subscribers that do not exist, with the broker's default partitions"),
    ]
    config: Annotated[
        Mapping[str, Any] | None,
        Option(
            None,
            "options of librdkafka by their own names, such as `ssl.ca.location` or `oauth_cb`; over all the others",
        ),
    ]


class KafkaBrokerOptions(ConnectionOptions, total=False):
    """Options of a broker: the connection's and the producer's."""

    acks: Annotated[Literal[0, 1, -1, "all"], Option("all", "replicas that confirm a message")]
    enable_idempotence: Annotated[
        bool | None,
        Option(None, "have the broker drop copies that a retry makes; None is yes with `acks='all'` (the client: no)"),
    ]
    compression_type: Annotated[
        Literal["gzip", "snappy", "lz4", "zstd"] | None, Option(None, "compression of the messages; None for none")
    ]
    max_batch_size: Annotated[int, Option(1000000, "bytes of one batch of a partition")]
    partitioner: Annotated[
        str, Option("consistent_random", "chooses the partition: the CRC32 of the key; without a key any")
    ]
    max_request_size: Annotated[int, Option(1048576, "most bytes of one request, and so of one message")]
    linger_ms: Annotated[
        float,
        Option(0, "milliseconds that a batch waits for more messages; the client's 5 would slow down each `publish()`"),
    ]


class KafkaRouterOptions(KafkaBrokerOptions, RouterOptions, total=False):
    """Options of a router: the broker's and those of `APIRouter`."""


class KafkaSubscriberOptions(SubscriberOptions, total=False):
    """Options of a subscriber."""

    group_id: Annotated[
        str | None,
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
        int, Option(200, "milliseconds that a batch waits for more messages (the peer's default)")
    ]
    max_records: Annotated[int | None, Option(None, "most messages of one batch; None is 100")]
    pattern: Annotated[
        str | None,
        Option(None, "regular expression of the topics; `{name}` is one segment of the name and a path parameter"),
    ]
    partitions: Annotated[
        Sequence[TopicPartition],
        Option((), "the partitions to read, without sharing them with the group; an `offset` in one is where to begin"),
    ]
    group_instance_id: Annotated[
        str | None, Option(None, "name of a static member: it comes back within the session without a rebalance")
    ]
    polling_interval: Annotated[
        float, Option(0.1, "seconds of one wait for messages; what else the consumer is asked to do waits that long")
    ]
    fetch_max_wait_ms: Annotated[
        int, Option(500, "milliseconds that the broker waits for `fetch_min_bytes` before it answers")
    ]
    fetch_max_bytes: Annotated[int, Option(52428800, "most bytes of one answer")]
    fetch_min_bytes: Annotated[int, Option(1, "fewest bytes of one answer")]
    max_partition_fetch_bytes: Annotated[int, Option(1048576, "most bytes of one answer for each partition")]
    check_crcs: Annotated[bool, Option(True, "check the checksums of the records (the client: no)")]
    partition_assignment_strategy: Annotated[
        Sequence[Literal["range", "roundrobin", "cooperative-sticky"]],
        Option(("roundrobin",), "how a group shares partitions, the best choice first (the peer's default)"),
    ]
    max_poll_interval_ms: Annotated[
        int,
        Option(300000, "milliseconds without polling until the group goes on alone; handlers of any length are fine"),
    ]
    session_timeout_ms: Annotated[
        int, Option(10000, "milliseconds without a heartbeat until a member counts as dead (the peer's default)")
    ]
    heartbeat_interval_ms: Annotated[int, Option(3000, "milliseconds between two heartbeats")]
    isolation_level: Annotated[
        Literal["read_uncommitted", "read_committed"],
        Option("read_uncommitted", "whether messages of open and aborted transactions are read (the peer's default)"),
    ]


class KafkaPublisherOptions(PublisherOptions, total=False):
    """Options of a publisher."""

    key: Annotated[bytes | str | None, Option(None, "key of every message; that of a `KafkaResponse` or a call wins")]
    partition: Annotated[int | None, Option(None, "partition of every message; None lets the key decide")]
