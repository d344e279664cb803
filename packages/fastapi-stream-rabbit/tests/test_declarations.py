"""What a user declares: queues, exchanges, addresses, security, and the document of it."""

import ssl
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from fastapi_stream_core import SASLScram256
from fastapi_stream_rabbit import (
    BaseSecurity,
    Channel,
    ExchangeType,
    PublishError,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitExternalAuth,
    RabbitQueue,
    RabbitResponse,
    RabbitRouter,
    SASLPlaintext,
    SetupError,
    TestRabbitBroker,
)

CONTEXT = ssl.create_default_context()
INBOX = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMTY5MDI0NQAAAmYAAAAAawh4tA==.zHI3qeWdHJOPLwAyPsUMAA=="
"""As RabbitMQ 4 makes them: a process identifier and a key."""
FORGED = "amq.rabbitmq.reply-to.g1h2AAAA.zz"
"""An address that RabbitMQ 4 ends a connection for."""


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: RabbitQueue(""), "empty"),
        (lambda: RabbitQueue("{a}"), "belong into routing_key"),
        (lambda: RabbitQueue("q", routing_key="{a}.{a}"), "twice"),
        (lambda: RabbitQueue("q", queue_type=QueueType.QUORUM, durable=False), "durable"),
        (lambda: RabbitQueue("q", routing_key="x" * 256), "255"),
        (lambda: RabbitExchange("x" * 128), "127"),
        (lambda: RabbitExchange("e", routing_key="k"), "bind_to"),
        (
            lambda: RabbitExchange("e", bind_to=RabbitExchange("default"), routing_key="k"),
            "name the exchange in bind_to",
        ),
        (
            lambda: RabbitExchange("default", type=ExchangeType.FANOUT, auto_delete=True),
            "auto_delete, type without a name",
        ),
        (lambda: RabbitExchange(bind_to=RabbitExchange("e")), "bind_to without a name"),
        (lambda: RabbitRouter().subscriber(RabbitQueue("q", routing_key="logs.{level}")), "there is none"),
        (lambda: RabbitRouter().subscriber(RabbitQueue("q", bind_arguments={"a": 1})), "there is none"),
        (lambda: RabbitRouter().subscriber(RabbitQueue("q", routing_key="l.{level}"), "direct"), "ExchangeType.TOPIC"),
        (lambda: RabbitRouter().subscriber("q", channel=Channel(on_return_raises=True)), "only consumes"),
        (lambda: RabbitRouter().subscriber("q", channel=Channel(publisher_confirms=False)), "only consumes"),
        (lambda: RabbitRouter().publisher(RabbitQueue("q", routing_key="l.{level}"), "e"), "give routing_key="),
        (lambda: Channel(prefetch_count=0), "prefetch_count"),
        (lambda: Channel(publisher_confirms=False, on_return_raises=True), "publisher_confirms"),
        (lambda: RabbitRouter("http://localhost"), "http://localhost"),
        (lambda: RabbitRouter("amqp://localhost", security=SASLScram256("a", "b")), "SASLPlaintext"),
        (lambda: RabbitRouter("amqp://localhost", vhost="x"), "vhost"),
        (lambda: RabbitRouter().publisher(), "neither a queue"),
        (lambda: RabbitRouter().subscriber(), "empty"),
        (lambda: RabbitRouter().subscriber("q", max_workers=0), "max_workers"),
        (lambda: RabbitQueue(5), "name=5"),
        (lambda: RabbitQueue("q", queue_type="quorrum"), "none of classic, quorum, stream"),
        (lambda: RabbitQueue("q", arguments={"x-queue-type": "strem"}), "none of classic, quorum, stream"),
        (lambda: RabbitQueue("q", arguments={"x-queue-type": ["stream"]}), "none of classic, quorum, stream"),
        (lambda: RabbitQueue("q", arguments={"x-queue-type": "stream"}, durable=False), "durable"),
        (lambda: RabbitQueue("q", queue_type=QueueType.QUORUM, arguments={"x-queue-type": "stream"}), "contradicts"),
        (lambda: RabbitQueue("q", queue_type=QueueType.CLASSIC, arguments={"x-queue-type": "stream"}), "contradicts"),
        (lambda: RabbitQueue("q", declare=False, arguments={"x-single-active-consumer": "true"}), "no boolean"),
        (lambda: RabbitQueue("q", arguments={"x-single-active-consumer": 1}), "no boolean"),
        (lambda: RabbitQueue("q", durable="no"), "durable='no'"),
        (lambda: RabbitQueue("q", arguments=[1]), "arguments"),
        (lambda: RabbitQueue("q", arguments={"x-max-length": 2**70}), "arguments"),
        (lambda: RabbitQueue("q", arguments={"x" * 200: 1}), "128"),
        (lambda: RabbitQueue("q", routing_key=7), "routing_key=7"),
        (lambda: RabbitExchange("e", type="topik"), "none of direct, fanout, topic"),
        (lambda: RabbitExchange("e", bind_to="other"), "bind_to"),
        (lambda: RabbitExchange("e", auto_delete=1), "auto_delete=1"),
        (lambda: Channel(prefetch_count="5"), "prefetch_count"),
        (lambda: Channel(prefetch_count=True), "prefetch_count"),
        (lambda: Channel(publisher_confirms="yes"), "publisher_confirms"),
        (lambda: RabbitRouter(heartbeat=0), "heartbeat"),
        (lambda: RabbitRouter(heartbeat=70_000), "heartbeat"),
        (lambda: RabbitRouter("amqp://localhost?heartbeat=often"), "heartbeat"),
        (lambda: RabbitRouter(port=0), "port"),
        (lambda: RabbitRouter(timeout=None), "timeout"),
        (lambda: RabbitRouter(default_channel=5), "default_channel"),
        (lambda: RabbitRouter(virtualhost="v" * 128), "127"),
        (lambda: RabbitRouter(virtualhost=""), "virtualhost=''"),
        (lambda: RabbitRouter(app_id=""), "app_id=''"),
        (lambda: RabbitRouter().publisher("q", user_id=""), "user_id=''"),
        (lambda: RabbitRouter().publisher("q", expiration=1e300), "expiration=1e"),
        (lambda: RabbitRouter().publisher("q", expiration=float("inf")), "expiration=inf"),
        (lambda: RabbitRouter().publisher("q", timestamp=1e300), "timestamp=1e"),
        (lambda: RabbitRouter(timeout=Decimal(5)), "timeout="),
        (lambda: RabbitRouter(security="plain"), "security"),
        (lambda: RabbitRouter(publish_timeout=0), "publish_timeout"),
        (lambda: RabbitRouter().subscriber("q", consume_args={"x": object()}), "consume_args"),
        (lambda: RabbitRouter().subscriber("q", channel=3), "channel"),
        (lambda: RabbitRouter().subscriber("q", no_ack=True), "no_ack"),
        (lambda: RabbitRouter().subscriber(None), "queue=None"),
        (lambda: RabbitRouter().publisher("q", priority=256), "priority"),
        (lambda: RabbitRouter().publisher("q", timeout=0), "timeout"),
        (lambda: RabbitRouter().publisher("q", expiration=-1), "expiration"),
        (lambda: RabbitRouter().publisher("q", message_id="x"), "message_id"),
        (lambda: RabbitRouter().publisher(5), "queue=5"),
        (lambda: RabbitRouter().publisher("users.{uid}"), "is a parameter|belong into routing_key"),
        (lambda: RabbitRouter().publisher(exchange="e", routing_key="users.{uid}"), "is a parameter"),
        (lambda: RabbitResponse("x", priorty=3), "priority"),
        (lambda: RabbitResponse("x", exchange=5), "exchange"),
        # TLS that would not be used.
        (lambda: RabbitRouter("amqp://h", ssl_options={"cafile": "ca.pem"}), "amqps://"),
        (lambda: RabbitRouter("amqp://h", ssl_options={"no_verify_ssl": True}), "amqps://"),
        (lambda: RabbitRouter("amqp://h?cafile=ca.pem"), "amqps://"),
        (lambda: RabbitRouter("amqp://h", security=BaseSecurity(CONTEXT, use_ssl=False)), "amqps://"),
        (lambda: RabbitRouter("amqp://h", security=RabbitExternalAuth(CONTEXT, use_ssl=False)), "amqps://"),
        (lambda: RabbitRouter("amqps://h", security=BaseSecurity(CONTEXT), ssl_options={"cafile": "c"}), "context"),
        (lambda: RabbitRouter("amqps://h", ssl_options={"ca_file": "ca.pem"}), "cafile"),
    ],
)
def test_a_wrong_declaration_says_what_to_do(declare: Any, said: str) -> None:
    with pytest.raises(SetupError, match=said) as caught:
        declare()
    assert caught.value.fix


