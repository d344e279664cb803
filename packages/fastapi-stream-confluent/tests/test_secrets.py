"""No password is shown, whatever is wrong with the address that it stands in."""

from typing import Any

import pytest
from fastapi_stream_confluent import KafkaBroker, SASLPlaintext, SASLScram256
from fastapi_stream_core.testing.conformance.secrets import ODD_ADDRESSES, SECRET, assert_hidden


@pytest.mark.parametrize("odd", ODD_ADDRESSES)
async def test_no_odd_address_shows_its_password(odd: str, caplog: pytest.LogCaptureFixture) -> None:
    await assert_hidden(KafkaBroker, "kafka", caplog, odd)


CREDENTIALS: list[dict[str, Any]] = [
    {"security": SASLPlaintext("ann", SECRET)},
    {"security": SASLScram256("ann", SECRET, use_ssl=True)},
    {"config": {"sasl.mechanism": "PLAIN", "sasl.username": "ann", "sasl.password": SECRET}},
    {"config": {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.password": SECRET}},
    {"config": {"ssl.key.password": SECRET, "no.such.option": SECRET}},
    {"config": {"ssl.key.password": SECRET, "acks": SECRET}},
    {"config": {"sasl.password": SECRET}, "acks": 1, "enable_idempotence": True},
]


@pytest.mark.parametrize("options", CREDENTIALS, ids=range(len(CREDENTIALS)))
async def test_no_option_shows_its_password(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    await assert_hidden(KafkaBroker, "kafka", caplog, "127.0.0.1:1", **options)
