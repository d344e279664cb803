"""What is declared, what is refused, and what the document says of it."""

from __future__ import annotations

import ssl
import time
from typing import Any

import fastapi_stream_core
import fastapi_stream_kafka
import pytest
from fastapi_stream_core.security import BaseSecurity as CoreSecurity
from fastapi_stream_core.topic import TopicPattern
from fastapi_stream_kafka import (
    SASLGSSAPI,
    BaseSecurity,
    KafkaBroker,
    KafkaResponse,
    KafkaRouter,
    PublishError,
    SASLOAuthBearer,
    SASLPlaintext,
    SASLScram256,
    SASLScram512,
    SetupError,
    StreamError,
    TestKafkaBroker,
    TopicPartition,
)
from fastapi_stream_kafka.security import client_options


class TestSubscriber:
    @pytest.mark.parametrize(
        ("topics", "options", "problem"),
        [
            ((), {}, "nothing to read"),
            (("a",), {"pattern": "b"}, "topics and pattern"),
            (("a",), {"partitions": [TopicPartition("a", 0)]}, "topics and partitions"),
            ((), {"pattern": "a", "partitions": [TopicPartition("a", 0)]}, "pattern and partitions"),
            ((1,), {}, "1 is no name"),
            (("a b",), {}, "'a b' is no name of a topic"),
            (("",), {}, "'' is no name"),
            ((".",), {}, "'.' is no name"),
            (("x" * 250,), {}, "at most 249"),
            (("a/b",), {}, "consists of a-z"),
            ((), {"partitions": [TopicPartition("a b", 0)]}, "'a b' is no name"),
            ((), {"partitions": [TopicPartition("a", -1)]}, "count them from 0"),
            ((), {"partitions": 3}, "partitions=3"),
            ((), {"pattern": 3}, "pattern=3"),
            (("a",), {"auto_offset_reset": "smallest"}, "'latest', 'earliest', 'none'"),
            (("a",), {"isolation_level": "READ_COMMITTED"}, "'read_committed'"),
            (("a",), {"max_records": 5}, "max_records=5 has no effect without batch=True"),
            (("a",), {"batch_timeout_ms": 5}, "batch_timeout_ms=5 has no effect without batch=True"),
            (("a",), {"batch": True, "batch_timeout_ms": -1}, "batch_timeout_ms=-1"),
            (("a",), {"group_instance_id": "m"}, "no effect without a group_id"),
            (("a",), {"session_timeout_ms": 9000}, "no effect without a group_id"),
            (("a",), {"exclude_internal_topics": False}, "no effect without pattern="),
            (("a",), {"group_id": ""}, "group_id=''"),
            (("a",), {"group_id": "g", "session_timeout_ms": 3000}, "is not less than session_timeout_ms=3000"),
            (("a",), {"group_id": "g", "partition_assignment_strategy": []}, "give at least one"),
            (("a",), {"group_id": "g", "partition_assignment_strategy": "range"}, "partition_assignment_strategy="),
            (("a",), {"fetch_max_wait_ms": None}, "fetch_max_wait_ms=None"),
            (("a",), {"fetch_max_bytes": 0}, "fetch_max_bytes=0"),
            (("a",), {"ack_policy": "manual"}, "ack_policy='manual'"),
            (("a",), {"max_records": 0}, "max_records=0"),
            (("a",), {"max_workers": 0}, "max_workers=0"),
            (("a",), {"auto_offset_reset": "none"}, "group_id"),
            (("a",), {"grup_id": "g"}, "use 'group_id'"),
            ((), {"pattern": "("}, "no regular expression"),
            ((), {"pattern": "{a}.{a}"}, "'{a}.{a}'"),
        ],
    )
    def test_a_wrong_declaration_says_what_to_do(
        self, topics: tuple[Any, ...], options: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(SetupError) as caught:
            KafkaRouter().subscriber(*topics, **options)
        assert problem in str(caught.value)

    def test_defaults(self) -> None:
        subscription = KafkaRouter().subscriber("a", "b", "a")
        assert subscription.topics == ("a", "b")
        assert subscription.options["auto_offset_reset"] == "latest"
        assert (subscription.max_workers, subscription.batch_size, subscription.batch_seconds) == (1, 100, 0.2)
        assert not subscription.running

    def test_the_document(self) -> None:
        router = KafkaRouter()
        one, two = router.subscriber("a", "b", group_id="g").describe()
        assert (one.address, two.address) == ("a", "b")
        assert one.channel_bindings == {"kafka": {"topic": "a", "bindingVersion": "0.5.0"}}
        assert one.operation_bindings == {
            "kafka": {"groupId": {"type": "string", "enum": ["g"]}, "bindingVersion": "0.5.0"}
        }
        (template,) = router.subscriber(pattern="users.{uid}").describe()
        assert (template.address, template.parameters) == ("users.{uid}", ("uid",))
        (expression,) = router.subscriber(pattern=r"logs\..*").describe()
        assert (expression.address, expression.extensions) == (None, {"x-pattern": r"logs\..*"})
        (publisher,) = router.publisher("out", key=b"k").describe()
        assert publisher.message_bindings["kafka"]["key"] == {"type": "string", "enum": ["k"]}


class TestPattern:
    @pytest.mark.parametrize(
        ("pattern", "topic", "path"),
        [
            ("users.{uid}", "users.7", {"uid": "7"}),
            ("users.{uid}", "users.7.x", None),
            ("users.{uid}", "usersX7", None),
            ("{kind}-x.{n}", "a-x.1", {"kind": "a", "n": "1"}),
            (r"logs\.(info|error)\.{name}", "logs.info.web", {"name": "web"}),
            (r"logs\.(info|error)\.{name}", "logs.debug.web", None),
            ("a{2,3}", "aaa", {}),
            ("a{2,3}", "a", None),
            ("log", "logging", {}),
        ],
    )
    def test_matches_and_captures(self, pattern: str, topic: str, path: dict[str, str] | None) -> None:
        one = TopicPattern(pattern)
        assert one.matches(topic) == (path is not None)
        assert one.capture(topic) == (path or {})

    @pytest.mark.parametrize(
        ("pattern", "topic"),
        [
            (r"{a}-{b}-(end|fin)", "x-" * 120),
            (r"(eu|us)\.{a}-{b}\.{c}-{d}\.{e}-(end|fin)", "eu." + "x-" * 40 + "." + "x-" * 40 + "." + "x-" * 40),
            ("{a}-{b}-{c}-{d}-end", "x-" * 120),
        ],
    )
    def test_whoever_makes_a_topic_makes_nobody_look_at_its_name_for_long(self, pattern: str, topic: str) -> None:
        one = TopicPattern(pattern)
        began = time.process_time()
        assert not one.matches(topic)
        assert time.process_time() - began < 0.2

    def test_too_many_parameters_in_a_segment_of_a_regular_expression(self) -> None:
        with pytest.raises(SetupError, match="more than 2 parameters"):
            TopicPattern("{a}-{b}-{c}-(end|fin)")


class TestBroker:
    @pytest.mark.parametrize(
        ("given", "hosts"),
        [
            ("localhost", ["localhost:9092"]),
            ("a:1,b", ["a:1", "b:9092"]),
            (["a:1", "kafka://b:2"], ["a:1", "b:2"]),
            ("[::1]:9093", ["[::1]:9093"]),
        ],
    )
    def test_addresses(self, given: Any, hosts: list[str]) -> None:
        broker = KafkaBroker(given)
        assert broker.hosts == hosts
        assert [one.host for one in broker.servers()] == hosts

    def test_the_server_in_the_document(self) -> None:
        security = SASLScram256("user", "secret", use_ssl=True)
        broker = KafkaBroker(
            "a:1",
            security=security,
            protocol_version="4.1",
            description="ours",
            specification_url="kafka://user:secret@shown:9092",
        )
        (server,) = broker.servers()
        assert (server.host, server.protocol, server.protocol_version) == ("shown:9092", "kafka-secure", "4.1")
        assert server.security == {"SASLScram256": {"type": "scramSha256"}}
        assert "secret" not in repr(server) + repr(broker.options["security"])
        assert KafkaBroker("a", protocol="custom").servers()[0].protocol == "custom"

    def test_options_that_do_not_fit(self) -> None:
        with pytest.raises(SetupError, match="acks=1"):
            KafkaBroker(acks=1, enable_idempotence=True)
        with pytest.raises(SetupError, match="clientid"):
            KafkaRouter(clientid="x")  # type: ignore[call-arg]

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"acks": 2}, "acks=2 is none of"),
            ({"acks": "1"}, "acks='1'"),
            ({"compression_type": "zip"}, "'gzip', 'snappy', 'lz4', 'zstd'"),
            ({"partitioner": "murmur2"}, "partitioner='murmur2'"),
            ({"linger_ms": -1}, "linger_ms=-1"),
            ({"publish_timeout": None}, "publish_timeout=None"),
            ({"request_timeout_ms": None}, "request_timeout_ms=None"),
            ({"security": "SASL_PLAINTEXT"}, "security="),
            ({"security": SASLOAuthBearer()}, "sasl_oauth_token_provider"),
            ({"sasl_kerberos_domain_name": "d"}, "no effect without security=SASLGSSAPI()"),
            ({"client_idd": "x"}, "'client_id'"),
        ],
    )
    def test_a_wrong_option_names_its_choices(self, options: dict[str, Any], problem: str) -> None:
        for declare in (KafkaBroker, KafkaRouter):
            with pytest.raises(SetupError) as caught:
                declare("a:1", **options)
            assert problem in str(caught.value)

    @pytest.mark.parametrize(
        "address",
        ["http://a:9092", "ssl://a:9092", "a b:1", "a:0", "a:99999", "", "a,", "a:b:c", [], "user:pw@host:1", "a:1/x"],
    )
    def test_what_is_no_address_is_refused(self, address: Any) -> None:
        with pytest.raises(SetupError, match="bootstrap_servers"):
            KafkaBroker(address)

    @pytest.mark.parametrize("codec", ["snappy", "lz4", "zstd"])
    def test_a_compression_without_its_library(self, codec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(f"aiokafka.codec.has_{codec}", lambda: False)
        with pytest.raises(SetupError, match="library that is not installed"):
            KafkaBroker(compression_type=codec)

    @pytest.mark.parametrize(
        ("topic", "options", "problem"),
        [
            ("a b", {}, "no name of a topic"),
            ("", {}, "no name of a topic"),
            ("a", {"key": 3}, "key=3"),
            ("a", {"partition": -1}, "partition=-1"),
            ("a", {"partition": "1"}, "partition='1'"),
            ("a", {"timestamp": 3}, "'timestamp' does not exist"),
        ],
    )
    def test_a_wrong_publisher(self, topic: str, options: dict[str, Any], problem: str) -> None:
        with pytest.raises(SetupError) as caught:
            KafkaRouter().publisher(topic, **options)
        assert problem in str(caught.value)

    def test_a_wrong_response(self) -> None:
        for options in ({"key": 3}, {"partition": -1}, {"timestamp_ms": "now"}):
            with pytest.raises(SetupError, match=next(iter(options))):
                KafkaResponse("x", **options)  # type: ignore[arg-type]

    def test_a_broker_may_serve_several_routers(self) -> None:
        broker = KafkaBroker("a:1")
        one, two = KafkaRouter(broker), KafkaRouter(broker)
        one.subscriber("x")
        two.subscriber("y")
        assert [subscription.label for subscription in broker.subscribers] == ["subscriber('x')", "subscriber('y')"]


class TestSecurity:
    def test_each_class(self) -> None:
        context = ssl.create_default_context()
        plain = {"sasl_plain_username": "u", "sasl_plain_password": "p", "ssl_context": None}
        assert client_options(None) == {}
        assert client_options(BaseSecurity()) == {"ssl_context": None, "security_protocol": "PLAINTEXT"}
        assert client_options(BaseSecurity(context)) == {"ssl_context": context, "security_protocol": "SSL"}
        for security, mechanism in (
            (SASLPlaintext("u", "p"), "PLAIN"),
            (SASLScram256("u", "p"), "SCRAM-SHA-256"),
            (SASLScram512("u", "p"), "SCRAM-SHA-512"),
        ):
            expected = {**plain, "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": mechanism}
            assert client_options(security) == expected
        assert client_options(SASLPlaintext("u", "p", context))["security_protocol"] == "SASL_SSL"
        assert client_options(SASLOAuthBearer())["sasl_mechanism"] == "OAUTHBEARER"
        assert client_options(SASLGSSAPI())["sasl_mechanism"] == "GSSAPI"

    def test_tls_without_a_context_gets_the_default_one(self) -> None:
        options = client_options(BaseSecurity(use_ssl=True))
        assert options["security_protocol"] == "SSL"
        assert isinstance(options["ssl_context"], ssl.SSLContext)

    def test_the_security_of_another_broker_is_refused(self) -> None:
        class Token(CoreSecurity):
            pass

        with pytest.raises(SetupError, match=r"Token.*SASLPlaintext"):
            KafkaBroker(security=Token())


ODD_SERVERS = [3, [3], None, [None], b"x:1", [b"x"], {"x": 1}, object, True]


@pytest.mark.parametrize("kind", [KafkaRouter, KafkaBroker])
@pytest.mark.parametrize("servers", ODD_SERVERS, ids=lambda one: repr(one).partition(" at 0x")[0])
def test_servers_that_are_no_text(kind: Any, servers: Any) -> None:
    with pytest.raises(SetupError, match=r"bootstrap_servers: .*text"):
        kind(servers)


@pytest.mark.parametrize(
    "partitions",
    [
        3,
        "ab",
        [3],
        ["ab"],
        [None],
        [("a",)],
        [("a", "x")],
        [("a", 0, 0)],
        [("a", True)],
        [TopicPartition("a", -1)],
        [TopicPartition("a", 2**31)],
        [TopicPartition("a", "0")],
        [TopicPartition(3, 0)],
    ],
    ids=lambda one: repr(one).partition(" at 0x")[0],
)
def test_what_is_no_partition(partitions: Any) -> None:
    with pytest.raises(SetupError, match="partition"):
        KafkaBroker().subscriber(partitions=partitions)


ODD_PLACES: list[dict[str, Any]] = [
    {"key": 3},
    {"key": "\ud800"},
    {"partition": -1},
    {"partition": 2**31},
    {"partition": "1"},
    {"partition": True},
    {"timestamp_ms": -1},
    {"timestamp_ms": 2**70},
    {"timestamp_ms": 1.5},
    {"timestamp_ms": "x"},
]


@pytest.mark.parametrize("odd", ODD_PLACES, ids=lambda one: repr(one).partition(" at 0x")[0])
async def test_a_place_that_the_wire_does_not_have(odd: dict[str, Any]) -> None:
    broker = KafkaBroker()
    publisher = broker.publisher("t")
    async with TestKafkaBroker(broker):
        with pytest.raises(PublishError):
            await broker.publish("hi", "t", **odd)
        with pytest.raises(PublishError):
            await publisher.publish("hi", **odd)
        assert broker.published("t") == []


def test_what_an_application_may_see_of_the_core_is_exported() -> None:
    errors = {
        name
        for name, one in vars(fastapi_stream_core).items()
        if isinstance(one, type) and issubclass(one, StreamError)
    }
    assert errors | {"Headers"} <= set(fastapi_stream_kafka.__all__)
