"""Credentials on a real Kafka that asks for them, with aiokafka."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_kafka import BrokerUnavailable, KafkaRouter, SASLPlaintext, SASLScram256

from servers import IMAGES, Server, open_container

PASSWORD = "never-shown-7"


@pytest.fixture(scope="module")
def secured() -> Iterator[Server]:
    image = IMAGES["kafka"]
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    environment = image.environment | {
        "KAFKA_LISTENERS": "CLIENT://:9092,INTERNAL://:9094,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": "CLIENT://{host}:{port},INTERNAL://localhost:9094",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,CLIENT:SASL_PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INTERNAL",
        "KAFKA_SASL_ENABLED_MECHANISMS": "PLAIN",
        "KAFKA_LISTENER_NAME_CLIENT_PLAIN_SASL_JAAS_CONFIG": f'{plain} user_app="{PASSWORD}";',
    }
    # A server that asks for credentials still answers metadata only after them; that its port answers has to be enough.
    server = open_container(dataclasses.replace(image, environment=environment, probe=lambda connection: True))
    try:
        yield server
    finally:
        server.remove()


async def test_user_and_password(secured: Server) -> None:
    topic, seen = f"secured-{uuid4().hex[:8]}", Inbox()
    router = KafkaRouter(secured.url, security=SASLPlaintext("app", PASSWORD), startup_timeout=60.0)

    @router.subscriber(topic, group_id=topic)
    async def handler(msg: str) -> None:
        seen.put(msg)

    async with router.broker as broker:
        await broker.publish("hi", topic)
        assert await seen.take() == "hi"


@pytest.mark.parametrize(
    ("security", "reason"),
    [
        (SASLPlaintext("app", PASSWORD + "-wrong"), "Invalid username or password"),
        (SASLScram256("app", PASSWORD), "SCRAM-SHA-256"),
    ],
)
async def test_what_another_try_does_not_mend_is_said_at_once_and_never_shown(
    secured: Server, caplog: pytest.LogCaptureFixture, security: SASLPlaintext | SASLScram256, reason: str
) -> None:
    router = KafkaRouter(secured.url, security=security, startup_timeout=60.0)
    began = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(BrokerUnavailable) as caught:
        await router.broker.start()
    assert time.monotonic() - began < 20
    assert caught.value.seconds == 0
    assert reason in str(caught.value)
    assert secured.url in str(caught.value)
    assert PASSWORD not in str(caught.value) + caplog.text + repr(router.broker.options)
