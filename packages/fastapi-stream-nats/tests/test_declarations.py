"""What can be declared, what is refused and with which words, and what the document says of it."""

import re
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from fastapi_stream_core.security import SASLScram256
from fastapi_stream_nats import (
    AckPolicy,
    BaseSecurity,
    ConsumerConfig,
    DeliverPolicy,
    JStream,
    NatsBroker,
    NatsResponse,
    NatsRouter,
    NatsToken,
    NatsUserPassword,
    Placement,
    PullSub,
    SASLPlaintext,
    SetupError,
    TestNatsBroker,
)
from nats.js.api import AckPolicy as ConsumerAckPolicy


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda router: router.subscriber(), "it has no subject"),
        (lambda router: router.subscriber("a..b"), "is no subject"),
        (lambda router: router.subscriber("a.>.b"), "is no subject"),
        (lambda router: router.subscriber("a", stream="s", batch=True), r"PullSub\(batch=True\)"),
        (lambda router: router.publisher("users.{uid}"), r"\{uid\} is a parameter"),
        (lambda router: router.publisher("users.{uid}", stream="s"), r"\{uid\} is a parameter"),
        (lambda router: router.subscriber("a b"), "is no subject"),
        (lambda router: router.subscriber("a", durable="d"), "durable= is an option of JetStream"),
        (lambda router: router.publisher("a", stream=JStream("s", no_ack=True)), "confirms nothing"),
        (lambda router: router.subscriber("a", pull_sub=True), "pull_sub= is an option of JetStream"),
        (lambda router: router.subscriber("a", config=ConsumerConfig()), "config= is an option of JetStream"),
        (
            lambda router: router.subscriber(
                "a", stream="s", config=ConsumerConfig(ack_policy=ConsumerAckPolicy.ALL), durable="d"
            ),
            "ack_policy=ALL",
        ),
        (
            lambda router: router.subscriber("a", stream="s", config=ConsumerConfig(durable_name="e"), durable="d"),
            "config.durable_name differ",
        ),
        (
            lambda router: router.subscriber("a.*", stream="s", config=ConsumerConfig(filter_subject="a.eu")),
            r"config.filter_subject names 'a.eu', and the subscriber 'a.\*'",
        ),
        (
            lambda router: router.subscriber("a.*", stream="s", config=ConsumerConfig(filter_subjects=["a.*", "b"])),
            r"config.filter_subjects names 'a.\*', 'b', and the subscriber 'a.\*'",
        ),
        (
            lambda router: router.subscriber("a", "q", stream="s", config=ConsumerConfig(deliver_group="p")),
            "config.deliver_group='p' and queue='q' differ; give queue='p'",
        ),
        (
            lambda router: router.subscriber(
                "a",
                stream="s",
                deliver_policy=DeliverPolicy.ALL,
                config=ConsumerConfig(deliver_policy=DeliverPolicy.NEW),
            ),
            r"deliver_policy=.*all.* and config.deliver_policy=.*new.* differ; give it once",
        ),
        (
            lambda router: router.subscriber("a", stream="s", durable="d", config=ConsumerConfig(deliver_group="p")),
            "config.deliver_group='p' and queue='' differ",
        ),
        (
            lambda router: router.subscriber(
                "a", stream="s", pull_sub=True, config=ConsumerConfig(deliver_subject="b"), durable="d"
            ),
            "config.deliver_subject makes a consumer that pushes, and pull_sub= asks",
        ),
        (
            lambda router: router.subscriber(
                "a", "q", stream="s", pull_sub=PullSub(), config=ConsumerConfig(deliver_group="q")
            ),
            "config.deliver_group makes a consumer that pushes",
        ),
        (lambda router: router.subscriber("a", stream="s", durable="a.b"), "'a.b' is no name of a consumer"),
        (lambda router: router.subscriber("a", stream="a.b"), "a stream's name has no dots"),
        (lambda router: router.subscriber("a", max_workers=0), "max_workers=0"),
        (lambda router: router.subscriber("a", durabel="x"), "use 'durable'"),
        (lambda router: router.subscriber("{a}.{a}"), "is there twice"),
        (lambda router: router.subscriber("a", "two words"), "queue='two words' has spaces"),
        (lambda router: router.subscriber("a", "q\n"), "has spaces or control characters"),
        (lambda router: router.subscriber("a", config={}), "config={} is none of ConsumerConfig, None"),
        (lambda router: router.subscriber("a", stream="s", config={"max_deliver": 3}), "is none of ConsumerConfig"),
        (lambda router: router.subscriber("a", stream=3), "stream=3 is none of JStream, a text, None"),
        (lambda router: router.subscriber("a", stream=""), "has no dots"),
        (lambda router: router.subscriber("a", stream="s", deliver_policy="new"), "use DeliverPolicy.NEW"),
        (lambda router: router.subscriber("a", stream="s", pull_sub="yes"), "pull_sub='yes' is none of"),
        (
            lambda router: router.subscriber("a", stream="s", durable=3),
            "durable=3 is none of a text that is not empty, None",
        ),
        (lambda router: router.subscriber("a", stream="s", durable=""), "durable='' is none of"),
        (lambda router: router.subscriber("a", stream="s", durable="", pull_sub=True), "durable='' is none of"),
        (lambda router: NatsRouter(inbox_prefix="é"), "finds no inbox that is not ASCII"),
        (lambda router: NatsRouter(inbox_prefix=""), "inbox_prefix='' is not"),
        (lambda router: NatsRouter(name=""), "name='' is none of"),
        (lambda router: NatsRouter(tls_hostname=""), "tls_hostname='' is none of"),
        (lambda router: PullSub(timeout=1e300), "timeout=1e\\+300"),
        (lambda router: PullSub(2**31), "batch_size=2147483648"),
        (lambda router: JStream("s", max_age=float("inf")), "max_age=inf"),
        (lambda router: JStream("s", max_msgs=2**63), "max_msgs=9223372036854775808"),
        (lambda router: router.subscriber("a", stream="s", pending_msgs_limit=5), "is an option of NATS core"),
        (lambda router: router.subscriber("a", stream="s", pending_bytes_limit=5), "use prefetch_bytes="),
        (lambda router: router.subscriber("a", pending_msgs_limit=-1), "a whole number of at least 0"),
        (lambda router: router.subscriber("a", ack_policy=AckPolicy.ACK), "NATS core knows no acknowledgements"),
        (lambda router: router.subscriber("a", ack_policy="manual"), "ack_policy='manual' is none of"),
        (
            lambda router: router.subscriber(
                "a", stream="s", ack_policy=AckPolicy.ACK, config=ConsumerConfig(ack_policy=ConsumerAckPolicy.NONE)
            ),
            "config.ack_policy says that nothing is acknowledged",
        ),
        (lambda router: JStream(3), "name=3 is none of a text"),  # type: ignore[arg-type]
        (lambda router: JStream("s", retention="workqueue"), "use RetentionPolicy.WORK_QUEUE"),  # type: ignore[arg-type]
        (lambda router: JStream("s", max_msgs="7"), "max_msgs='7' is none of a whole number"),  # type: ignore[arg-type]
        (lambda router: JStream("s", subjects="a.*"), "subjects='a.\\*' is none of a list of text"),
        (lambda router: JStream("s", subjects=["a..b"]), "'a..b' is no subject"),
        (lambda router: JStream("s", placement={"cluster": "x"}), "is none of Placement"),  # type: ignore[arg-type]
        (lambda router: PullSub("many"), "batch_size='many'"),  # type: ignore[arg-type]
        (lambda router: PullSub(timeout=None), "timeout=None"),  # type: ignore[arg-type]
        (lambda router: router.publisher("a", timeout=0), "timeout=0 is none of a number of more than 0"),
        (lambda router: router.publisher("a", stream=JStream), "stream=.* is none of JStream"),
        (lambda router: NatsRouter(ping_interval=0), "ping_interval=0 is not a number of more than 0"),
        (lambda router: NatsRouter(connect_timeout=None), "connect_timeout=None is not a number"),
        (lambda router: NatsRouter(max_outstanding_pings=0), "a whole number of at least 1"),
        (lambda router: NatsRouter(inbox_prefix="a b"), "inbox_prefix='a b' is no subject"),
        (lambda router: NatsRouter(inbox_prefix=b"_INBOX"), "is not a text"),
        (lambda router: NatsRouter(closed_cb=lambda: None), "is not async; write it as `async def`"),
        (lambda router: NatsRouter(error_cb=3), "error_cb=3 is none of a callable, None"),
        (lambda router: router.publisher("a.*"), "it has wildcards"),
        (lambda router: router.publisher(""), "it is empty"),
        (lambda router: router.publisher(), "it is empty"),
        (lambda router: router.publisher("a", stream=JStream("s"), tiemout=1), "use 'timeout'"),
        (lambda router: PullSub(0), "batch_size=0"),
        (lambda router: PullSub(timeout=0), "timeout=0"),
        (lambda router: NatsRouter([]), "there is no server"),
        (lambda router: NatsRouter("nats://u:secret@host:port"), "is no address"),
        (lambda router: NatsRouter("http://u:secret@host"), "is no address"),
        (lambda router: NatsRouter("nats://u:secret@host", security=NatsToken("secret")), "give them in one place"),
        (lambda router: NatsRouter(security=SASLScram256("u", "secret")), "NATS does not know it"),
        (lambda router: NatsRouter(max_reconnect_attempts=1), "max_reconnect_attempts"),
    ],
)
def test_a_wrong_declaration_is_refused(declare: Any, words: str) -> None:
    with pytest.raises(SetupError, match=words) as caught:
        declare(NatsRouter())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("subject", ["a.*", "a.{name}"])