def test_the_texts_of_types_are_taken() -> None:
    assert RabbitQueue("q", queue_type="quorum").queue_type is QueueType.QUORUM  # type: ignore[arg-type]
    assert RabbitExchange("e", type="topic").type is ExchangeType.TOPIC  # type: ignore[arg-type]


@pytest.mark.parametrize("queue_type", QueueType)
def test_the_argument_of_the_type_is_the_type(queue_type: QueueType) -> None:
    for given in (queue_type, queue_type.value):
        queue = RabbitQueue("q", arguments={"x-queue-type": given, "x-max-age": "1D"})
        assert queue.queue_type is queue_type
        assert queue.declared_arguments() == {"x-queue-type": queue_type.value, "x-max-age": "1D"}
        assert replace(queue, name="other").queue_type is queue_type
        assert replace(queue, queue_type=queue_type) == queue
    assert RabbitQueue("q").queue_type is QueueType.CLASSIC


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("amqps://h", {"ssl_options": {"cafile": "ca.pem"}}),
        ("amqps://h?cafile=ca.pem", {}),
        ("amqp://h", {"ssl_options": {"cafile": "ca.pem"}, "security": BaseSecurity(use_ssl=True)}),
        ("amqp://h", {"security": BaseSecurity(CONTEXT)}),
        ("amqp://h", {"security": RabbitExternalAuth(CONTEXT)}),
        ("amqp://h", {"security": SASLPlaintext("a", "b", CONTEXT)}),
    ],
)
def test_tls_that_is_asked_for_is_used(url: str, options: dict[str, Any]) -> None:
    broker = RabbitBroker(url, **options)
    assert broker.address.startswith("amqps://")
    assert broker._address.url.scheme == "amqps"


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("q",), {"timeout": 0}, "timeout"),
        (("q",), {"priority": 256}, "priority"),
        (("q",), {"mandatry": True}, "mandatory"),
        (("q",), {"expiration": "soon"}, "expiration"),
        ((5,), {}, "queue=5"),
        (("q", 5), {}, "exchange=5"),
        (("q",), {"routing_key": 5}, "routing_key=5"),
        ((RabbitQueue("q", routing_key="logs.{level}"), "e"), {}, "give routing_key="),
    ],
)
async def test_wrong_options_of_one_message_say_what_to_do(
    arguments: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    router = RabbitRouter()
    publisher = router.publisher("elsewhere")
    async with TestRabbitBroker(router.broker) as broker:
        with pytest.raises(SetupError, match=said):
            await broker.publish("hi", *arguments, **options)
        with pytest.raises(SetupError, match=said):
            await publisher.publish("hi", *arguments, **options)


async def test_without_an_exchange_a_queue_is_published_to_by_its_name() -> None:
    router = RabbitRouter()
    queue, topic = RabbitQueue("q", routing_key="logs.{level}"), RabbitExchange("e", type=ExchangeType.TOPIC)
    elsewhere = RabbitQueue("elsewhere", routing_key="q")
    publishers = [router.publisher(queue), router.publisher(elsewhere)]
    seen: list[str] = []

    @router.subscriber(queue, topic)
    async def handler(msg: str) -> None:
        seen.append(msg)

    @router.subscriber("elsewhere")
    async def other(msg: str) -> None:
        seen.append(f"{msg} elsewhere")

    async with TestRabbitBroker(router.broker) as broker:
        await broker.publish("1", elsewhere)
        await publishers[1].publish("2")
        await publishers[0].publish("3", elsewhere)
        await broker.publish("4", RabbitQueue("x", routing_key="logs.info"), topic)
    assert seen == ["1 elsewhere", "2 elsewhere", "3 elsewhere", "4"]


@pytest.mark.parametrize(
    ("replies", "answered"),
    [
        ("plain", ["answers", INBOX]),
        ("inbox", [INBOX]),
        ("any", ["answers", "answers|amq.topic", "key|amq.rabbitmq.reply-to.x", INBOX, FORGED]),
        (["key|*"], ["key|amq.rabbitmq.reply-to.x"]),
        ("off", []),
    ],
)
async def test_who_is_answered(replies: Any, answered: list[str]) -> None:
    router = RabbitRouter(replies=replies)
    runs = 0

    @router.subscriber("q")
    async def handler(msg: str) -> str:
        nonlocal runs
        runs += 1
        return "answer"

    addresses = ["answers", "answers|amq.topic", "key|amq.rabbitmq.reply-to.x", INBOX, FORGED]
    async with TestRabbitBroker(router.broker) as broker:
        for address in addresses:
            await broker.publish("hi", "q", reply_to=address)
        sent = [one for address in addresses for one in broker.published(address.partition("|")[0])]
        refused = broker.report.counts.get("replies_refused", 0)
    assert runs == len(addresses)
    assert {f"{one.routing_key}|{one.exchange}".removesuffix("|") for one in sent} == set(answered)
    assert refused == (0 if replies == "off" else len(addresses) - len(answered))


async def test_publishing_to_nowhere_says_what_to_do() -> None:
    async with TestRabbitBroker(RabbitRouter().broker) as broker:
        with pytest.raises(SetupError, match="neither a queue"):
            await broker.publish("hi")


@pytest.mark.parametrize(
    "options",
    [{"correlation_id": "x" * 256}, {"headers": {"é" * 200: "x"}}, {"message_id": "x" * 999}],
)
async def test_what_amqp_can_not_carry_is_refused(options: dict[str, Any]) -> None:
    router = RabbitRouter()

    @router.subscriber("q")
    async def handler(msg: str) -> None: ...

    async with TestRabbitBroker(router.broker) as broker:
        with pytest.raises(PublishError):
            await broker.publish("hi", "q", **options)


@pytest.mark.parametrize(
    ("expiration", "milliseconds"),
    [(5, 5.0), (0.25, 0.25), (timedelta(minutes=1), 60.0), (datetime(2000, 1, 1, tzinfo=timezone.utc), 0.0)],
)
async def test_an_expiration_is_seconds_or_a_time(expiration: Any, milliseconds: float) -> None:
    async with TestRabbitBroker(RabbitRouter().broker) as broker:
        await broker.publish("hi", "q", expiration=expiration)
        (message,) = broker.published("q")
    assert message.raw_message.expiration == milliseconds


def test_one_number_sets_workers_and_prefetch() -> None:
    router = RabbitRouter(default_channel=Channel(prefetch_count=7))
    plain = RabbitRouter().subscriber("q")
    assert (plain.max_workers, plain.prefetch_count) == (100, 100)
    workers = RabbitRouter().subscriber("q", max_workers=3)
    assert (workers.max_workers, workers.prefetch_count) == (3, 3)
    inherited = router.subscriber("q")
    assert (inherited.max_workers, inherited.prefetch_count) == (7, 7)
    both = router.subscriber("q", max_workers=2, channel=Channel(prefetch_count=20))
    assert (both.max_workers, both.prefetch_count) == (2, 20)


@pytest.mark.parametrize(
    ("url", "options", "host", "protocol", "pathname"),
    [
        ("amqp://ann:s3cret@rabbit/", {}, "rabbit:5672", "amqp", ""),
        ("amqp://ann:s3cret@rabbit:1/shop", {}, "rabbit:1", "amqp", "/shop"),
        ("amqps://ann:s3cret@rabbit/shop?heartbeat=5", {}, "rabbit:5671", "amqps", "/shop"),
        ("amqp://rabbit", {"security": SASLPlaintext("ann", "s3cret", use_ssl=True)}, "rabbit:5671", "amqps", ""),
        ("amqp://a:b@x:9/v", {"host": "rabbit", "port": 7, "virtualhost": "shop"}, "rabbit:7", "amqp", "/shop"),
        ("amqp://rabbit", {"specification_url": "amqp://u:s3cret@public:1"}, "public:1", "amqp", ""),
    ],
)
def test_the_server_is_described_without_credentials(
    url: str, options: dict[str, Any], host: str, protocol: str, pathname: str
) -> None:
    broker = RabbitBroker(url, **options)
    (server,) = broker.servers()
    assert (server.host, server.protocol, server.pathname) == (host, protocol, pathname)
    assert server.protocol_version == "0.9.1"
    assert "s3cret" not in f"{server} {broker.address} {broker._address!r}"


@pytest.mark.parametrize(
    ("security", "scheme"),
    [
        (SASLPlaintext("ann", "s3cret"), {"type": "userPassword"}),
        (RabbitExternalAuth(ssl.create_default_context()), {"type": "X509"}),
        (BaseSecurity(use_ssl=True), None),
    ],
)
def test_security_is_in_the_document(security: BaseSecurity, scheme: dict[str, str] | None) -> None:
    (server,) = RabbitBroker("amqp://rabbit", security=security).servers()
    assert list(server.security.values()) == ([scheme] if scheme else [])
    assert "s3cret" not in repr(server)


def test_channels_and_bindings_are_in_the_document() -> None:
    router = RabbitRouter("amqp://rabbit/shop")
    topic = RabbitExchange("logs", type=ExchangeType.TOPIC)

    @router.subscriber("orders")
    @router.publisher("invoices", persist=False, priority=3, message_type="invoice")
    async def bill(order: dict[str, int]) -> dict[str, int]:
        return order

    @router.subscriber(RabbitQueue("errors", routing_key="logs.{level}"), topic)
    async def on_level(msg: str, level: str) -> None: ...

    @router.subscriber(RabbitQueue("everything", routing_key="#"), topic)
    @router.publisher("logs.copy", topic)
    async def on_all(msg: str) -> str:
        return msg

    document = router.schema.to_specification().to_jsonable()
    channels = {one["address"] or one["title"]: one for one in document["channels"].values()}
    assert channels["orders"]["bindings"]["amqp"] == {
        "is": "queue",
        "queue": {"name": "orders", "durable": True, "exclusive": False, "autoDelete": False, "vhost": "shop"},
        "bindingVersion": "0.3.0",
    }
    assert list(channels["logs.{level}"]["parameters"]) == ["level"]
    assert channels["everything"]["address"] is None
    assert channels["everything"]["x-pattern"] == "#"
    assert channels["logs.copy"]["bindings"]["amqp"]["exchange"] == {
        "name": "logs",
        "type": "topic",
        "durable": True,
        "autoDelete": False,
        "vhost": "shop",
    }
    sending = next(one for one in document["operations"].values() if one["channel"]["$ref"].endswith("/invoices"))
    assert sending["bindings"]["amqp"] == {
        "deliveryMode": 1,
        "mandatory": True,
        "priority": 3,
        "bindingVersion": "0.3.0",
    }


async def test_options_of_one_message_are_checked() -> None:
    broker = RabbitBroker()
    publisher = broker.publisher(queue="q")
    wrong: Any = {"mandatry": 3}
    with pytest.raises(SetupError, match=r"RabbitResponse: the option 'mandatry' does not exist; use 'mandatory'"):
        RabbitResponse("x", **wrong)
    with pytest.raises(SetupError, match=r"publish\(\): the option 'mandatry' does not exist"):
        await broker.publish("x", queue="q", **wrong)
    with pytest.raises(SetupError, match=r"publish\(\): the option 'mandatry' does not exist"):
        await publisher.publish("x", **wrong)
    untyped: Any = {"mandatory": "yes"}
    with pytest.raises(SetupError, match=r"RabbitResponse: mandatory='yes' is none of"):
        RabbitResponse("x", **untyped)
    with pytest.raises(SetupError, match=r"publish\(\): mandatory='yes' is none of"):
        await broker.publish("x", queue="q", **untyped)


WRONG: list[Any] = [3, b"x", ["x"], [], {}, {"x": 1}, object(), True, 1.5]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: repr(one).partition(" at 0x")[0])
@pytest.mark.parametrize(
    ("name", "declare"),
    [
        ("url", RabbitBroker),
        ("url", RabbitRouter),
        ("host", lambda wrong: RabbitBroker(host=wrong)),
        ("virtualhost", lambda wrong: RabbitRouter(virtualhost=wrong)),
        ("queue", lambda wrong: RabbitBroker().subscriber(wrong)),
        ("queue", lambda wrong: RabbitBroker().publisher(wrong)),
        ("exchange", lambda wrong: RabbitRouter().subscriber("q", wrong)),
        ("exchange", lambda wrong: RabbitRouter().publisher("q", wrong)),
        ("channel", lambda wrong: RabbitBroker().subscriber("q", channel=wrong)),
    ],
)
def test_an_argument_of_another_type_is_named(name: str, declare: Any, wrong: Any) -> None:
    with pytest.raises(SetupError, match=rf"(?i)\b{name}="):
        declare(wrong)


