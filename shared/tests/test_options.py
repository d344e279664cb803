"""Options: a wrong one is refused at its declaration, and the error says what would be right."""

import asyncio
import logging
import math
import types
from collections import ChainMap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from typing import Annotated, Any, Literal
from uuid import uuid4

import pytest
from annotated_types import Ge, Le
from fastapi import Depends
from fastapi_stream_core import AckPolicy, NackMessage, Response, SetupError
from fastapi_stream_core.options import (
    BrokerOptions,
    Option,
    PublisherOptions,
    SubscriberOptions,
    _type_of,
    check_given,
    declared,
    resolve,
)
from fastapi_stream_core.security import BaseSecurity, SASLPlaintext
from fastapi_stream_core.testing.reference import LocalBroker, LocalRouter, TestLocalBroker
from pydantic import BaseModel
from typing_extensions import TypedDict


class Other(Enum):
    MANUAL = "manual"


class Text(str, Enum):
    NEW = "new"


class Odd(TypedDict, total=False):
    start: Annotated[Text | None, Option(None, "where to begin")]
    acks: Annotated[Literal[0, 1, "all"], Option("all", "replicas")]
    priority: Annotated[Annotated[int, Ge(0), Le(255)] | None, Option(None, "from 0 to 255")]
    api_token: Annotated[int, Option(0, "a number that nobody should see")]
    pin: Annotated[int, Option(0, "a number that nobody should see", secret=True)]
    exporter: Annotated[type[logging.Handler], Option(logging.StreamHandler, "a class")]
    tags: Annotated[dict[str, int] | None, Option(None, "numbers by name")]


def refusal(declaration: type, **given: Any) -> str:
    with pytest.raises(SetupError) as caught:
        resolve(declaration, given, "it")
    return str(caught.value)


@pytest.mark.parametrize("value", ["manual", "MANUAL", Other.MANUAL, "AckPolicy.MANUAL"])
def test_an_ack_policy_is_one_of_ours(value: object) -> None:
    said = refusal(SubscriberOptions, ack_policy=value)
    assert "ack_policy=" in said
    assert all(f"AckPolicy.{member.name}" in said for member in AckPolicy)
    assert said.endswith("use AckPolicy.MANUAL.")


@pytest.mark.parametrize(
    ("declaration", "name", "value", "wanted"),
    [
        (SubscriberOptions, "ack_policy", 3, "AckPolicy.ACK_FIRST"),
        (SubscriberOptions, "max_workers", True, "a whole number of at least 1 and of at most 2147483647, None"),
        (SubscriberOptions, "max_workers", 0, "a whole number of at least 1 and of at most 2147483647, None"),
        (SubscriberOptions, "max_workers", "3", "a whole number of at least 1 and of at most 2147483647, None"),
        (SubscriberOptions, "prefetch_bytes", None, "not a whole number of at least 1"),
        (SubscriberOptions, "no_reply", 1, "True, False"),
        (SubscriberOptions, "replies", "of", "use 'off'"),
        (SubscriberOptions, "replies", [3], "a list of text"),
        (SubscriberOptions, "response_model_include", 3, "set, frozenset, a mapping, a list of anything, None"),
        (SubscriberOptions, "response_model_exclude", "name", "set, frozenset, a mapping, a list of anything, None"),
        (SubscriberOptions, "dependencies", [print], "a list of Depends"),
        (SubscriberOptions, "dependencies", Depends(print), "a list of Depends"),
        (SubscriberOptions, "title", b"t", "a text, None"),
        (PublisherOptions, "headers", [("a", "b")], "a mapping, None"),
        (PublisherOptions, "headers", {1: "b"}, "a mapping, None"),
        (BrokerOptions, "publish_timeout", None, "not a number of more than 0"),
        (BrokerOptions, "publish_timeout", 0, "not a number of more than 0"),
        (BrokerOptions, "publish_timeout", True, "not a number of more than 0"),
        (BrokerOptions, "startup_timeout", float("nan"), "not a number of more than 0"),
        (BrokerOptions, "graceful_timeout", -1, "a number of at least 0 and of at most 1000000, None"),
        (BrokerOptions, "log_level", "INFO", "not a whole number of at least 0"),
        (BrokerOptions, "logger", print, "Logger, LoggerAdapter, ..., None"),
        (BrokerOptions, "id_generator", "uuid", "a callable, None"),
        (BrokerOptions, "specification_tags", "eu", "a list of anything"),
        (Odd, "acks", True, "0, 1, 'all'"),
        (Odd, "acks", "al", "use 'all'"),
        (Odd, "acks", [], "0, 1, 'all'"),
        (Odd, "priority", 256, "a whole number of at least 0 and of at most 255, None"),
        (Odd, "exporter", logging.Filter, "a class derived from Handler"),
        (Odd, "tags", {"a": "1"}, "a mapping, None"),
        (Odd, "start", "new", "use Text.NEW"),
    ],
)
def test_a_wrong_value_is_refused(declaration: type, name: str, value: object, wanted: str) -> None:
    said = refusal(declaration, **{name: value})
    assert said.startswith(f"it: {name}=")
    assert wanted in said


