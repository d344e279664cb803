"""What declarations mean: options of librdkafka, errors that name the fix, the document."""

from __future__ import annotations

import ssl
from typing import Annotated, Any

import fastapi_stream_confluent
import fastapi_stream_core
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from fastapi import FastAPI, Path
from fastapi_stream_confluent import (
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
)
from fastapi_stream_confluent.config import consumer_config, producer_config


def consumer_of(broker: KafkaBroker, *topics: str, **options: Any) -> dict[str, Any]:
    return consumer_config(broker, broker.subscriber(*topics, **options), options.get("group_id") or "own")


# Options -------------------------------------------------------------------------------------------------------------


def test_publishing_is_confirmed_by_all_and_idempotent() -> None:
    config = producer_config(KafkaBroker("one:1,two"))
    assert config["bootstrap.servers"] == "one:1,two:9092"
    assert (config["acks"], config["enable.idempotence"], config["linger.ms"]) == ("all", True, 0)
    assert config["message.timeout.ms"] <= 10_000


def test_options_of_the_producer() -> None:
    config = producer_config(
        KafkaBroker(
            ["one:1", "two:2"],
            acks=1,
            compression_type="lz4",
            linger_ms=3,
            max_request_size=2_000_000,
            max_batch_size=5000,
            partitioner="murmur2_random",
            client_id="me",
            request_timeout_ms=1234,
            connections_max_idle_ms=None,
        )
    )
    expected = {
        "bootstrap.servers": "one:1,two:2",
        "acks": 1,
        "enable.idempotence": False,
        "compression.type": "lz4",
        "linger.ms": 3,
        "message.max.bytes": 2_000_000,
        "batch.size": 5000,
        "partitioner": "murmur2_random",
        "client.id": "me",
        "socket.timeout.ms": 1234,
    }
    assert expected.items() <= config.items()
    assert "connections.max.idle.ms" not in config


def test_nothing_is_committed_by_the_client_itself() -> None:
    config = consumer_of(KafkaBroker(), "orders", group_id="billing")
    assert config["group.id"] == "billing"
    assert config["enable.auto.commit"] is config["enable.auto.offset.store"] is False
    assert config["auto.offset.reset"] == "error"  # the package decides where to begin
    assert config["partition.assignment.strategy"] == "roundrobin"


def test_options_of_a_consumer() -> None:
    config = consumer_of(
        KafkaBroker(),
        "orders",
        group_id="billing",
        auto_offset_reset="none",
        session_timeout_ms=7000,
        max_poll_interval_ms=8000,
        group_instance_id="me",
        partition_assignment_strategy=("cooperative-sticky",),
        isolation_level="read_committed",
        check_crcs=False,
    )
    expected = {
        "auto.offset.reset": "error",
        "session.timeout.ms": 7000,
        "max.poll.interval.ms": 8000,
        "group.instance.id": "me",
        "partition.assignment.strategy": "cooperative-sticky",
        "isolation.level": "read_committed",
        "check.crcs": False,
    }
    assert expected.items() <= config.items()


def test_config_wins_over_every_option() -> None:
    broker = KafkaBroker(linger_ms=3, config={"linger.ms": 7, "session.timeout.ms": 9, "ssl.ca.location": "ca"})
    assert producer_config(broker)["linger.ms"] == 7
    consumer = consumer_of(broker, "orders", group_id="g", session_timeout_ms=7000)
    assert (consumer["session.timeout.ms"], consumer["ssl.ca.location"]) == (9, "ca")


def test_the_client_buffers_a_part_of_prefetch_bytes() -> None:
    config = consumer_of(KafkaBroker(), "orders", prefetch_bytes=1_000_000)
    assert config["queued.max.messages.kbytes"] == 61
    assert config["max.partition.fetch.bytes"] == 62_500
    assert config["fetch.max.bytes"] == config["message.max.bytes"] == 250_000
    few = consumer_of(KafkaBroker(), "orders", fetch_max_bytes=500_000, max_partition_fetch_bytes=1000)
    assert (few["fetch.max.bytes"], few["max.partition.fetch.bytes"]) == (500_000, 1000)


def test_a_wrong_config_shows_no_value() -> None:
    with pytest.raises(SetupError, match="config=") as caught:
        KafkaBroker(config=[("sasl.password", "s3cret")])  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


# Security ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        (BaseSecurity(use_ssl=True), {"security.protocol": "SSL"}),
        (BaseSecurity(), {"security.protocol": "PLAINTEXT"}),
        (
            SASLPlaintext("ann", "s3cret"),
            {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "ann",
                "sasl.password": "s3cret",
            },
        ),
        (
            SASLScram256("ann", "s3cret", use_ssl=True),
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "ann"},
        ),
        (SASLScram512("ann", "s3cret", use_ssl=True), {"sasl.mechanism": "SCRAM-SHA-512"}),
        (SASLOAuthBearer(use_ssl=True), {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}),
        (SASLGSSAPI(use_ssl=True), {"sasl.mechanism": "GSSAPI"}),
    ],
)
def test_security(security: BaseSecurity, expected: dict[str, str]) -> None:
    broker = KafkaBroker("host:1", security=security)
    assert expected.items() <= producer_config(broker).items()
    assert "s3cret" not in f"{broker!r} {security!r} {broker.servers()}"


