"""Topics: which exist, and making those that do not. Every call blocks: it belongs into a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import NewTopic

__all__ = ("REFUSED", "await_topics", "create_topics", "partitions_of", "persist")

MISSING = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.LEADER_NOT_AVAILABLE)
REFUSED = (
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_PARTITIONS,
)
"""Errors that say that a topic can't be made."""
PASSING = (
    *MISSING,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._WAIT_COORD,
    KafkaError._TRANSPORT,
)
"""Errors of a cluster that is about to move or to make a partition."""
LOOK_SECONDS = 0.05


T = TypeVar("T")


class Client(Protocol):
    """A consumer, a producer or an administrator of the client library."""

    def list_topics(self, topic: str | None = ..., timeout: float = ...) -> Any: ...


def persist(ask: Callable[[], T], timeout: float) -> T:
    """Return the broker's answer; ask again for `timeout` seconds while it is one that passes.

    Raises:
        KafkaException: the last answer.
    """
    deadline = monotonic() + timeout
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in PASSING or monotonic() > deadline:
                raise
        sleep(LOOK_SECONDS)


def partitions_of(client: Client, topics: Iterable[str] | None, timeout: float) -> dict[str, list[int]]:
    """Return the numbers of the partitions of topics that exist; of all but Kafka's own without `topics`.

    Raises:
        KafkaException: the broker does not answer, or does not allow it.
    """
    found: dict[str, Any] = {}
    if topics is None:
        found.update(client.list_topics(timeout=timeout).topics)
        return {name: sorted(one.partitions) for name, one in found.items() if one.error is None and name[:2] != "__"}
    for topic in topics:
        found.update(client.list_topics(topic, timeout=timeout).topics)
    for one in found.values():
        if one.error is not None and one.error.code() not in MISSING:
            raise KafkaException(one.error)
    return {name: sorted(one.partitions) for name, one in found.items() if one.error is None}


def create_topics(config: Mapping[str, Any], topics: Iterable[str], timeout: float) -> None:
    """Make topics with the broker's default number of partitions and replicas; one that exists stays as it is.

    Raises:
        KafkaException: the broker refused, or did not answer in time.
    """
    from confluent_kafka.admin import AdminClient  # half of the import time of the client, and rarely needed

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
    deadline = monotonic() + timeout
    waiting = set(topics)
    while waiting and monotonic() < deadline:
        found = client.list_topics(timeout=timeout).topics
        for topic in list(waiting):
            partitions = found[topic].partitions.values() if topic in found else ()
            if partitions and all(one.leader >= 0 for one in partitions):
                waiting.discard(topic)
        if waiting:
            sleep(LOOK_SECONDS)