def test_what_config_says_again_is_taken(subject: str) -> None:
    for config in (
        ConsumerConfig(filter_subject="a.*"),
        ConsumerConfig(filter_subjects=["a.*"], deliver_group="q", deliver_policy=DeliverPolicy.NEW),
    ):
        assert NatsRouter().subscriber(
            subject, config.deliver_group or "", stream="s", config=config, deliver_policy=DeliverPolicy.NEW
        ).filters == ["a.*"]


async def refusal(broker: NatsBroker) -> str:
    """What a start says, on a server, which is none, and in memory."""
    said = set()
    for start in (broker.start, TestNatsBroker(broker).__aenter__):
        with pytest.raises(SetupError) as caught:
            await start()
        said.add(str(caught.value))
    with pytest.raises(SetupError), TestNatsBroker(broker):
        pass
    (text,) = said
    return text


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "q"},
        {"durable": "q", "pull_sub": True},
        {"durable": "q"},
        {"queue": "q", "pull_sub": PullSub(5)},
        {"config": ConsumerConfig(name="q")},
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["one router", "two routers"])
async def test_a_consumer_has_one_set_of_subjects(options: dict[str, Any], apart: bool) -> None:
    broker = NatsBroker()
    first, second = (NatsRouter(broker), NatsRouter(broker)) if apart else (broker, broker)

    @first.subscriber("s.created", stream="s", **options)
    async def created(msg: str) -> None: ...

    @second.subscriber("s.deleted", stream=JStream("s"), **options)
    async def deleted(msg: str) -> None: ...

    said = await refusal(broker)
    assert said.startswith("subscriber('s.deleted'): subscriber('s.created') reads the consumer 'q' of the stream 's'")


