"""An argument that can't be is refused where it is given, and named."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi_stream_nats import JStream, NatsBroker, NatsCredentials, NatsNKey, NatsRouter, NatsToken, SetupError

WRONG: list[Any] = [3, b"x", ["x"], {"x": 1}, object(), True, 1.5, None]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: repr(one).partition(" at 0x")[0])
@pytest.mark.parametrize(
    ("name", "declare"),
    [
        ("servers", NatsBroker),
        ("servers", lambda wrong: NatsBroker([wrong])),
        ("servers", NatsRouter),
        ("servers", lambda wrong: NatsRouter([wrong])),
        ("subject", lambda wrong: NatsBroker().subscriber(wrong)),
        ("subject", lambda wrong: NatsBroker().publisher(wrong)),
        ("queue", lambda wrong: NatsBroker().subscriber("s", wrong)),
        ("queue", lambda wrong: NatsRouter().subscriber("s", wrong, stream="orders")),
        ("stream", lambda wrong: NatsBroker().subscriber("s", stream=wrong)),
        ("stream", lambda wrong: NatsBroker().publisher("s", stream=wrong)),
        ("token", NatsToken),
        ("path", NatsCredentials),
        ("seed_file", NatsNKey),
    ],
)
def test_an_argument_of_another_type_is_named(name: str, declare: Any, wrong: Any) -> None:
    if (name == "stream" and wrong is None) or (name == "servers" and wrong == ["x"]):
        return
    with pytest.raises(SetupError, match=rf"\b{name}="):
        declare(wrong)


@pytest.mark.parametrize("text", ["a b", "a\nb", "a\x00b"])
def test_a_host_is_one_word(text: str) -> None:
    with pytest.raises(SetupError, match="no address"):
        NatsBroker(f"nats://{text}:4222")


@pytest.mark.parametrize("name", ["\ud800", "a\x00b", "a\x0bb"])
def test_names_that_the_server_cannot_read_are_refused(name: str) -> None:
    with pytest.raises(SetupError):
        NatsBroker().subscriber("s", stream="orders", durable=name)
    with pytest.raises(SetupError):
        JStream(name)


@pytest.mark.parametrize("address", ["nats://h?tls=1", "tls://h:4222/foo", "h/foo?tls_required=true", "nats://h#x"])
def test_nothing_of_an_address_is_ignored(address: str) -> None:
    with pytest.raises(SetupError, match="more than host and port"):
        NatsBroker(address)
    NatsBroker("nats://h:4222/")
    NatsBroker("ws://h/path?x=1")
