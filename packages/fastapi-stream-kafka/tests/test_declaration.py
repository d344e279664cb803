"""What is declared, what is refused, and what the document says of it."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from fastapi_stream_core.security import BaseSecurity as CoreSecurity
from fastapi_stream_core.topic import TopicPattern
from fastapi_stream_kafka import (
    SASLGSSAPI,
    BaseSecurity,
    KafkaBroker,
    KafkaRouter,
    SASLOAuthBearer,
    SASLPlaintext,
    SASLScram256,
    SASLScram512,
    SetupError,
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
