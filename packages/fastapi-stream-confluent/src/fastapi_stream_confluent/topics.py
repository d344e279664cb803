"""Topics: which exist, and making those that do not. Every call blocks: it belongs into a thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Event
from time import monotonic
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

__all__ = ("REFUSED", "all_topics", "await_topics", "create_topics", "partitions_of")

UNKNOWN = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
NOT_READY = (KafkaError.LEADER_NOT_AVAILABLE,)
REFUSED = (
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_PARTITIONS,
)
"""Errors that say that a topic can't be made."""
LOOK_SECONDS = 0.05


class Client(Protocol):
    """A consumer, a producer or an administrator of the client library."""

    def list_topics(self, topic: str | None = ..., timeout: float = ...) -> Any: ...


def all_topics(client: Client, timeout: float) -> set[str]:
    """Return the names of all topics, without Kafka's own."""
    found = client.list_topics(timeout=timeout).topics
    return {name for name, one in found.items() if one.error is None and not name.startswith("__")}


def partitions_of(client: Client, topic: str, timeout: float) -> list[int]:
    """Return the numbers of a topic's partitions; none when it does not exist or is being made.

    Raises:
        KafkaException: the broker does not answer, or does not allow it.
    """
    found = client.list_topics(topic, timeout=timeout).topics.get(topic)
    if found is None:
        return []
    if found.error is not None:
        if found.error.code() in UNKNOWN + NOT_READY:
            return []
        raise KafkaException(found.error)
    return sorted(found.partitions)


def create_topics(config: Mapping[str, Any], topics: Iterable[str], timeout: float) -> None:
    """Make topics with the broker's default number of partitions and replicas; one that exists stays as it is.

    Raises:
        KafkaException: the broker refused, or did not answer in time.
    """
    with AdminClient({**config, "log_level": 3}) as client:
        made = client.create_topics([NewTopic(topic) for topic in topics], request_timeout=timeout)
        for future in made.values():
            try:
                future.result(timeout)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise


def await_topics(client: Client, topics: Iterable[str], timeout: float) -> None:
    """Wait until topics that were just made have partitions with leaders, `timeout` seconds at most.

    Raises:
        KafkaException: the broker does not answer.
    """
    deadline, between = monotonic() + timeout, Event()
    waiting = set(topics)
    while waiting and monotonic() < deadline:
        found = client.list_topics(timeout=timeout).topics
        for topic in list(waiting):
            partitions = found[topic].partitions.values() if topic in found else ()
            if partitions and all(one.leader >= 0 for one in partitions):
                waiting.discard(topic)
        if waiting:
            between.wait(LOOK_SECONDS)
