"""Which errors of the client say that the cluster is away, and which that it does not take a message."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from fastapi_stream_confluent import KafkaBroker, TestKafkaBroker
from fastapi_stream_confluent.producer import is_away
from fastapi_stream_confluent.transport import KafkaTransport
from fastapi_stream_core.dispatch import Dispatcher
from fastapi_stream_core.errors import SetupError

AWAY = (
    "_MSG_TIMED_OUT",
    "_TIMED_OUT",
    "_TRANSPORT",
    "_ALL_BROKERS_DOWN",
    "_RESOLVE",
    "_QUEUE_FULL",
    "_PURGE_QUEUE",
    "_PURGE_INFLIGHT",
    "REQUEST_TIMED_OUT",
    "NETWORK_EXCEPTION",
    "LEADER_NOT_AVAILABLE",
    "NOT_LEADER_FOR_PARTITION",
    "NOT_ENOUGH_REPLICAS",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    "KAFKA_STORAGE_ERROR",
    "_FATAL",
    "_FENCED",
    "OUT_OF_ORDER_SEQUENCE_NUMBER",
    "UNKNOWN_PRODUCER_ID",
    "INVALID_PRODUCER_EPOCH",
    "INVALID_PRODUCER_ID_MAPPING",
    "PRODUCER_FENCED",
)
FAULTS = (
    "MSG_SIZE_TOO_LARGE",
    "TOPIC_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
    "TOPIC_EXCEPTION",
    "UNKNOWN_TOPIC_OR_PART",
    "_UNKNOWN_TOPIC",
    "_UNKNOWN_PARTITION",
    "_INVALID_ARG",
    "INVALID_RECORD",
    "INVALID_TIMESTAMP",
    "POLICY_VIOLATION",
)


@pytest.mark.parametrize("name", AWAY)
def test_any_message_would_have_met_it(name: str) -> None:
    assert is_away(KafkaError(getattr(KafkaError, name)))


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_about_the_message(name: str) -> None:
    assert not is_away(KafkaError(getattr(KafkaError, name)))


def test_a_producer_that_is_broken_is_made_anew_and_no_message_is_to_blame() -> None:
    assert is_away(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "out of order", fatal=True))
    assert not is_away(KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, "forbidden", fatal=True))


@pytest.mark.parametrize(
    ("code", "is_late"),
    [
        ("ILLEGAL_GENERATION", True),
        ("REBALANCE_IN_PROGRESS", True),
        ("UNKNOWN_MEMBER_ID", True),
        ("_STATE", True),
        ("COORDINATOR_LOAD_IN_PROGRESS", False),
        ("_TIMED_OUT", False),
    ],
)
async def test_a_commit_after_the_group_went_on_is_late(code: str, is_late: bool) -> None:
    broker = KafkaBroker("127.0.0.1:9")
    subscription = broker.subscriber("orders", group_id="billing")

    @subscription
    async def handler(body: bytes) -> None: ...

    source: Any = KafkaTransport(broker).source(subscription)
    source.dispatcher = Dispatcher(subscription)
    source.commits._failed(KafkaException(KafkaError(getattr(KafkaError, code))))
    assert broker.report.counts.get("late", 0) == is_late


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no topic is given"),
        ({"topic": "orders", "header": {}}, "the option 'header' does not exist; use 'headers'"),
        ({"topic": "orders", "persist": True}, "the option 'persist' does not exist; choose from"),
    ],
)
async def test_what_publish_does_not_take_is_named(given: dict[str, Any], said: str) -> None:
    broker = KafkaBroker("127.0.0.1:9")
    async with TestKafkaBroker(broker):
        with pytest.raises(SetupError, match=said):
            await broker.publish(1, **given)
        if "topic" in given:
            with pytest.raises(SetupError, match=said):
                await broker.publisher("orders").publish(1, **given)