@pytest.mark.parametrize(
    ("declaration", "given"),
    [
        (SubscriberOptions, {"ack_policy": AckPolicy.ACK, "max_workers": 3, "dependencies": (Depends(print),)}),
        (SubscriberOptions, {"replies": ["a.*"], "max_workers": None, "response_model": None}),
        (SubscriberOptions, {"response_model_include": {"a"}, "response_model_exclude": {"a": {"b": True}}}),
        (SubscriberOptions, {"response_model_include": ["a"], "response_model_exclude": frozenset("a")}),
        (PublisherOptions, {"headers": types.MappingProxyType({"a": object()})}),
        (PublisherOptions, {"headers": ChainMap({"a": 1})}),
        (BrokerOptions, {"publish_timeout": 3, "graceful_timeout": None, "startup_timeout": 1_000_000}),
        (BrokerOptions, {"logger": None}),
        (BrokerOptions, {"logger": logging.LoggerAdapter(logging.getLogger("mine"), {})}),
        (BrokerOptions, {"id_generator": lambda: "1", "specification_url": ["a", "b"]}),
        (Odd, {"start": Text.NEW}),
        (Odd, {"acks": 0, "priority": 255, "exporter": logging.NullHandler, "tags": {"a": 1}}),
    ],
)
def test_a_right_value_is_kept_as_it_is(declaration: type, given: dict[str, Any]) -> None:
    resolved = resolve(declaration, given, "it")
    assert all(resolved[name] is value for name, value in given.items())


@pytest.mark.parametrize(
    ("declaration", "name", "value"),
    [
        (Odd, "api_token", "s3cret"),
        (Odd, "pin", "s3cret"),
        (BrokerOptions, "security", "s3cret"),
        (BrokerOptions, "security", {"password": "s3cret"}),
        (BrokerOptions, "specification_url", ["amqp://u:s3cret@host", 3]),
        (BrokerOptions, "context", SASLPlaintext("ann", "s3cret")),
    ],
)
def test_secrets_are_not_quoted(declaration: type, name: str, value: object) -> None:
    assert "s3cret" not in refusal(declaration, **{name: value})


def test_what_is_quoted_is_short_and_never_fails() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert len(refusal(SubscriberOptions, ack_policy="x" * 10_000)) < 500
    assert "Rude" in refusal(SubscriberOptions, ack_policy=Rude())


def test_an_unknown_option_names_the_closest_one() -> None:
    assert "use 'publish_timeout'" in refusal(BrokerOptions, publish_timout=3)
    with pytest.raises(SetupError, match=r"it: the option 'titel' does not exist; use 'title'"):
        check_given(PublisherOptions, {"titel": "x"}, "it")
    check_given(PublisherOptions, {"title": "x"}, "it")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prefx": "/a"}, "'prefx' does not exist; use 'prefix'"),
        ({"graceful_timeut": 3}, "use 'graceful_timeout'"),
        ({"client_idd": "a"}, "LocalRouter: the option 'client_idd' does not exist"),
        ({"setup_state": "no"}, "setup_state='no' is none of True, False"),
        ({"schema_url": 3}, "schema_url=3"),
        ({"prefix": "a"}, "prefix"),
        ({"logger": "root"}, "logger='root'"),
    ],
)
def test_routers_refuse_too(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SetupError, match=words):
        LocalRouter(**given)