@pytest.mark.parametrize("text", ["", "a b", "a\nb", "\x00", "\ud800", "[::1", "amqp://x"])
def test_a_host_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SetupError, match="host="):
        RabbitBroker(host=text)


def test_an_empty_url_is_none() -> None:
    with pytest.raises(SetupError, match="the URL is empty"):
        RabbitBroker("")


def test_a_virtual_host_is_text() -> None:
    with pytest.raises(SetupError, match="virtualhost="):
        RabbitBroker(virtualhost="\ud800")


@pytest.mark.parametrize(("typo", "meant"), [("header", "headers"), ("routing_kye", "routing_key")])
async def test_what_publish_takes_is_known_to_its_errors(typo: str, meant: str) -> None:
    with pytest.raises(SetupError, match=f"use '{meant}'"):
        await RabbitBroker().publish(1, "q", **{typo: "x"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        ("a.{x}", "b.{x}", True),
        ("a.{x}", "", True),
        ("a.*", "{x}.b", True),
        ("a.{x}", "a.{x}", False),
        ("a.*", "b.*", False),
    ],
)
async def test_who_shares_a_queue_can_read_all_of_it(first: str, second: str, is_refused: bool) -> None:
    """What one of them could not read it would reject, and the other would never see it."""
    router, other, exchange = RabbitRouter(), RabbitRouter(), RabbitExchange("topics", type=ExchangeType.TOPIC)

    @router.subscriber(RabbitQueue("q", routing_key=first), exchange)
    async def handler(msg: str) -> None: ...

    @other.subscriber(RabbitQueue("q", routing_key=second), exchange)
    async def competing(msg: str) -> None: ...

    router.include_router(other)
    if not is_refused:
        async with TestRabbitBroker(router.broker):
            return
    with pytest.raises(SetupError, match="a queue gives any message to any of its readers"):
        await router.broker.start()
    with pytest.raises(SetupError, match="a queue gives any message to any of its readers"):
        async with TestRabbitBroker(router.broker):
            pass
