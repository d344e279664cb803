"""No password is shown, whatever is wrong with the address that it stands in."""

import pytest
from fastapi_stream_confluent import KafkaBroker
from fastapi_stream_core.testing.conformance.secrets import ODD_ADDRESSES, assert_hidden


@pytest.mark.parametrize("odd", ODD_ADDRESSES)
async def test_no_odd_address_shows_its_password(odd: str, caplog: pytest.LogCaptureFixture) -> None:
    await assert_hidden(KafkaBroker, "kafka", caplog, odd)