def test_subscribers_and_publishers_refuse_too() -> None:
    router = LocalRouter()
    with pytest.raises(SetupError, match=r"subscriber\('a'\): ack_policy='manual'"):
        router.subscriber("a", ack_policy="manual")  # type: ignore[typeddict-item]
    with pytest.raises(SetupError, match=r"publisher\('a'\): title=3"):
        router.publisher("a", title=3)  # type: ignore[typeddict-item]
    assert (router.broker.subscribers, router.broker.publishers) == ([], [])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"no_reply": True, "replies": "any"}, "replies='any' has no effect with no_reply=True"),
        ({"no_reply": True, "replies": ["a.*"]}, "no effect with no_reply=True"),
        ({"replies": "inbox"}, "local has no inboxes"),
    ],
)
def test_answers_that_can_not_be_are_refused_at_the_declaration(given: dict[str, Any], words: str) -> None:
    router = LocalRouter()
    with pytest.raises(SetupError, match=words):
        router.subscriber("a", **given)
    assert router.broker.subscribers == []
    router.subscriber("a", no_reply=True, replies="off")


@pytest.mark.parametrize("make", [LocalBroker, LocalRouter])
def test_a_broker_without_inboxes_refuses_to_answer_them(make: Any) -> None:
    with pytest.raises(SetupError, match="LocalBroker: replies='inbox' has no meaning"):
        make(replies="inbox")


@pytest.mark.parametrize(
    "given",
    [
        {"response_model": None, "response_model_include": {"a"}},
        {"response_model_exclude_none": True},
        {"response_model_by_alias": False},
    ],
)
def test_what_is_said_of_a_response_model_needs_one(given: dict[str, Any]) -> None:
    router = LocalRouter()

    def plain(msg: str): ...  # type: ignore[no-untyped-def]

    with pytest.raises(SetupError, match="has no effect without a response model"):
        router.subscriber("a", **given)(plain)
    router.subscriber("b", response_model=None)(plain)


def test_the_type_of_an_option_is_read_once_and_only_if_it_is_given() -> None:
    _type_of.cache_clear()
    for _ in range(100):
        resolve(SubscriberOptions, {"max_workers": 3}, "it")
    assert _type_of.cache_info().misses == 1


