"""Options as librdkafka names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from fastapi_stream_core.errors import SetupError

from .security import security_config

if TYPE_CHECKING:
    from .broker import KafkaBroker
    from .subscription import KafkaSubscription

__all__ = (
    "ClientConfig",
    "check_consumer",
    "check_producer",
    "client_config",
    "consumer_config",
    "producer_config",
    "wrong_option",
)

UNKNOWN = "fastapi-stream.no-such-option"
"""The last option of a configuration that is only looked at."""
CLIENT = {
    "client_id": "client.id",
    "request_timeout_ms": "socket.timeout.ms",
    "retry_backoff_ms": "retry.backoff.ms",
    "metadata_max_age_ms": "topic.metadata.refresh.interval.ms",
    "connections_max_idle_ms": "connections.max.idle.ms",
}
PRODUCER = {
    "acks": "acks",
    "enable_idempotence": "enable.idempotence",
    "compression_type": "compression.type",
    "partitioner": "partitioner",
    "max_request_size": "message.max.bytes",
    "max_batch_size": "batch.size",
    "linger_ms": "linger.ms",
}
CONSUMER = {
    "group_instance_id": "group.instance.id",
    "client_rack": "client.rack",
    "session_timeout_ms": "session.timeout.ms",
    "heartbeat_interval_ms": "heartbeat.interval.ms",
    "max_poll_interval_ms": "max.poll.interval.ms",
    "isolation_level": "isolation.level",
    "check_crcs": "check.crcs",
    "fetch_max_wait_ms": "fetch.wait.max.ms",
    "fetch_min_bytes": "fetch.min.bytes",
    "fetch_max_bytes": "fetch.max.bytes",
    "max_partition_fetch_bytes": "max.partition.fetch.bytes",
}


CLASSIC = {
    "session_timeout_ms": "session.timeout.ms",
    "heartbeat_interval_ms": "heartbeat.interval.ms",
    "partition_assignment_strategy": "partition.assignment.strategy",
}
"""What the cluster decides in the group protocol "consumer": librdkafka refuses it there."""


class ClientConfig(dict[str, Any]):
    """What a user gave as `config=`; credentials may be among it, so only names are shown."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self))})"

    __str__ = __repr__


def client_config(address: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every client of a broker is made with.

    Args:
        address: the servers, separated by commas.
        options: those of the broker.

    Raises:
        SetupError: the security object is not supported.
    """
    return {
        "bootstrap.servers": address,
        # A broker that comes back is found within a second.
        "reconnect.backoff.max.ms": 1000,
        "socket.keepalive.enable": True,
        "socket.nagle.disable": True,
        "log.connection.close": False,
        **_named(CLIENT, options),
        **security_config(options["security"]),
        **(options["config"] or {}),
    }


def producer_config(broker: KafkaBroker) -> dict[str, Any]:
    """Return what the producer is made with."""
    options = broker.options
    timeout_ms = options["publish_timeout"] * 1000
    own: dict[str, Any] = {
        # librdkafka looks at its queue once a second: it gives up, and says for sure, before the caller does.
        "message.timeout.ms": max(1, int(max(timeout_ms - 1000, timeout_ms / 2))),
        # A topic that does not exist is the message's fault, and has to be told before its time is over.
        "topic.metadata.propagation.max.ms": max(1, int(min(5000, timeout_ms / 4))),
        **_named(PRODUCER, options),
    }
    if options["enable_idempotence"] is None:
        own["enable.idempotence"] = options["acks"] in ("all", -1)
    return {**broker._client_config, **own, **(options["config"] or {})}


def consumer_config(broker: KafkaBroker, subscription: KafkaSubscription, group: str) -> dict[str, Any]:
    """Return what a consumer is made with.

    Args:
        broker: whose connection it is.
        subscription: whose options apply.
        group: its group; for a subscription without one a name that nobody else has.
    """
    options: Mapping[str, Any] = subscription.options
    own: dict[str, Any] = {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",  # where to begin is decided here
        "partition.assignment.strategy": ",".join(options["partition_assignment_strategy"]),
        # librdkafka's 64 MB is for each partition, and a full queue would wait a second before it fetches again.
        "fetch.queue.backoff.ms": 10,
        **_named(CONSUMER, options),
        **_fetch_limits(options),
    }
    config: Mapping[str, Any] = broker.options["config"] or {}
    if config.get("group.protocol") == "consumer":
        own = {key: own[key] for key in own.keys() - {CLASSIC[name] for name in CLASSIC.keys() - subscription.given}}
    return {**broker._client_config, **own, **config}


def _fetch_limits(options: Mapping[str, Any]) -> dict[str, int]:
    """Return how much the client buffers: of each partition a sixteenth of `prefetch_bytes`, in answers of a quarter.

    librdkafka knows no limit for all partitions together; a batch that is larger comes whole all the same.
    """
    most: int = options["prefetch_bytes"]
    answer = max(min(options["fetch_max_bytes"], most // 4), 1000)
    return {
        "queued.max.messages.kbytes": max(1, most // 16 // 1024),
        "max.partition.fetch.bytes": max(1, min(options["max_partition_fetch_bytes"], most // 16)),
        "fetch.max.bytes": answer,
        "message.max.bytes": min(1000000, answer),  # librdkafka wants it to fit into an answer
    }


def check_producer(config: Mapping[str, Any], subject: str) -> None:
    """Have librdkafka look at options, and make no client.

    Raises:
        SetupError: it does not know one of them, or does not take a value.
    """
    _check(Producer, config, subject)


def check_consumer(options: Mapping[str, Any], subject: str) -> None:
    """Have librdkafka look at the options of a subscriber, and make no client.

    Raises:
        SetupError: it does not take one of the values.
    """
    _check(Consumer, {"group.id": "any", **_named(CONSUMER, options)}, subject)


def _check(kind: Any, config: Mapping[str, Any], subject: str) -> None:
    try:
        kind({**config, UNKNOWN: ""})  # it takes them one after another, and stops before a client is made
    except (KafkaException, ValueError, TypeError) as error:
        if UNKNOWN not in str(error):
            raise wrong_option(subject, error) from None


def _named(names: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: options[name] for name, key in names.items() if options[name] is not None}


def wrong_option(subject: str, error: Exception) -> Exception:
    """Return what to raise for a client that could not be made: its options are wrong, or something else is."""
    said: Any = error.args[0] if error.args else error
    if isinstance(said, KafkaError) and said.code() != KafkaError._INVALID_ARG:
        return error
    text = said.str() if isinstance(said, KafkaError) else str(said)
    return SetupError(subject, f"librdkafka refuses its options ({text.rstrip('.')})", "correct the option or config=")