def test_an_ssl_context_is_refused_with_the_way_out() -> None:
    with pytest.raises(SetupError, match=r"ssl\.ca\.location"):
        KafkaBroker(security=BaseSecurity(ssl.create_default_context()))


def test_security_of_another_broker_is_refused() -> None:
    class Certificate(BaseSecurity):
        pass

    with pytest.raises(SetupError, match="SASLScram512"):
        KafkaBroker(security=Certificate())


async def test_gssapi_needs_a_client_that_was_built_with_it() -> None:
    broker = KafkaBroker("127.0.0.1:1", security=SASLGSSAPI(), startup_timeout=0.2)
    with pytest.raises(SetupError, match="GSSAPI"):
        await broker.start()


def test_credentials_do_not_belong_into_the_address() -> None:
    with pytest.raises(SetupError, match="SASLPlaintext") as caught:
        KafkaBroker("ann:s3cret@host:9092")
    assert "s3cret" not in str(caught.value)


# Wrong declarations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topics", "options", "words"),
    [
        ((), {}, "nothing to read"),
        (("a",), {"pattern": "b"}, "topics and pattern"),
        (("a",), {"partitions": [TopicPartition("b", 0)]}, "topics and partitions"),
        ((), {"pattern": "a(b"}, "no regular expression"),
        ((), {"pattern": "users.{uid}.{uid}"}, "twice"),
        (("a",), {"grup_id": "g"}, "'group_id'"),
        (("a",), {"max_workers": 0}, "max_workers"),
        (("a",), {"max_records": 0}, "max_records"),
        (("a",), {"auto_offset_reset": "none"}, "group_id"),
        ((1,), {}, "1 is no name"),
        (("a b",), {}, "'a b' is no name of a topic"),
        (("",), {}, "'' is no name"),
        (("x" * 250,), {}, "at most 249"),
        ((), {"partitions": [TopicPartition("a b", 0)]}, "'a b' is no name"),
        ((), {"partitions": [TopicPartition("a", -1)]}, "count them from 0"),
        ((), {"partitions": 3}, "partitions=3"),
        ((), {"pattern": 3}, "pattern=3"),
        (("a",), {"auto_offset_reset": "smallest"}, "'latest', 'earliest', 'none'"),
        (("a",), {"isolation_level": "READ_COMMITTED"}, "'read_committed'"),
        (("a",), {"max_records": 5}, "max_records=5 has no effect without batch=True"),
        (("a",), {"batch_timeout_ms": 5}, "batch_timeout_ms=5 has no effect without batch=True"),
        (("a",), {"group_instance_id": "m"}, "no effect without a group_id"),
        (("a",), {"session_timeout_ms": 9000}, "no effect without a group_id"),
        (("a",), {"partition_assignment_strategy": ["range"]}, "no effect without a group_id"),
        (("a",), {"group_id": "g", "partition_assignment_strategy": []}, "give at least one"),
        (("a",), {"group_id": "g", "partition_assignment_strategy": ["sticky"]}, "'cooperative-sticky'"),
        (("a",), {"group_id": "g", "session_timeout_ms": 3000}, "is not less than session_timeout_ms=3000"),
        (("a",), {"group_id": "g", "max_poll_interval_ms": 5000}, "is less than session_timeout_ms=10000"),
        (("a",), {"group_id": "g", "session_timeout_ms": 2**23, "max_poll_interval_ms": 2**23}, "session.timeout.ms"),
        (("a",), {"polling_interval": 0}, "polling_interval=0"),
        (("a",), {"polling_interval": None}, "polling_interval=None"),
        (("a",), {"fetch_max_bytes": 2**31 - 1}, "fetch.max.bytes"),
        (("a",), {"fetch_max_wait_ms": None}, "fetch_max_wait_ms=None"),
        (("a",), {"ack_policy": "manual"}, "ack_policy='manual'"),
    ],
)
def test_a_wrong_subscriber_says_what_to_do(topics: tuple[str, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(SetupError) as caught:
        KafkaBroker().subscriber(*topics, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"acks": 2}, "acks=2 is none of"),
        ({"acks": "1"}, "acks='1'"),
        ({"compression_type": "zip"}, "'gzip', 'snappy', 'lz4', 'zstd'"),
        ({"partitioner": "java"}, "'murmur2_random'"),
        ({"linger_ms": -1}, "linger_ms=-1"),
        ({"linger_ms": 10**9}, "queue.buffering.max.ms"),
        ({"max_request_size": 5}, "message.max.bytes"),
        ({"publish_timeout": None}, "publish_timeout=None"),
        ({"request_timeout_ms": None}, "request_timeout_ms=None"),
        ({"security": "SASL_PLAINTEXT"}, "security="),
        ({"client_idd": "x"}, "'client_id'"),
        ({"config": 3}, "config=<int, not shown> is none of a mapping"),
        ({"config": {"no.such.option": 1}}, "no.such.option"),
        ({"config": {"session.timeout.ms": -1}}, "session.timeout.ms"),
        ({"config": {"security.protocol": "tls"}}, "security.protocol"),
        ({"config": {"stats_cb": 3}}, "stats_cb"),
    ],
)
def test_a_wrong_option_of_a_broker_says_what_to_do(options: dict[str, Any], words: str) -> None:
    for declare in (KafkaBroker, KafkaRouter):
        with pytest.raises(SetupError) as caught:
            declare("a:1", **options)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["http://a:9092", "ssl://a:9092", "a b:1", "a:0", "a:99999", "", "a,", "a:b:c", [], "user:pw@host:1", "a:1/x"],
)
def test_what_is_no_address_is_refused(address: Any) -> None:
    with pytest.raises(SetupError, match="bootstrap_servers") as caught:
        KafkaBroker(address)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("topic", "options", "words"),
    [
        ("a b", {}, "no name of a topic"),
        ("", {}, "no name of a topic"),
        ("a", {"key": 3}, "key=3"),
        ("a", {"partition": -1}, "partition=-1"),
        ("a", {"timestamp": 3}, "'timestamp' does not exist"),
    ],
)
def test_a_wrong_publisher_says_what_to_do(topic: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SetupError) as caught:
        KafkaRouter().publisher(topic, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("options", [{"key": 3}, {"partition": -1}, {"timestamp_ms": "now"}])
def test_a_wrong_response_says_what_to_do(options: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match=next(iter(options))):
        KafkaResponse("x", **options)


def test_idempotence_needs_all_replicas() -> None:
    with pytest.raises(SetupError, match="acks"):
        KafkaBroker(acks=1, enable_idempotence=True)


# The document --------------------------------------------------------------------------------------------------------


def test_the_document_has_servers_groups_topics_and_keys() -> None:
    router = KafkaRouter("one:1,two:2", security=SASLScram512("ann", "s3cret", use_ssl=True), specification_tags=["eu"])

    @router.subscriber("orders", "returns", group_id="billing")
    @router.publisher("invoices", key="k")
    async def bill(number: int) -> str:
        return str(number)

    @router.subscriber(pattern="users.{uid}")
    async def greet(uid: Annotated[str, Path()], msg: str) -> None: ...

    @router.subscriber(pattern="logs-.*")
    async def log(msg: str) -> None: ...

    app = FastAPI()
    app.include_router(router)
    document = router.schema.to_specification().to_jsonable()
    assert "s3cret" not in str(document)
    servers = document["servers"].values()
    assert [(one["host"], one["protocol"]) for one in servers] == [("one:1", "kafka-secure"), ("two:2", "kafka-secure")]
    assert {"type": "scramSha512"}.items() <= document["components"]["securitySchemes"]["SASLScram512"].items()
    channels = {one.get("address") or one.get("x-pattern"): one for one in document["channels"].values()}
    assert {"orders", "returns", "invoices", "users.{uid}", "logs-.*"} <= set(channels)
    assert channels["orders"]["bindings"]["kafka"]["topic"] == "orders"
    assert set(channels["users.{uid}"]["parameters"]) == {"uid"}
    assert channels["logs-.*"]["address"] is None
    groups = [
        one["bindings"]["kafka"]["groupId"]["enum"]
        for one in document["operations"].values()
        if "groupId" in one.get("bindings", {}).get("kafka", {})
    ]
    assert groups
    assert all(group == ["billing"] for group in groups)


def test_no_group_is_waited_for_with_given_partitions() -> None:
    broker = KafkaBroker("localhost:9092")
    alone = broker.subscriber(partitions=[TopicPartition("tea", 0)], group_id="drinkers")
    assert alone.join_seconds == 0
    assert broker.subscriber("tea", group_id="drinkers").join_seconds > 0


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
    {"timestamp_ms": 0},
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
    assert errors | {"Headers"} <= set(fastapi_stream_confluent.__all__)


def test_the_new_group_protocol_is_given_nothing_that_it_forbids() -> None:
    """librdkafka looks at the options when a consumer is made, and at no server."""
    broker = KafkaBroker(config={"group.protocol": "consumer"})
    Consumer(consumer_config(broker, broker.subscriber("a", group_id="g"), "g")).close()
    given = broker.subscriber("b", group_id="g", session_timeout_ms=20_000)
    with pytest.raises(KafkaException, match=r"session\.timeout\.ms"):
        Consumer(consumer_config(broker, given, "g"))
