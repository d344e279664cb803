"""The options of Kafka, each declared once. Defaults are those of librdkafka unless the text says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge
from confluent_kafka import TopicPartition
from fastapi_stream_core.options import Option
from fastapi_stream_core.quantity import Count, Name, Seconds
from fastapi_stream_core.router import RouterOptions
from fastapi_stream_core.topic_options import (
    TopicConnectionOptions,
    TopicProducerOptions,
    TopicPublisherOptions,
    TopicSubscriberOptions,
)

__all__ = ("KafkaBrokerOptions", "KafkaPublisherOptions", "KafkaRouterOptions", "KafkaSubscriberOptions")


class ConnectionOptions(TopicConnectionOptions, total=False):
    """Options of every connection: the producer's, the consumers', that of the administration."""

    config: Annotated[
        Mapping[str, Any] | None,
        Option(
            None,
            "options of librdkafka by their own names, such as `ssl.ca.location` or `oauth_cb`; over all the others",
            secret=True,
        ),
    ]


class KafkaBrokerOptions(ConnectionOptions, TopicProducerOptions, total=False):
    """Options of a broker: the connection's and the producer's."""

    max_batch_size: Annotated[Count, Option(1000000, "bytes of one batch of a partition")]
    partitioner: Annotated[
        Literal[
            "random",
            "consistent",
            "consistent_random",
            "murmur2",
            "murmur2_random",
            "fnv1a",
            "fnv1a_random",
        ],
        Option("consistent_random", "chooses the partition: the CRC32 of the key; without a key any"),
    ]
    linger_ms: Annotated[
        Annotated[float, Ge(0)],
        Option(0, "milliseconds that a batch waits for more messages; the client's 5 would slow down each `publish()`"),
    ]


class KafkaRouterOptions(KafkaBrokerOptions, RouterOptions, total=False):
    """Options of a router: the broker's and those of `APIRouter`."""


class KafkaSubscriberOptions(TopicSubscriberOptions, total=False):
    """Options of a subscriber."""

    partitions: Annotated[
        Sequence[TopicPartition],
        Option((), "the partitions to read, without sharing them with the group; an `offset` in one is where to begin"),
    ]
    client_rack: Annotated[Name | None, Option(None, "rack of the consumer, to read from the nearest replica")]
    polling_interval: Annotated[
        Seconds, Option(0.1, "seconds of one wait for messages; what else the consumer is asked to do waits that long")
    ]
    partition_assignment_strategy: Annotated[
        Sequence[Literal["range", "roundrobin", "cooperative-sticky"]],
        Option(("roundrobin",), "how a group shares partitions, the best choice first (FastStream's default)"),
    ]


class KafkaPublisherOptions(TopicPublisherOptions, total=False):
    """Options of a publisher."""
