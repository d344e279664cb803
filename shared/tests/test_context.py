"""Values of the context: where they come from, in handlers, dependencies and HTTP endpoints."""

import asyncio
import inspect
import logging
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient
from fastapi_stream_core.context import Context, ContextRepo, Logger
from fastapi_stream_core.errors import ContextError, SetupError
from fastapi_stream_core.injection import Injected, with_injection
from fastapi_stream_core.message import BatchMessage, StreamMessage
from plan_harness import Bench, Message, message
from pydantic import BaseModel

NO_DEFAULT = object()


class Broker(Injected):
    """A broker, for injection."""

    injected_as: ClassVar[str] = "broker"

    def __init__(self) -> None:
        self.context = ContextRepo({"colour": "red"})
        self.logger: Any = logging.getLogger("the-broker")


class OtherBroker(Broker):
    """Another one."""


class Order(BaseModel):
    id: int


# The repository.


def test_local_values_lie_over_global_ones() -> None:
    repo = ContextRepo({"a": 1})
    repo.set_global("b", {"c": 2})
    token = repo.set_local("a", 3)
    assert repo.context == {"a": 3, "b": {"c": 2}}
    assert (repo.get("a"), repo.get_local("a"), repo.resolve("b.c")) == (3, 3, 2)
    repo.reset_local("a", token)
    assert (repo.get("a"), repo.get_local("a", "none"), repo.get("x", 5)) == (1, "none", 5)
    with repo.scope("a", 4):
        assert repo.get("a") == 4
    assert repo.get("a") == 1
    repo.reset_global("b")
    repo.reset_global("b")
    with pytest.raises(ContextError, match="'b'"):
        repo.resolve("b.c")
    repo.clear()
    assert repo.context == {}


async def test_local_values_are_the_tasks_own() -> None:
    repo = ContextRepo()
    seen: list[Any] = []

    async def task(value: int) -> None:
        repo.set_local("a", value)
        await asyncio.gather(child())

    async def child() -> None:
        seen.append(repo.get("a"))

    await asyncio.gather(task(1), task(2))
    assert sorted(seen) == [1, 2]
    assert repo.get("a") is None


# In handlers and dependencies.


async def resolve(name: str, default: Any = NO_DEFAULT, **options: Any) -> Any:
    given = {} if default is NO_DEFAULT else {"default": default}

    async def handler(msg: str, got: Any = Context(name, **given)) -> Any:  # noqa: B008
        return got

    bench = Bench(handler)
    bench.owner.context.set_global("settings", {"pool": {"size": 3}})
    by_solver = await bench.by_solver("hi", **options)
    got = await bench("hi", **options)
    assert name == "message" or by_solver == got or got is bench.owner
    return bench, got


async def test_the_keys_of_the_context() -> None:
    for name, attribute in (
        ("broker", "broker"),
        ("app", "app"),
        ("logger", "logger"),
        ("context", "context"),
    ):
        bench, got = await resolve(name)
        assert got is getattr(bench.owner, attribute)
    bench, got = await resolve("handler_")
    assert got is bench.owner
    _, got = await resolve("log_context", headers=[("correlation_id", "c")])
    assert (got["address"], got["correlation_id"]) == ("orders", "c")
    assert (await resolve("settings.pool.size"))[1] == 3


async def test_dotted_names_walk_keys_and_attributes() -> None:
    assert (await resolve("message.headers.X-Trace", headers=[("x-trace", "t")]))[1] == "t"
    assert (await resolve("message.correlation_id", headers=[("correlation_id", "c")]))[1] == "c"
    assert (await resolve("message.body"))[1] == b"hi"


@pytest.mark.parametrize("name", ["nothing", "message.headers.nothing", "settings.pool.nothing", "message.nothing"])
async def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(ContextError, match="nothing"):
        await resolve(name)
    assert (await resolve(name, default=None))[1] is None


async def test_the_default_of_the_parameter_is_taken() -> None:
    async def handler(a: Annotated[str, Context("nothing")] = "default") -> str:
        return a

    assert await Bench(handler)() == "default"
    assert await Bench(handler).by_solver() == "default"


async def test_the_name_is_the_parameters_own() -> None:
    async def handler(message: Annotated[Any, Context()], settings: Any = Context()) -> Any:  # noqa: B008
        return message, settings

    bench = Bench(handler)
    bench.owner.context.set_global("settings", 5)
    got, settings = await bench("hi")
    assert isinstance(got, Message)
    assert settings == 5


