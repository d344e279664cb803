"""No password is shown, whatever is wrong with the address that it stands in."""

from typing import Any

import pytest
from fastapi_stream_core.testing.conformance.secrets import ODD_ADDRESSES, SECRET, assert_hidden
from fastapi_stream_kafka import KafkaBroker, SASLPlaintext, SASLScram256


@pytest.mark.parametrize("odd", ODD_ADDRESSES)
async def test_no_odd_address_shows_its_password(odd: str, caplog: pytest.LogCaptureFixture) -> None:
    await assert_hidden(KafkaBroker, "kafka", caplog, odd)


CREDENTIALS: list[dict[str, Any]] = [
    {"security": SASLPlaintext("ann", SECRET)},
    {"security": SASLScram256("ann", SECRET, use_ssl=True)},
]


@pytest.mark.parametrize("options", CREDENTIALS, ids=range(len(CREDENTIALS)))
async def test_no_option_shows_its_password(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    await assert_hidden(KafkaBroker, "kafka", caplog, "127.0.0.1:1", **options)
