"""A keyword that does not exist, of any object that a user describes something with: the error names what was meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import fastapi_stream_confluent as confluent
import fastapi_stream_kafka as kafka
import fastapi_stream_nats as nats
import fastapi_stream_rabbit as rabbit
import fastapi_stream_redis as redis
import pytest
from fastapi_stream_core import Response, SetupError
from fastapi_stream_core.policy import Retry

MISSPELT: list[tuple[Callable[..., Any], tuple[Any, ...], str, str]] = [
    (rabbit.RabbitQueue, ("q",), "durble", "durable"),
    (rabbit.RabbitExchange, ("e",), "tpye", "type"),
    (rabbit.Channel, (), "prefetch", "prefetch_count"),
    (rabbit.RabbitResponse, (1,), "header", "headers"),
    (nats.JStream, ("s",), "subject", "subjects"),
    (nats.PullSub, (), "batchsize", "batch_size"),
    (nats.NatsResponse, (1,), "straem", "stream"),
    (nats.NatsResponse, (1,), "header", "headers"),
    (redis.PubSub, ("c",), "patern", "pattern"),
    (redis.ListSub, ("l",), "bacth", "batch"),
    (redis.StreamSub, ("s",), "gruop", "group"),
    (redis.RedisResponse, (1,), "correlationid", "correlation_id"),
    (kafka.KafkaResponse, (1,), "partiton", "partition"),
    (kafka.KafkaResponse, (1,), "header", "headers"),
    (confluent.KafkaResponse, (1,), "timestamp", "timestamp_ms"),
    (Response, (1,), "content", "content_type"),
    (Retry, (), "attempt", "attempts"),
    (kafka.BaseSecurity, (), "usessl", "use_ssl"),
    (kafka.SASLPlaintext, ("u",), "pasword", "password"),
    (kafka.SASLScram256, ("u",), "pasword", "password"),
]


@pytest.mark.parametrize(("make", "given", "name", "meant"), MISSPELT)
def test_the_closest_keyword_is_named(make: Any, given: tuple[Any, ...], name: str, meant: str) -> None:
    with pytest.raises(SetupError) as caught:
        make(*given, **{name: "sesame"})
    assert caught.value.subject == make.__name__
    assert f"the option {name!r} does not exist; use {meant!r}" in str(caught.value)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(("make", "given", "name", "meant"), MISSPELT)
def test_what_looks_like_nothing_else_gets_the_choices(
    make: Any, given: tuple[Any, ...], name: str, meant: str
) -> None:
    with pytest.raises(SetupError, match=f"choose from .*{meant}"):
        make(*given, zzzzzzzz=1)


@pytest.mark.parametrize("package", [kafka, confluent])
def test_a_publisher_without_a_topic(package: Any) -> None:
    for declaring in (package.KafkaBroker("127.0.0.1:9"), package.KafkaRouter("127.0.0.1:9")):
        with pytest.raises(SetupError, match="'' is no name of a topic"):
            declaring.publisher()


def test_what_is_given_right_is_taken() -> None:
    queue = rabbit.RabbitQueue("q", durable=False, routing_key="a.{b}")
    assert dataclasses.replace(queue, durable=True).durable
    assert kafka.KafkaResponse(1, key=None, partition=3, headers={"a": "b"}).options == {"partition": 3}
    assert nats.NatsResponse(1, stream="s").options == {"stream": "s"}
    assert kafka.SASLScram256("u", "p", use_ssl=True).username == "u"
