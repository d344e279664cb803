"""Addresses of a cluster: what no server can have is refused where it is given."""

import pytest
from fastapi_stream_core import SetupError
from fastapi_stream_core.topic_servers import servers_of


@pytest.mark.parametrize("given", ["x..y:9092", ".x", "a" * 64, f"{'a' * 64}.example:9092", "good:9092,x..y"])
def test_names_that_no_host_can_have(given: str) -> None:
    with pytest.raises(SetupError, match="is no 'host:port'"):
        servers_of(given, "Kafka")


@pytest.mark.parametrize(
    "host", ["localhost", "kafka_1", "kafka.example.", "127.0.0.1", "[::1]", "a" * 63, "bücher.example"]
)
def test_names_that_a_host_may_have(host: str) -> None:
    assert servers_of(host, "Kafka") == [f"{host}:9092"]