async def test_initial_makes_a_global_value_once() -> None:
    async def handler(numbers: Annotated[list[int], Context("numbers", initial=list)]) -> Any:
        numbers.append(1)
        return numbers

    bench = Bench(handler)
    await bench()
    assert await bench() == [1, 1]
    assert bench.owner.context.get("numbers") == [1, 1]
    with pytest.raises(SetupError, match="dots"):
        Context("a.b", initial=list)


async def test_dependencies_have_the_context_and_the_message_too() -> None:
    async def dependency(
        trace: Annotated[str, Context("message.headers.trace")], logger: Logger, message: Message
    ) -> tuple[str, str, bytes]:
        return trace, logger.name, message.body

    async def handler(order: Order, got: Annotated[Any, Depends(dependency)]) -> Any:
        return got

    bench = Bench(handler)
    expected = ("t", "plan-test", b'{"id": 1}')
    assert await bench({"id": 1}, headers=[("Trace", "t")]) == expected
    assert await bench.by_solver({"id": 1}, headers=[("Trace", "t")]) == expected


async def test_an_app_that_is_not_there_is_missing() -> None:
    async def handler(app: Annotated[Any, Context("app")]) -> None: ...

    bench = Bench(handler)
    bench.owner.app = None
    with pytest.raises(ContextError, match="app"):
        await bench()
    with pytest.raises(ContextError, match="app"):
        await bench.by_solver()


async def test_a_switched_off_logger_is_silent() -> None:
    async def handler(logger: Logger) -> Any:
        logger.error("nobody sees this")
        return logger

    bench = Bench(handler)
    bench.owner.logger = None
    assert isinstance(await bench(), logging.Logger)


# Injection by type.


async def test_message_and_broker_are_injected_by_their_class() -> None:
    async def dependency(broker: Broker) -> Broker:
        return broker

    async def handler(
        order: Order,
        message: Message,
        base: StreamMessage,
        annotated: Annotated[Message, "a note"],
        got: Annotated[Broker, Depends(dependency)],
        optional: Broker | None = None,
    ) -> Any:
        return order, message is base is annotated, got is optional

    bench = Bench(handler, broker=Broker())
    assert await bench({"id": 1}) == (Order(id=1), True, True)
    assert await bench.by_solver({"id": 1}) == (Order(id=1), True, True)
    assert bench.plan.payload is Order


class OtherMessage(StreamMessage):
    """A message of another broker."""


def other_broker(it: OtherBroker) -> None: ...


def other_broker_or_none(it: OtherBroker | None = None) -> None: ...


def other_message(it: Annotated[OtherMessage, "a note"]) -> None: ...


def a_batch(it: BatchMessage) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "asked"),
    [
        (other_broker, "parameter 'it' asks for OtherBroker, and the broker here is a Broker"),
        (other_broker_or_none, "parameter 'it' asks for OtherBroker, and the broker here is a Broker"),
        (other_message, "parameter 'it' asks for OtherMessage, and the messages here are Message"),
        (a_batch, "parameter 'it' asks for BatchMessage, and the messages here are Message"),
    ],
)
@pytest.mark.parametrize("below", [False, True])
def test_another_class_than_the_one_there_is_refused(wrong: Any, asked: str, below: bool) -> None:
    async def handler(got: Annotated[Any, Depends(wrong)]) -> None: ...

    with pytest.raises(SetupError) as caught:
        Bench(handler if below else wrong, broker=Broker())
    assert asked in str(caught.value)
    assert ("dependency" in str(caught.value)) == below


async def test_what_subscribers_of_several_brokers_share_names_all_of_them() -> None:
    def shared(
        broker: Broker | OtherBroker, message: OtherMessage | Message, maybe: OtherMessage | Message | None = None
    ) -> Any:
        return broker, message is maybe, message.address

    async def handler(got: Annotated[Any, Depends(shared)]) -> Any:
        return got

    for broker in (Broker(), OtherBroker()):
        assert await Bench(handler, broker=broker)() == (broker, True, "orders")


async def test_a_batch_is_taken_by_the_class_of_its_messages_too() -> None:
    async def handler(items: list[int], one: Message, all_of_them: BatchMessage, some: BatchMessage | Message) -> Any:
        return items, one is all_of_them is some

    assert await Bench(handler, batch=True).batch(1, 2) == (([1, 2], True), [])


@pytest.mark.parametrize(
    "annotation", [list[Message], Message | str, dict[str, Message], Message | Broker, list[Message] | None]
)
def test_a_message_in_a_payload_is_refused(annotation: Any) -> None:
    async def handler(it: Any) -> None: ...

    handler.__annotations__["it"] = annotation
    with pytest.raises(SetupError, match=r"parameter 'it': .*Message.* is a part of its type"):
        Bench(handler, broker=Broker())


