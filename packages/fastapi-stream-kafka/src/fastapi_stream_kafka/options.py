"""The options of Kafka, each declared once. Defaults are those of aiokafka 0.14 unless the text says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from aiokafka import TopicPartition
from aiokafka.abc import AbstractTokenProvider
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from fastapi_stream_core.options import Option
from fastapi_stream_core.quantity import Amount, Count, Name
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

    sasl_kerberos_service_name: Annotated[Name, Option("kafka", "service name for `SASLGSSAPI`")]
    sasl_kerberos_domain_name: Annotated[Name | None, Option(None, "domain name for `SASLGSSAPI`")]
    sasl_oauth_token_provider: Annotated[
        AbstractTokenProvider | None, Option(None, "gives the tokens for `SASLOAuthBearer`")
    ]


class KafkaBrokerOptions(ConnectionOptions, TopicProducerOptions, total=False):
    """Options of a broker: the connection's and the producer's."""

    max_batch_size: Annotated[
        Count,
        Option(131072, "bytes of one batch of a partition; with the client's 16384 a hundred messages are two batches"),
    ]
    partitioner: Annotated[
        Callable[..., int] | None,
        Option(
            None, "chooses the partition, called with key, all and available partitions; None is murmur2, as in Java"
        ),
    ]
    linger_ms: Annotated[Amount, Option(0, "milliseconds that a batch waits for more messages")]


class KafkaRouterOptions(KafkaBrokerOptions, RouterOptions, total=False):
    """Options of a router: the broker's and those of `APIRouter`."""


class KafkaSubscriberOptions(TopicSubscriberOptions, total=False):
    """Options of a subscriber."""

    partitions: Annotated[
        Sequence[TopicPartition], Option((), "the partitions to read, without sharing them with the group")
    ]
    client_rack: Annotated[Name | None, Option(None, "rack of the consumer, to read from the nearest replica")]
    max_poll_records: Annotated[
        Count | None, Option(None, "most messages that are taken from the client at a time; None is as many as fit")
    ]
    partition_assignment_strategy: Annotated[
        Sequence[type[AbstractPartitionAssignor]],
        Option((RoundRobinPartitionAssignor,), "how a group shares partitions, the best choice first"),
    ]
    rebalance_timeout_ms: Annotated[
        Count | None,
        Option(None, "milliseconds that a group waits for its members in a rebalance; None is `session_timeout_ms`"),
    ]
    consumer_timeout_ms: Annotated[
        Count, Option(200, "milliseconds between two looks of the client's background fetch")
    ]
    exclude_internal_topics: Annotated[bool, Option(True, "leave out the broker's own topics in a `pattern`")]


class KafkaPublisherOptions(TopicPublisherOptions, total=False):
    """Options of a publisher."""


def sent(options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the options that go to the client under the same names."""
    return {name: options[name] for name in names}