async def test_an_adapter_is_a_logger(caplog: pytest.LogCaptureFixture) -> None:
    class Prefixed(logging.LoggerAdapter):  # type: ignore[type-arg]
        def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
            return f"[mine] {msg}", kwargs

    broker = LocalBroker(logger=Prefixed(logging.getLogger("mine"), {}))

    @broker.subscriber("a")
    async def handle(msg: str) -> None:
        if msg == "fail":
            raise ValueError(msg)

    from fastapi_stream_core.testing.reference import TestLocalBroker

    with caplog.at_level(logging.INFO):
        async with TestLocalBroker(broker, raise_errors=False) as running:
            await running.publish("hi", "a")
            await running.publish("fail", "a")
    assert any(line.startswith("[mine] a ") and "handle" in line for line in caplog.messages)
    assert any("[mine]" in line and "ValueError" in line for line in caplog.messages)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BaseSecurity("s3cret"),  # type: ignore[arg-type]
        lambda: BaseSecurity(None, "s3cret"),  # type: ignore[arg-type]
        lambda: SASLPlaintext("ann", b"s3cret"),  # type: ignore[arg-type]
        lambda: SASLPlaintext("ann", None),  # type: ignore[arg-type]
        lambda: SASLPlaintext("ann", "s3cret", "s3cret"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_part_of_the_security_is_refused_and_not_shown(make: Any) -> None:
    with pytest.raises(SetupError, match="give ") as caught:
        make()
    assert "s3cret" not in f"{caught.value} {caught.value!r}"


def test_what_security_shows_of_itself_is_no_secret() -> None:
    assert "s3cret" not in repr(SASLPlaintext("ann", "s3cret", use_ssl=True))


@pytest.mark.parametrize("options", [{"graceful_timeout": 3.0}, {"replies": "off"}, {"log_input": True}])
def test_a_nested_router_has_no_connection_of_its_own(options: Any) -> None:
    alike = LocalRouter(**options)
    alike.include_router(LocalRouter(**options))
    for nested in (LocalRouter(**options), alike):
        with pytest.raises(SetupError, match=rf"nested LocalRouter has {next(iter(options))} of its own"):
            LocalRouter().include_router(nested)


def test_a_nested_router_has_no_address_of_its_own() -> None:
    outer = LocalRouter("here")
    with pytest.raises(SetupError, match="an address of its own"):
        outer.include_router(LocalRouter("there"))
    with pytest.raises(SetupError, match="an address of its own"):
        outer.include_router(LocalRouter(LocalBroker("here")))  # type: ignore[arg-type]
    outer.include_router(LocalRouter())
    outer.include_router(LocalRouter("here"))
    outer.include_router(LocalRouter(outer.broker))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"address": None}, {"address": 5}, {"address": {"a": 1}}, {"correlation_id": 5}, {"reply_to": b"x"}]
)
async def test_what_is_no_text_is_refused_where_a_text_belongs(wrong: Any) -> None:
    async with TestLocalBroker(LocalBroker()) as broker:
        with pytest.raises(SetupError, match=rf"is given as {next(iter(wrong)).replace('_', ' ')}"):
            await broker.publish("message", **{"address": "in", **wrong})


class Float:
    def __float__(self) -> float:
        return 5.0


NO_NUMBERS = [Decimal(5), Fraction(5, 2), True, math.inf, math.nan, 1e300, 10**30, "5", Float()]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("declaration", [BrokerOptions, SubscriberOptions])
def test_a_number_is_an_int_or_a_float_that_every_client_can_hold(declaration: type, value: object) -> None:
    numbers = {
        "graceful_timeout",
        "startup_timeout",
        "publish_timeout",
        "log_level",
        "max_workers",
        "prefetch_bytes",
    } & set(declared(declaration))
    assert len(numbers) >= 2
    for name in numbers:
        assert f"it: {name}=" in refusal(declaration, **{name: value})


@pytest.mark.parametrize("name", ["protocol", "protocol_version", "specification_url"])
def test_a_name_is_not_empty(name: str) -> None:
    assert "that is not empty" in refusal(BrokerOptions, **{name: ""})
    assert "that is not empty" in refusal(PublisherOptions, reply_to="")


@pytest.mark.parametrize("delay", [*NO_NUMBERS, -math.inf], ids=lambda one: type(one).__name__)
def test_a_delay_is_a_number_of_seconds(delay: Any) -> None:
    with pytest.raises(SetupError, match="no number of seconds"):
        NackMessage(delay)


@pytest.mark.parametrize(
    "generator", [uuid4, lambda: 1, lambda: None, lambda: "", lambda: b"x", lambda: (yield "1")], ids=range(6)
)
async def test_an_id_is_a_text(generator: Any) -> None:
    broker = LocalBroker(id_generator=generator)
    seen: list[str] = []

    @broker.subscriber("in")
    async def handler(msg: str) -> None:
        seen.append(msg)

    async with TestLocalBroker(broker):
        for publish in (broker.publish, broker.publisher("in").send):
            with pytest.raises(SetupError, match=r"id_generator= gave .* str\(uuid4\(\)\)"):
                await publish("lost", address="in")
        await broker.publish("right", "in", correlation_id="1")
    assert seen == ["right"]


