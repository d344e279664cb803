"""What can be declared, what is refused and with which words, and what the document says of it."""

from typing import Any

import pytest
from fastapi_stream_core.security import SASLScram256
from fastapi_stream_nats import (
    BaseSecurity,
    ConsumerConfig,
    JStream,
    NatsBroker,
    NatsRouter,
    NatsToken,
    NatsUserPassword,
    PullSub,
    SASLPlaintext,
    SetupError,
)
from nats.js.api import AckPolicy as ConsumerAckPolicy


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda router: router.subscriber(), "it has no subject"),
        (lambda router: router.subscriber("a..b"), "is no subject"),
        (lambda router: router.subscriber("a.>.b"), "is no subject"),
        (lambda router: router.subscriber("a b"), "is no subject"),
        (lambda router: router.subscriber("a", durable="d"), "durable= is an option of JetStream"),
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
        (lambda router: router.subscriber("a", stream="s", durable="a.b"), "'a.b' is no name of a consumer"),
        (lambda router: router.subscriber("a", stream="a.b"), "a stream's name has no dots"),
        (lambda router: router.subscriber("a", max_workers=0), "max_workers=0"),
        (lambda router: router.subscriber("a", durabel="x"), "use 'durable'"),
        (lambda router: router.subscriber("{a}.{a}"), "is there twice"),
        (lambda router: router.publisher("a.*"), "it has wildcards"),
        (lambda router: router.publisher(""), "it is empty"),
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
