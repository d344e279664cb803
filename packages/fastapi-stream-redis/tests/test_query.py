"""What the query of a URL says, and that all of it has an effect."""

from __future__ import annotations

import pytest
from fastapi_stream_redis import RedisBroker, RedisRouter, SetupError
from fastapi_stream_redis.connection import Settings


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("protocol=3", "protocol has no effect .* RESP2"),
        ("max_connections=5", "max_connections has no effect .* no pool"),
        ("timeout=5", "timeout has no effect .* socket_timeout"),
        ("decode_responses=true", "decode_responses has no effect .* content type"),
        ("legacy_responses=x", "legacy_responses has no effect"),
        ("health_check_interval=30", "health_check_interval has no effect .* socket_timeout"),
        ("encoding=latin-1", "encoding has no effect .* UTF-8"),
        ("encoding_errors=ignore", "encoding_errors has no effect"),
        ("host=1.2.3.4", "host has no effect .* host="),
        ("port=1", "port has no effect .* port="),
        ("retry_on_error=1", "retry_on_error has no effect"),
        ("socket_type=1", "'socket_type' does not exist"),
        ("retry=1", "'retry' does not exist"),
        ("nonsense=1", "'nonsense' does not exist"),
        ("db=1&db=2", "'db' is twice"),
        ("client_name=", "'client_name' has no value"),
    ],
)
def test_what_has_no_effect_in_a_url_is_said(query: str, said: str) -> None:
    for url in ("redis://h", "rediss://h", "unix:///s"):
        with pytest.raises(SetupError, match=said):
            RedisBroker(f"{url}?{query}")
    with pytest.raises(SetupError, match=said):
        RedisRouter(f"h?client_name=a&{query}" if not query.startswith("client") else f"h?{query}")


def test_a_url_and_an_option_say_the_same() -> None:
    with pytest.raises(SetupError, match="socket_timeout is in the query of the URL, and an option too"):
        RedisBroker("redis://h?socket_timeout=1", socket_timeout=1)
    with pytest.raises(SetupError, match="a database by its path and by its query"):
        RedisBroker("redis://h/1?db=3")


def test_what_a_url_says_applies() -> None:
    query = "socket_timeout=0.5&socket_connect_timeout=2&socket_read_size=1000&socket_keepalive=no&client_name=c&db=3"
    settings = Settings.of(RedisBroker(f"redis://h?{query}&retry_on_timeout=true&lib_name=x"))
    assert (settings.answer_seconds, settings.connect_seconds) == (0.5, 2)
    known = settings.arguments
    assert (known["socket_read_size"], known["socket_keepalive"], known["client_name"], known["db"]) == (
        1000,
        False,
        "c",
        3,
    )
    for wrong in ("socket_timeout=0", "socket_connect_timeout=-1", "socket_timeout=nan", "socket_read_size=0"):
        with pytest.raises(SetupError, match=r"in the query of the URL; give a number above 0"):
            Settings.of(RedisBroker(f"redis://h?{wrong}"))