async def test_who_reads_the_same_may_share_a_consumer_and_a_queue_of_core_has_none() -> None:
    broker = NatsBroker()
    seen: list[str] = []

    async def handler(msg: str) -> None:
        seen.append(msg)

    for subject in ("s.*", "s.{kind}"):
        broker.subscriber(subject, stream="s", durable="d", pull_sub=True)(handler)
    broker.subscriber("t.*", stream="t", durable="d", pull_sub=True)(handler)
    for subject in ("c.one", "c.two"):
        broker.subscriber(subject, "d")(handler)
    async with TestNatsBroker(broker):
        for subject in ("s.a", "s.b", "t.a", "c.one", "c.two"):
            await broker.publish(subject, subject)
    assert seen == ["s.a", "s.b", "t.a", "c.one", "c.two"]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (JStream("s", max_age=3600), JStream("s", max_msgs=10), "has max_msgs=10, and that of .* has max_msgs=None"),
        (JStream("s", max_msgs=5), JStream("s", max_msgs=10), "has max_msgs=10, and that of .* has max_msgs=5"),
        (JStream("s", declare=False), JStream("s", max_msgs=10), "has max_msgs=10, and that of .* has max_msgs=None"),
    ],
)
async def test_a_stream_has_one_configuration(first: JStream, second: JStream, words: str) -> None:
    broker = NatsBroker()

    @broker.subscriber("one", stream=first)
    @broker.publisher("two", stream=second)
    async def handler(msg: str) -> str:
        return msg

    said = await refusal(broker)
    assert re.search(r"publisher\('two'\): its JStream\('s'\) " + words, said)
    assert "subscriber('one')" in said


async def test_a_stream_may_be_named_again() -> None:
    broker = NatsBroker()
    full = {"max_msgs": 10, "placement": Placement("c")}
    streams = ["s", JStream("s", **full), JStream("s", **full, subjects=["x"]), JStream("s", subjects=["y"])]  # type: ignore[arg-type]

    async def handler(msg: str) -> None: ...

    for number, stream in enumerate(streams):
        broker.subscriber(f"s.{number}", stream=stream)(handler)
    async with TestNatsBroker(broker):
        assert (await broker.publish("m", "y", stream="s")).seq == 1


def test_a_stream_may_be_read_by_several_filters() -> None:
    router = NatsRouter()
    config = ConsumerConfig(filter_subjects=["a.*", "b"])
    subscriber = router.subscriber(stream="s", config=config, pull_sub=True)
    first, second = subscriber.describe()
    assert (first.address, first.name, first.extensions) == (None, "a.*", {"x-pattern": "a.*"})
    assert (second.address, second.name, second.extensions) == ("b", "b", {})