@pytest.mark.parametrize("wrong", [{"correlation_id": uuid4()}, {"reply_to": b"x"}, {"address": 3}])
async def test_a_publisher_and_a_response_take_texts(wrong: Any) -> None:
    async with TestLocalBroker(LocalBroker()) as broker:
        with pytest.raises(SetupError, match="is given as"):
            await broker.publisher("in").send("x", **wrong)
    with pytest.raises(SetupError, match="UUID is given as correlation id"):
        Response("x", correlation_id=uuid4())  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="int is given as content type"):
        Response("x", content_type=5)  # type: ignore[arg-type]


async def test_a_member_of_an_enumeration_is_the_text_that_it_is() -> None:
    broker = LocalBroker()
    publisher = broker.publisher(Text.NEW)
    seen: list[str] = []

    @broker.subscriber(Text.NEW)
    async def handler(msg: str) -> None:
        seen.append(msg)

    assert type(publisher.address) is type(broker.subscribers[0].addresses[0]) is str
    assert type(Response("x", correlation_id=Text.NEW).correlation_id) is str
    outgoing = broker.outgoing("x", Text.NEW, correlation_id=Text.NEW)
    assert (type(outgoing.address), type(outgoing.correlation_id)) == (str, str)
    async with TestLocalBroker(broker):
        await broker.publish("one", Text.NEW)
        await publisher.send("two")
    assert seen == ["one", "two"]


@pytest.mark.parametrize("schema", [True, 1, object(), "Order", math.nan, lambda: 1, {"type": "int"}, [int], ...])
def test_a_schema_is_a_type(schema: Any) -> None:
    with pytest.raises(SetupError, match=r"publisher\('a'\): schema=.* is no type"):
        LocalRouter().publisher("a", schema=schema)


@pytest.mark.parametrize("schema", [None, int, list[int], int | None, Any, Literal["a"], Annotated[int, Ge(1)], Odd])
def test_what_is_a_type_is_a_schema(schema: Any) -> None:
    LocalRouter().publisher("a", schema=schema)


@pytest.mark.parametrize("empty", [set(), frozenset(), [], (), {}])
@pytest.mark.parametrize(("name", "body"), [("include", b"{}"), ("exclude", b'{"a":1}')])
async def test_an_empty_choice_of_fields_is_what_a_route_makes_of_it(empty: Any, name: str, body: bytes) -> None:
    class Model(BaseModel):
        a: int = 1

    broker = LocalBroker()
    option: Any = {f"response_model_{name}": empty}

    @broker.subscriber("in", **option)
    @broker.publisher("out")
    async def handler(msg: str) -> Model:
        return Model()

    async with TestLocalBroker(broker):
        await broker.publish("x", "in")
        assert [one.body for one in broker.published("out")] == [body]


async def yields() -> AsyncIterator[None]:
    yield


def yields_in_a_thread(app: Any) -> Iterator[None]:
    yield


class Yields:
    async def __call__(self) -> AsyncIterator[None]:
        yield


HOOKS = [
    yields,
    yields_in_a_thread,
    asynccontextmanager(yields),
    partial(yields_in_a_thread, 1),
    Yields(),
    Yields().__call__,
]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("when", ["after_startup", "on_broker_shutdown"])
def test_a_hook_with_a_yield_would_never_run(when: str, hook: Any) -> None:
    with pytest.raises(SetupError, match=rf"{when}: .* has a `yield`.*lifespan="):
        getattr(LocalRouter(), when)(hook)


async def test_a_stop_that_can_not_wait_cancels_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    broker = LocalBroker()
    begun, ended = asyncio.Event(), asyncio.Event()

    @broker.subscriber("in")
    async def handler(msg: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks = asyncio.all_tasks()
    async with TestLocalBroker(broker):
        publishing = asyncio.ensure_future(broker.publish("x", "in"))
        await asyncio.wait_for(begun.wait(), 30)
        broker.options["graceful_timeout"] = Decimal(5)  # past the declaration, which refuses it
    publishing.cancel()
    await asyncio.wait([publishing])
    assert ended.is_set()
    assert asyncio.all_tasks() == tasks
    assert any("waiting for its handlers failed: TypeError" in line for line in caplog.messages)
