"""What may be declared, what fails at once and with which words, and what the document says."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from fastapi_stream_core.security import SASLScram256
from fastapi_stream_redis import (
    AckPolicy,
    BaseSecurity,
    ListSub,
    PubSub,
    RedisBroker,
    RedisChannelMessage,
    RedisListMessage,
    RedisMessage,
    RedisResponse,
    RedisRouter,
    RedisStreamMessage,
    SASLPlaintext,
    SetupError,
    StreamSub,
)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({}, "no channel, list or stream"),
        ({"channel": ""}, "no channel, list or stream"),
        ({"channel": "a", "list": "b"}, "channel and list"),
        ({"list": "a", "stream": "b"}, "list and stream"),
    ],
)
def test_exactly_one_place(place: dict[str, str], words: str) -> None:
    router = RedisRouter()
    with pytest.raises(SetupError, match=words):
        router.subscriber(**place)  # type: ignore[arg-type]
    with pytest.raises(SetupError, match=words):
        router.publisher(**place)  # type: ignore[arg-type]


async def test_publish_wants_exactly_one_place() -> None:
    with pytest.raises(SetupError, match="list and stream"):
        await RedisBroker().publish("a", list="a", stream="b")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PubSub(""),
        lambda: PubSub("a.{x}.{x}"),
        lambda: PubSub("a.{not a name}"),
        lambda: ListSub(""),
        lambda: ListSub("a", max_records=0),
        lambda: StreamSub(""),
        lambda: StreamSub("a", group="g", claim_min_idle_time=None),
        lambda: StreamSub("a", consumer="c"),
        lambda: StreamSub("a", last_id="x"),
        lambda: StreamSub("a", maxlen=0),
        lambda: StreamSub("a", group="g", consumer="c", claim_min_idle_time=-1),
        lambda: RedisBroker("http://localhost"),
        lambda: RedisBroker(message_format="xml"),  # type: ignore[arg-type]
        lambda: RedisBroker(security=SASLScram256("user", "secret")),
        lambda: RedisBroker(hots="localhost"),  # type: ignore[call-arg]
        lambda: RedisRouter().subscriber("a", max_worker=1),  # type: ignore[call-arg]
        lambda: RedisRouter().publisher("a", max_len=1),  # type: ignore[call-arg]
        lambda: RedisRouter().subscriber("a", max_workers=0),
    ],
)
def test_a_wrong_declaration(wrong: Any) -> None:
    with pytest.raises(SetupError) as caught:
        wrong()
    assert "secret" not in str(caught.value)


def test_an_option_that_is_nearly_right_is_named() -> None:
    with pytest.raises(SetupError, match="'client_name'"):
        RedisBroker(clientname="x")  # type: ignore[call-arg]


@pytest.mark.parametrize("place", [{"channel": "users.{uid}"}, {"channel": PubSub("{uid}")}])
def test_a_publisher_has_one_channel(place: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match=r"\{uid\} is a parameter, and a publisher sends to one address"):
        RedisRouter().publisher(**place)
    for key in ({"list": "{users}.new"}, {"stream": "{users}.new"}):  # which a cluster reads so
        assert RedisRouter().publisher(**key).address == "{users}.new"  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [{"channel": "a"}, {"list": "a"}, {"stream": "a"}])
def test_batch_is_an_option_of_the_place(place: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match=r"ListSub\(..., batch=True\) or stream=StreamSub\(..., batch=True\)"):
        RedisRouter().subscriber(**place, batch=True)


@pytest.mark.parametrize(
    ("url", "options", "address"),
    [
        ("redis://localhost:6379", {}, "redis://localhost:6379"),
        ("localhost", {}, "redis://localhost:6379"),
        ("redis://user:secret@host/2?client_name=x", {}, "redis://host:6379/2"),
        ("redis://:secret@host", {"port": 7, "host": "other", "db": 3}, "redis://other:7/3"),
        ("rediss://host", {}, "rediss://host:6379"),
        ("redis://host", {"security": BaseSecurity(use_ssl=True)}, "rediss://host:6379"),
        ("redis://host", {"security": SASLPlaintext("u", "secret")}, "redis://host:6379"),
        ("redis://[::1]:7", {}, "redis://[::1]:7"),
        ("unix:///run/redis.sock?db=1", {}, "unix:///run/redis.sock"),
    ],
)
def test_the_address_has_no_credentials(url: str, options: dict[str, Any], address: str) -> None:
    broker = RedisBroker(url, **options)
    assert broker.address == address
    assert repr(broker) == f"RedisBroker({address!r})"


def test_the_server_in_the_document() -> None:
    (server,) = RedisBroker("redis://user:secret@host/2", description="d", specification_tags=["t"]).servers()
    assert (server.host, server.protocol, server.pathname) == ("host:6379", "redis", "/2")
    assert server.security == {"userPassword": {"type": "userPassword"}}
    assert (server.description, list(server.tags)) == ("d", ["t"])
    assert "secret" not in repr(server)
    (server,) = RedisBroker("rediss://host", specification_url="public.example").servers()
    assert (server.host, server.protocol, server.security) == ("public.example:6379", "redis", {})


def described(**place: Any) -> Any:
    (found,) = RedisRouter().subscriber(**place).describe()
    return found


def test_channels_in_the_document() -> None:
    plain = described(channel="orders")
    assert (plain.address, plain.name, plain.kind, plain.extensions) == (
        "orders",
        "orders",
        "",
        {"x-redis-type": "channel"},
    )
    template = described(channel="users.{uid}")
    assert (template.address, tuple(template.parameters)) == ("users.{uid}", ("uid",))
    pattern = described(channel=PubSub("logs.?", pattern=True))
    assert pattern.address is None
    assert pattern.extensions == {"x-redis-type": "pattern", "x-pattern": "logs.?"}
    assert described(list="jobs").kind == "list"
    group = described(stream=StreamSub("jobs", group="g", consumer="c"))
    assert group.kind == "stream"
    assert group.extensions == {"x-redis-type": "stream", "x-redis-group": "g", "x-redis-consumer": "c"}
    for one in (plain, template, pattern, group):
        assert one.channel_bindings == {"redis": {}}, "the binding has no properties"
    (publisher,) = RedisRouter().publisher(stream="jobs").describe()
    assert (publisher.address, publisher.kind) == ("jobs", "stream")


@pytest.mark.parametrize(
    ("target", "channel", "path"),
    [
        (PubSub("users.{uid}"), "users.1", {"uid": "1"}),
        (PubSub("users.{uid}"), "users.1.2", None),
        (PubSub("users.{uid}"), "users.", None),
        (PubSub("{a}.x.{b}"), "1.x.2", {"a": "1", "b": "2"}),
        (PubSub("logs.*"), "logs.a.b", {}),
        (PubSub("*.{x}"), "a.b.c", {"x": "c"}),
        (PubSub("h?llo", pattern=True), "hello", {}),
        (PubSub("h?llo", pattern=True), "heello", None),
        (PubSub("h[ae]llo", pattern=True), "hallo", {}),
        (PubSub("h[^e]llo", pattern=True), "hello", None),
        (PubSub("h[a-c]llo", pattern=True), "hbllo", {}),
        (PubSub(r"h\*llo", pattern=True), "h*llo", {}),
        (PubSub(r"h\*llo", pattern=True), "hello", None),
        (PubSub("h?llo"), "hello", None),
        (PubSub("h?llo"), "h?llo", {}),
        (PubSub("a+b.{x}"), "a+b.1", {"x": "1"}),
        (PubSub("{{x}}"), "{x}", {}),
    ],
)
def test_which_channels_are_meant(target: PubSub, channel: str, path: dict[str, str] | None) -> None:
    assert target.matches(channel) is (path is not None)
    if path is not None:
        assert target.capture(channel) == path


def test_what_redis_is_asked_for() -> None:
    assert [PubSub(one).subject for one in ("a", "users.{uid}", "{{x}}", "*.{x}")] == ["a", "users.*", "{x}", "*.*"]
    assert [PubSub(one).pattern for one in ("a", "users.{uid}", "{{x}}", "a.*")] == [False, True, False, True]


def test_a_response_knows_its_options() -> None:
    assert RedisResponse("x", maxlen=5).options == {"maxlen": 5}


def test_a_port_that_is_no_number() -> None:
    with pytest.raises(SetupError, match="can't be read"):
        RedisBroker("redis://user:secret@host:abc")


async def test_options_of_one_message_are_checked() -> None:
    broker = RedisBroker()
    publisher = broker.publisher(channel="c")
    wrong: Any = {"maxlne": 3}
    with pytest.raises(SetupError, match=r"RedisResponse: the option 'maxlne' does not exist; use 'maxlen'"):
        RedisResponse("x", **wrong)
    with pytest.raises(SetupError, match=r"publish\(\): the option 'maxlne' does not exist"):
        await broker.publish("x", channel="c", **wrong)
    with pytest.raises(SetupError, match=r"publish\(\): the option 'maxlne' does not exist"):
        await publisher.publish("x", **wrong)
    untyped: Any = {"maxlen": "yes"}
    with pytest.raises(SetupError, match=r"RedisResponse: maxlen='yes' is none of"):
        RedisResponse("x", **untyped)
    with pytest.raises(SetupError, match=r"publish\(\): maxlen='yes' is none of"):
        await broker.publish("x", channel="c", **untyped)


def anything(value: Any) -> Any:
    return value


REFUSED: dict[str, tuple[Any, str]] = {
    "maxlen of a channel": (lambda: RedisBroker().publisher("a", maxlen=5), "'a' is a channel"),
    "maxlen of a list": (lambda: RedisBroker().publisher(list="a", maxlen=5), "'a' is a list"),
    "maxlen of a subscriber": (lambda: RedisBroker().subscriber(stream=StreamSub("a", maxlen=5)), "maxlen"),
    "a group that publishes": (lambda: RedisBroker().publisher(stream=StreamSub("a", group="g")), "group of StreamSub"),
    "a batch that publishes": (lambda: RedisBroker().publisher(list=ListSub("a", batch=True)), "batch of ListSub"),
    "no batch": (lambda: RedisBroker().subscriber(stream=StreamSub("a", max_records=5)), "max_records of StreamSub"),
    "no batch of a list": (
        lambda: RedisBroker().subscriber(list=ListSub("a", max_records=5)),
        "max_records of ListSub",
    ),
    "claims without a group": (
        lambda: RedisBroker().subscriber(stream=StreamSub("a", claim_min_idle_time=5)),
        "claim_min_idle_time",
    ),
    "acknowledging a channel": (
        lambda: RedisBroker().subscriber("a", ack_policy=AckPolicy.MANUAL),
        "ack_policy= has no effect: a channel",
    ),
    "acknowledging a list": (
        lambda: RedisBroker().subscriber(list="a", ack_policy=AckPolicy.ACK),
        "ack_policy= has no effect: a list",
    ),
    "a policy that is none": (
        lambda: RedisBroker().subscriber(stream="a", ack_policy=anything("manual")),
        "ack_policy='manual'",
    ),
    "a host for a socket": (lambda: RedisBroker("unix:///run/redis.sock", host="a"), "host= has no effect"),
    "a port for a socket": (lambda: RedisBroker("unix:///run/redis.sock", port=1), "port= has no effect"),
    "TLS for a socket": (
        lambda: RedisBroker("unix:///run/redis.sock", security=BaseSecurity(use_ssl=True)),
        "has no TLS",
    ),
    "a context that is not used": (
        lambda: RedisBroker(security=BaseSecurity(ssl.create_default_context(), use_ssl=False)),
        "TLS is not used",
    ),
    "options of TLS without TLS": (
        lambda: RedisBroker("redis://localhost?ssl_cert_reqs=none").transport(),
        "ssl_cert_reqs",
    ),
    "a negative port": (lambda: RedisBroker(port=-1), "port=-1"),
    "a negative database": (lambda: RedisBroker(db=-1), "db=-1"),
    "no time to connect": (lambda: RedisBroker(socket_connect_timeout=0), "socket_connect_timeout=0"),
    "no timeout": (lambda: RedisBroker(socket_timeout=None), "socket_timeout=None"),  # type: ignore[arg-type]
    "no publish timeout": (lambda: RedisBroker(publish_timeout=None), "publish_timeout=None"),  # type: ignore[arg-type]
    "a format that is none": (lambda: RedisBroker(message_format="json"), "'binary'"),  # type: ignore[arg-type]
    "another broker": (lambda: RedisRouter("http://localhost"), "'http'"),
    "a number as a channel": (lambda: RedisBroker().subscriber(3), "channel=3"),  # type: ignore[arg-type]
    "a list as a channel": (lambda: RedisBroker().subscriber(ListSub("a")), "give a text or a PubSub"),  # type: ignore[arg-type]
    "an id as a number": (lambda: StreamSub("a", last_id=0), "last_id=0"),  # type: ignore[arg-type]
    "an id that is too large": (lambda: StreamSub("a", last_id=str(2**64)), "last_id="),
    "True as a number": (lambda: StreamSub("a", maxlen=True), "maxlen=True"),
    "a text as a switch": (lambda: ListSub("a", batch="yes"), "batch='yes'"),  # type: ignore[arg-type]
    "an idle time that no claim outlives": (
        lambda: StreamSub("a", group="g", claim_min_idle_time=299),
        "give 300 milliseconds or more",
    ),
    "an idle time without end": (lambda: StreamSub("a", group="g", claim_min_idle_time=2**63), "claim_min_idle_time="),
    "a maxlen without end": (lambda: StreamSub("a", maxlen=2**63), "maxlen="),
    "a client without a name": (lambda: RedisBroker(client_name=""), "client_name=''"),
    "a client with a blank in its name": (lambda: RedisBroker(client_name="my app"), "client_name='my app'"),
    "one in the query": (lambda: RedisRouter("redis://h?client_name=my%20app"), "client_name='my app'"),
    "a client whose name is not ASCII": (lambda: RedisBroker(client_name="\u00fc"), "client_name='\u00fc'"),
    "a wait without end": (lambda: RedisBroker(socket_timeout=float("inf")), "socket_timeout=inf"),
    "a group without a name": (lambda: StreamSub("a", group=""), "group=''"),
    "a name that is no text": (lambda: StreamSub("a\ud800"), "surrogates"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_effect_or_is_wrong_is_refused(case: str) -> None:
    declare, words = REFUSED[case]
    with pytest.raises(SetupError) as caught:
        declare()
    assert words in str(caught.value)


MESSAGES: dict[type[RedisMessage], dict[str, Any]] = {
    RedisChannelMessage: {"channel": PubSub("a.*", pattern=True)},
    RedisListMessage: {"list": ListSub("a", batch=True)},
    RedisStreamMessage: {"stream": StreamSub("a", group="g")},
}


@pytest.mark.parametrize("given", MESSAGES)
@pytest.mark.parametrize("asked", MESSAGES)
def test_a_message_of_another_kind_is_refused(given: type[RedisMessage], asked: type[RedisMessage]) -> None:
    async def handler(body: Any, message: Any, base: RedisMessage | None = None) -> None: ...

    handler.__annotations__["message"] = asked
    declare = RedisRouter().subscriber(**MESSAGES[given])
    if asked is given:
        declare(handler)
        return
    with pytest.raises(
        SetupError, match=f"'message' asks for {asked.__name__}, and the messages here are {given.__name__}"
    ):
        declare(handler)


async def test_publish_refuses_what_has_no_effect() -> None:
    broker = RedisBroker()
    publisher = broker.publisher("a")
    wrong: Any = {"timeout": 0}
    for publish in (broker.publish, publisher.publish):
        with pytest.raises(SetupError, match="'a' is a channel"):
            await publish("x", "a", maxlen=3)
        with pytest.raises(SetupError, match="'timeout' does not exist"):
            await publish("x", "a", **wrong)
    with pytest.raises(SetupError, match="'a' is a channel"):
        await publisher.publish("x", maxlen=3)


def test_redis_has_no_inboxes() -> None:
    with pytest.raises(SetupError, match="redis has no inboxes"):
        RedisBroker(replies="inbox")
    with pytest.raises(SetupError, match="redis has no inboxes"):
        RedisBroker().subscriber("a", replies="inbox")


@pytest.mark.parametrize("kind", [RedisRouter, RedisBroker])
@pytest.mark.parametrize(
    ("url", "problem"), [(None, "None is no URL"), (b"redis://h", "'bytes'> is no URL"), ("", "the URL is empty")]
)
def test_what_is_no_url_is_said(kind: Any, url: Any, problem: str) -> None:
    with pytest.raises(SetupError, match=problem):
        kind(url)


@pytest.mark.parametrize("query", ["ssl=true", "ssl_cert_reqs=required", "db=1&ssl_ca_certs=/ca.pem"])
@pytest.mark.parametrize("scheme", ["redis://h", "h", "unix:///s"])
def test_tls_in_the_query_of_a_url_without_it(scheme: str, query: str) -> None:
    with pytest.raises(SetupError, match=r"TLS is asked for .* begin it with rediss://"):
        RedisBroker(f"{scheme}?{query}")
    RedisBroker(f"rediss://h?{query.replace('ssl=true', 'ssl_cert_reqs=none')}")


WRONG: list[Any] = [3, b"x", ["x"], [], {}, {"x": 1}, object(), True, 1.5]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: repr(one).partition(" at 0x")[0])
@pytest.mark.parametrize(
    ("name", "declare"),
    [
        ("url", RedisBroker),
        ("url", RedisRouter),
        ("host", lambda wrong: RedisBroker(host=wrong)),
        ("channel", lambda wrong: RedisBroker().subscriber(wrong)),
        ("channel", lambda wrong: RedisBroker().publisher(wrong)),
        ("list", lambda wrong: RedisRouter().subscriber(list=wrong)),
        ("list", lambda wrong: RedisRouter().publisher(list=wrong)),
        ("stream", lambda wrong: RedisRouter().subscriber(stream=wrong)),
        ("stream", lambda wrong: RedisRouter().publisher(stream=wrong)),
    ],
)
def test_an_argument_of_another_type_is_named(name: str, declare: Any, wrong: Any) -> None:
    with pytest.raises(SetupError, match=rf"\b{name}="):
        declare(wrong)


@pytest.mark.parametrize("text", ["a b", "a\nb", "a\x00b"])
def test_a_host_is_one_word(text: str) -> None:
    with pytest.raises(SetupError, match="can't be read"):
        RedisBroker(host=text)
    with pytest.raises(SetupError, match="can't be read"):
        RedisBroker(f"redis://{text}:6379")


@pytest.mark.parametrize("path", ["abc", "2/3", "-1", "1/"])
def test_a_path_that_is_no_database_is_not_ignored(path: str) -> None:
    with pytest.raises(SetupError, match="names no database"):
        RedisBroker(f"redis://localhost/{path}")
    for right in ("redis://localhost", "redis://localhost/", "rediss://localhost/15"):
        RedisBroker(right)