def test_attempts_are_bounded_by_the_consumer_too() -> None:
    router = NatsRouter()
    assert router.subscriber("a", stream="s", config=ConsumerConfig(max_deliver=3)).retry.attempts == 3
    assert router.subscriber("a", stream="s", config=ConsumerConfig(max_deliver=30)).retry.attempts == 5
    assert router.subscriber("a", stream="s").retry.attempts == 5


def test_the_document_shows_subjects_queues_and_streams() -> None:
    router = NatsRouter("nats://localhost:4222")

    @router.subscriber("users.{uid}.>", queue="workers")
    async def on_user(uid: int) -> None: ...

    @router.subscriber("orders", stream="shop", durable="billing", pull_sub=True)
    @router.publisher("bills", stream="shop")
    async def on_order(order: dict[str, int]) -> str:
        return ""

    document = router.schema.to_specification().to_jsonable()
    channels = {one["address"]: one for one in document["channels"].values()}
    assert set(channels) - {None} == {"users.{uid}.>", "orders", "bills"}
    assert set(channels["users.{uid}.>"]["parameters"]) == {"uid"}
    bindings = {name: one["bindings"]["nats"] for name, one in document["operations"].items()}
    assert bindings["on_user"] == {"bindingVersion": "0.1.0", "queue": "workers"}
    assert bindings["on_order"] == {
        "bindingVersion": "0.1.0",
        "x-stream": "shop",
        "x-delivery": "pull",
        "x-durable": "billing",
    }
    assert bindings["send_bills"] == {"bindingVersion": "0.1.0", "x-stream": "shop"}


def test_servers_are_shown_without_credentials() -> None:
    broker = NatsBroker(["nats://ann:secret@one:4222", "tls://token@two", "three"])
    one, two, three = broker.servers()
    assert [server.host for server in (one, two, three)] == ["one:4222", "two:4222", "three:4222"]
    assert [list(server.security) for server in (one, two, three)] == [["userPassword"], ["apiKey"], []]
    assert "secret" not in repr(broker.servers())
    assert "token" not in repr(broker.servers())


class Callback:
    async def __call__(self) -> None: ...


async def callback(text: str = "") -> None: ...


@pytest.mark.parametrize("closed_cb", [callback, partial(callback, "closed"), Callback()])
def test_what_is_async_is_a_callback(closed_cb: Any) -> None:
    assert NatsBroker(closed_cb=closed_cb).options["closed_cb"] is closed_cb


@pytest.mark.parametrize("timeout", [0, -1, "1", True, float("nan"), float("inf"), 1e300, Decimal(5)])
async def test_a_publication_has_time(timeout: Any) -> None:
    broker = NatsBroker()
    publisher = broker.publisher("a", stream="s")
    for publish in (broker.publish, publisher.publish):
        with pytest.raises(SetupError, match="is no number of seconds"):
            await publish("x", "a", timeout=timeout)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("security", "scheme"),
    [
        (BaseSecurity(use_ssl=True), []),
        (SASLPlaintext("ann", "secret"), ["userPassword"]),
        (NatsUserPassword("ann", "secret"), ["userPassword"]),
        (NatsToken("secret"), ["apiKey"]),
    ],
)
def test_security_is_shown_and_never_told(security: BaseSecurity, scheme: list[str]) -> None:
    broker = NatsBroker("one", security=security)
    assert list(broker.servers()[0].security) == scheme
    assert "secret" not in repr(broker.servers()) + repr(security) + repr(broker)


async def test_what_is_published_with_an_option_that_does_not_exist() -> None:
    router = NatsRouter()
    publish: Any
    for publish in (router.broker.publish, router.publisher("a").publish):
        with pytest.raises(SetupError, match=r"the option 'header' does not exist; use 'headers'"):
            await publish("hi", header={"a": "b"})


@pytest.mark.parametrize("stream", ["s", JStream("s")])
async def test_one_message_names_its_stream_by_text_or_object(stream: Any) -> None:
    broker = NatsBroker()
    publisher = broker.publisher("a")

    @broker.subscriber("a", stream="s")
    @broker.publisher("b")
    async def handler(msg: str) -> NatsResponse:
        return NatsResponse(msg)

    async with TestNatsBroker(broker):
        assert (await broker.publish("1", "a", stream=stream)).stream == "s"
        confirmed = await publisher.publish("2", stream=stream)
        assert confirmed is not None
        assert confirmed.seq == 2
        assert NatsResponse("3", stream=stream).options == {"stream": "s"}


@pytest.mark.parametrize("stream", [3, "", JStream, b"s"])
async def test_what_names_no_stream_is_refused(stream: Any) -> None:
    broker = NatsBroker()
    publisher = broker.publisher("a")
    async with TestNatsBroker(broker):
        for publish in (broker.publish, publisher.publish):
            with pytest.raises(SetupError, match=r"stream=.* names no stream"):
                await publish("x", "a", stream=stream)