async def test_an_override_that_asks_for_another_class_is_refused() -> None:
    async def real() -> None: ...

    async def handler(got: Annotated[Any, Depends(real)]) -> None: ...

    bench = Bench(handler, broker=Broker())
    bench.owner.dependency_overrides[real] = other_broker
    with pytest.raises(SetupError, match="OtherBroker"):
        await bench()


async def test_an_explicit_dependency_is_not_replaced() -> None:
    mine = Broker()

    async def handler(broker: Annotated[Broker, Depends(lambda: mine)]) -> Any:
        return broker

    assert await Bench(handler)() is mine


async def test_overrides_keep_working_beside_injection() -> None:
    async def repository(broker: Broker) -> str:
        return "real"

    async def handler(got: Annotated[str, Depends(repository)]) -> str:
        return got

    bench = Bench(handler, broker=Broker())
    assert await bench() == "real"

    async def fake(message: Message, broker: Broker) -> str:
        return f"fake {message.address}"

    bench.owner.dependency_overrides[repository] = fake
    assert await bench() == "fake orders"


async def test_a_message_nobody_received_has_no_broker() -> None:
    async def handler(
        broker: Annotated[Any, Context("broker")], address: Annotated[str, Context("message.address")]
    ) -> Any:
        return address

    bench = Bench(handler)
    with pytest.raises(ContextError):
        await bench.plan(message("hi"))


# In HTTP endpoints.


def application(endpoint: Any, state: Any = None) -> TestClient:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        yield state

    app = FastAPI(lifespan=lifespan)
    app.get("/")(endpoint)
    return TestClient(app)


def test_the_context_reaches_http_endpoints_through_the_state() -> None:
    broker = Broker()

    async def endpoint(
        request: Request,
        found: Annotated[Any, Context("broker")],
        app: Annotated[Any, Context("app")],
        logger: Logger,
        repo: Annotated[ContextRepo, Context("context")],
        colour: Annotated[str, Context("colour")],
        nothing: Annotated[str, Context("nothing", default="default")],
    ) -> list[Any]:
        return [found is broker, app is request.app, logger.name, repo is broker.context, colour, nothing]

    with application(endpoint, {"broker": broker}) as client:
        assert client.get("/").json() == [True, True, "the-broker", True, "red", "default"]


@pytest.mark.parametrize("name", ["message", "broker", "handler_", "nothing"])
def test_what_an_http_request_has_not_is_an_error(name: str) -> None:
    async def endpoint(it: Annotated[Any, Context(name)]) -> None: ...

    with application(endpoint) as client, pytest.raises(ContextError, match=name):
        client.get("/")


def test_endpoints_get_the_broker_by_its_class() -> None:
    broker = Broker()

    async def endpoint(id: int, broker: Broker, q: str = "q") -> list[Any]:
        """Say what came."""
        return [id, isinstance(broker, Broker), q]

    def sync_endpoint(broker: Broker | None = None) -> bool:
        return isinstance(broker, Broker)

    class Endpoint:
        async def __call__(self, broker: Broker) -> bool:
            return isinstance(broker, Broker)

    shim = with_injection(endpoint, lambda: broker)
    assert shim is not endpoint
    assert inspect.iscoroutinefunction(shim)
    assert (shim.__name__, shim.__doc__) == ("endpoint", "Say what came.")
    assert "Depends" not in str(inspect.signature(endpoint))
    with application(shim) as client:
        assert client.get("/?id=1").json() == [1, True, "q"]
        assert "requestBody" not in client.get("/openapi.json").json()["paths"]["/"]["get"]
    for other in (sync_endpoint, Endpoint()):
        with application(with_injection(other, lambda: broker)) as client:
            assert client.get("/").json() is True


def test_other_endpoints_are_left_alone() -> None:
    async def endpoint(a: int, b: Annotated[Broker, Depends(lambda: None)]) -> None: ...

    assert with_injection(endpoint, Broker) is endpoint
    assert with_injection(print, Broker) is print


def test_an_endpoint_can_not_have_a_message() -> None:
    async def endpoint(message: Message) -> None: ...

    with pytest.raises(SetupError, match="message"):
        with_injection(endpoint, Broker)


def test_an_endpoint_can_not_have_another_broker() -> None:
    async def endpoint(broker: OtherBroker | None) -> None: ...

    async def shared(broker: OtherBroker | Broker) -> bool:
        return type(broker) is Broker

    with pytest.raises(SetupError, match="parameter 'broker' asks for OtherBroker, and the broker here is a Broker"):
        with_injection(endpoint, Broker)
    with application(with_injection(shared, Broker)) as client:
        assert client.get("/").json() is True
