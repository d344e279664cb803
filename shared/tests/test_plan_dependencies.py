"""Dependencies of a message handler: order, cache, exits, overrides, threads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Annotated, Any

import pytest
from anyio.to_thread import current_default_thread_limiter
from fastapi import BackgroundTasks, Depends, FastAPI, Header, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from fastapi_stream_core.errors import SetupError
from fastapi_stream_core.policy import SkipMessage
from plan_harness import Bench, plan
from pydantic import BaseModel

HAS_SCOPES = "scope" in getattr(Depends, "__annotations__", {})


class Order(BaseModel):
    id: int


class Log(list[str]):
    """What happened, in order."""


log = Log()


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


async def outer() -> AsyncIterator[str]:
    log.append("enter outer")
    try:
        yield "outer"
    except BaseException as error:
        log.append(f"outer saw {type(error).__name__}")
        raise
    finally:
        log.append("exit outer")


async def inner(above: Annotated[str, Depends(outer)]) -> AsyncIterator[str]:
    log.append("enter inner")
    yield f"{above}/inner"
    log.append("exit inner")


def sync_generator() -> Iterator[str]:
    log.append("enter sync")
    try:
        yield threading.current_thread().name
    finally:
        log.append("exit sync")


async def plain() -> str:
    log.append("plain")
    return "plain"


WAYS = pytest.mark.parametrize("way", ["fast", "solver"])


def runner(bench: Bench, way: str) -> Any:
    return bench if way == "fast" else bench.by_solver


@WAYS
async def test_yield_dependencies_are_left_in_reverse_before_the_plan_returns(way: str) -> None:
    async def handler(m: Order, got: Annotated[str, Depends(inner)], again: Annotated[str, Depends(plain)]) -> Any:
        log.append("handler")
        return got

    assert await runner(Bench(handler), way)({"id": 1}) == "outer/inner"
    assert log == ["enter outer", "enter inner", "plain", "handler", "exit inner", "exit outer"]


@WAYS
async def test_yield_dependencies_see_what_the_handler_raises(way: str) -> None:
    async def handler(m: Order, got: Annotated[str, Depends(inner)]) -> Any:
        raise SkipMessage

    with pytest.raises(SkipMessage):
        await runner(Bench(handler), way)({"id": 1})
    assert log == ["enter outer", "enter inner", "outer saw SkipMessage", "exit outer"]


@WAYS
async def test_a_base_exception_passes_through(way: str) -> None:
    async def handler(got: Annotated[str, Depends(outer)]) -> Any:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await runner(Bench(handler), way)({"id": 1})
    assert log == ["enter outer", "outer saw SystemExit", "exit outer"]


@WAYS
async def test_cancellation_runs_the_exits(way: str) -> None:
    started = asyncio.Event()

    async def handler(got: Annotated[str, Depends(outer)]) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(runner(Bench(handler), way)({"id": 1}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["enter outer", "outer saw CancelledError", "exit outer"]


@WAYS
async def test_a_failing_dependency_leaves_those_before_it(way: str) -> None:
    async def failing(above: Annotated[str, Depends(outer)]) -> str:
        raise LookupError("no")

    async def handler(got: Annotated[str, Depends(failing)]) -> Any: ...

    with pytest.raises(LookupError):
        await runner(Bench(handler), way)({"id": 1})
    assert log == ["enter outer", "outer saw LookupError", "exit outer"]


@WAYS
async def test_a_failing_exit_is_the_error_of_the_message_and_seen_by_the_outer_ones(way: str) -> None:
    async def commit(above: Annotated[str, Depends(outer)]) -> AsyncIterator[str]:
        yield "session"
        raise OSError("commit failed")

    async def handler(got: Annotated[str, Depends(commit)]) -> str:
        return "result"

    with pytest.raises(OSError, match="commit failed"):
        await runner(Bench(handler), way)({"id": 1})
    assert log == ["enter outer", "outer saw OSError", "exit outer"]


@WAYS
async def test_an_exit_may_raise_something_else(way: str) -> None:
    async def translate() -> AsyncIterator[str]:
        try:
            yield "x"
        except LookupError as error:
            raise SkipMessage from error

    async def handler(got: Annotated[str, Depends(translate)]) -> str:
        raise LookupError

    with pytest.raises(SkipMessage) as caught:
        await runner(Bench(handler), way)({"id": 1})
    assert isinstance(caught.value.__cause__, LookupError)


@WAYS
async def test_a_dependency_that_swallows_the_error_does_not_make_it_a_success(way: str) -> None:
    async def swallow() -> AsyncIterator[str]:
        try:
            yield "x"
        except LookupError:
            log.append("swallowed")

    async def handler(above: Annotated[str, Depends(outer)], got: Annotated[str, Depends(swallow)]) -> str:
        raise LookupError("lost?")

    with pytest.raises(LookupError, match="lost"):
        await runner(Bench(handler), way)({"id": 1})
    assert log == ["enter outer", "swallowed", "exit outer"]


@WAYS
@pytest.mark.parametrize("count", [0, 2])
async def test_a_generator_has_to_yield_once(way: str, count: int) -> None:
    async def wrong() -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def handler(got: Annotated[int, Depends(wrong)]) -> None: ...

    with pytest.raises(RuntimeError):
        await runner(Bench(handler), way)({"id": 1})


@WAYS
async def test_a_shared_dependency_runs_once_and_use_cache_false_each_time(way: str) -> None:
    async def first(a: Annotated[str, Depends(plain)]) -> str:
        return a

    async def handler(
        a: Annotated[str, Depends(plain)],
        b: Annotated[str, Depends(first)],
        c: Annotated[str, Depends(plain, use_cache=False)],
        d: Annotated[str, Depends(plain)],
    ) -> Any:
        return a, b, c, d

    assert await runner(Bench(handler), way)({}) == ("plain",) * 4
    assert log == ["plain", "plain"]


async def test_what_is_not_cached_below_a_cached_one_runs_as_in_fastapi() -> None:
    async def cached(a: Annotated[str, Depends(plain, use_cache=False)]) -> str:
        return a

    async def handler(a: Annotated[str, Depends(cached)], b: Annotated[str, Depends(cached)]) -> Any:
        return a, b

    assert await Bench(handler)({}) == ("plain", "plain")
    assert log == ["plain", "plain"]


async def test_the_chain_of_dependencies_runs_in_order_before_the_parameters() -> None:
    def named(name: str) -> Any:
        async def dependency() -> None:
            log.append(name)

        return Depends(dependency)

    async def handler(m: Order, got: Annotated[str, Depends(plain)]) -> None:
        log.append("handler")

    chain = [named(name) for name in ("outer", "include", "inner", "own")]
    await Bench(handler, dependencies=chain)({"id": 1})
    assert log == ["outer", "include", "inner", "own", "plain", "handler"]


async def test_invalid_input_still_runs_dependencies_as_fastapi_does() -> None:
    async def handler(m: Order, got: Annotated[str, Depends(outer)]) -> None: ...

    with pytest.raises(RequestValidationError):
        await Bench(handler)({"id": "x"})
    assert log == ["enter outer", "outer saw InvalidMessage", "exit outer"]


async def test_a_dependency_decides_before_the_payload_is_judged() -> None:
    async def gate() -> None:
        raise SkipMessage

    async def handler(m: Order) -> None: ...

    with pytest.raises(SkipMessage):
        await Bench(handler, dependencies=[Depends(gate)])({"id": "x"})


@WAYS
async def test_classes_are_dependencies(way: str) -> None:
    class Page:
        def __init__(self, limit: int = 10) -> None:
            self.limit = limit

    async def handler(page: Annotated[Page, Depends()], also: Annotated[Page, Depends(Page)]) -> Any:
        return page.limit, also is page

    assert await runner(Bench(handler), way)({"limit": 3}) == (3, True)


# Scopes.


def scoped(name: str) -> Any:
    async def dependency() -> AsyncIterator[str]:
        yield name
        log.append(f"exit {name}")

    return dependency


@WAYS
async def test_scope_function_is_left_before_scope_request(way: str) -> None:
    try:
        function = Depends(scoped("function"), scope="function")
    except TypeError:
        pytest.skip("this FastAPI has no scope=")
    request = Depends(scoped("request"), scope="request")

    async def handler(a: Annotated[str, function], b: Annotated[str, request]) -> Any:
        log.append("handler")

    await runner(Bench(handler), way)({})
    assert log == ["handler", "exit function", "exit request"]


async def test_a_security_scheme_reads_the_headers() -> None:
    async def handler(msg: str, token: Annotated[str, Depends(OAuth2PasswordBearer("token"))]) -> Any:
        return msg, token

    assert await Bench(handler)("hi", headers=[("Authorization", "Bearer abc")]) == ("hi", "abc")


async def test_security_scopes_reach_the_dependency() -> None:
    async def check(scopes: SecurityScopes) -> list[str]:
        return scopes.scopes

    async def handler(got: Annotated[list[str], Security(check, scopes=["orders"])]) -> Any:
        return got

    assert await Bench(handler)({}) == ["orders"]


# Threads.

where: ContextVar[str] = ContextVar("where", default="nowhere")


def sync_dependency() -> tuple[str, str]:
    return threading.current_thread().name, where.get()


@WAYS
async def test_sync_callables_run_in_threads_with_the_context(way: str) -> None:
    def handler(
        m: Order, got: Annotated[Any, Depends(sync_dependency)], name: Annotated[str, Depends(sync_generator)]
    ) -> Any:
        log.append("handler")
        return threading.current_thread().name, got, name, where.get()

    where.set("here")
    handler_thread, (dependency_thread, seen), generator_thread, here = await runner(Bench(handler), way)({"id": 1})
    assert threading.main_thread().name not in (handler_thread, dependency_thread, generator_thread)
    assert (seen, here) == ("here", "here")
    assert log == ["enter sync", "handler", "exit sync"]


async def test_what_only_looks_sync_is_awaited() -> None:
    async def function(factor: int, m: Order) -> int:
        return factor * m.id

    def wrapper(m: Order) -> Any:
        return function(2, m)

    assert await Bench(wrapper)({"id": 4}) == 8
    assert await Bench(partial(function, 3))({"id": 4}) == 12


async def test_sync_handlers_do_not_use_the_threads_of_http() -> None:
    limiter = current_default_thread_limiter()

    def handler() -> float:
        return limiter.borrowed_tokens

    assert await Bench(handler)({}) == 0


@WAYS
async def test_a_sync_generator_sees_the_error(way: str) -> None:
    def session() -> Iterator[None]:
        try:
            yield
        except LookupError:
            log.append("rolled back")
            raise

    def handler(got: Annotated[None, Depends(session)]) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await runner(Bench(handler), way)({})
    assert log == ["rolled back"]


# Overrides.


async def test_overrides_are_looked_up_for_each_message() -> None:
    async def replacement() -> str:
        return "replaced"

    def sync_replacement(x_tenant: Annotated[str, Header()]) -> str:
        return x_tenant

    async def middle(a: Annotated[str, Depends(plain)]) -> str:
        return f"<{a}>"

    async def handler(m: Order, got: Annotated[str, Depends(middle)]) -> str:
        return got

    bench = Bench(handler)
    overrides = bench.owner.dependency_overrides
    assert await bench({"id": 1}) == "<plain>"
    overrides[plain] = replacement
    assert await bench({"id": 1}) == "<replaced>"
    overrides[plain] = sync_replacement
    assert await bench({"id": 1}, headers=[("X-Tenant", "acme")]) == "<acme>"
    overrides[middle] = replacement
    assert await bench({"id": 1}) == "replaced"
    bench.owner.app = other = FastAPI()
    assert await bench({"id": 1}) == "<plain>"
    other.dependency_overrides[middle] = lambda: "lambda"
    assert await bench({"id": 1}) == "lambda"


async def test_an_override_may_yield_and_a_yield_dependency_may_be_overridden() -> None:
    async def handler(got: Annotated[str, Depends(plain)], also: Annotated[str, Depends(outer)]) -> Any:
        return got, also

    bench = Bench(handler)
    bench.owner.dependency_overrides[plain] = outer
    bench.owner.dependency_overrides[outer] = plain
    assert await bench({}) == ("outer", "plain")
    assert log == ["enter outer", "plain", "exit outer"]


async def test_a_dependency_of_the_chain_is_overridden() -> None:
    async def forbidden() -> None:
        raise AssertionError

    async def handler() -> str:
        return "ok"

    bench = Bench(handler, dependencies=[Depends(forbidden)])
    bench.owner.dependency_overrides[forbidden] = lambda: None
    assert await bench({}) == "ok"


# What else FastAPI gives.


@WAYS
async def test_background_tasks_are_left_in_the_message(way: str) -> None:
    async def dependency(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "dependency")

    async def handler(tasks: BackgroundTasks, got: Annotated[None, Depends(dependency)]) -> None:
        tasks.add_task(log.append, "handler")

    from plan_harness import message

    bench = Bench(handler)
    one = message({}, owner=bench.owner)
    await (bench.plan(one) if way == "fast" else bench.plan._tree.solve(one))
    assert log == []
    await one.background()
    assert log == ["dependency", "handler"]


async def test_unused_or_abandoned_background_tasks_leave_nothing() -> None:
    async def handler(tasks: BackgroundTasks, msg: str) -> None:
        if msg == "fail":
            tasks.add_task(log.append, "never")
            raise LookupError

    from plan_harness import message

    bench = Bench(handler)
    for value in ("ok", "fail"):
        one = message(value, owner=bench.owner)
        try:
            await bench.plan(one)
        except LookupError:
            assert value == "fail"
        assert one.background is None


@WAYS
async def test_the_request_of_a_message(way: str) -> None:
    async def dependency(request: Request) -> Request:
        request.state.seen = True
        return request

    async def handler(request: Request, same: Annotated[Any, Depends(dependency)]) -> Any:
        assert request is same
        assert request.state.seen
        assert not hasattr(request.state, "other")
        return {
            "url": str(request.url),
            "method": request.method,
            "trace": request.headers["X-Trace"],
            "all": request.headers.getlist("x-trace"),
            "raw": request.headers.raw[0],
            "name": request.query_params["name"],
            "id": request.path_params["id"],
            "body": await request.body(),
            "json": await request.json(),
            "app": request.app,
            "client": request.client,
            "pool": request.state.pool,
            "cookies": request.cookies,
        }

    bench = Bench(handler)
    bench.owner.state = {"pool": 5}
    got = await runner(bench, way)(
        {"id": 1, "name": "Ann"}, headers=[("x-trace", "é"), ("X-Trace", "b")], address="a.b c"
    )
    assert got == {
        "url": "message:a.b%20c",
        "method": "MESSAGE",
        "trace": "b",
        "all": ["é", "b"],
        "raw": (b"content-type", b"application/json"),
        "name": "Ann",
        "id": 1,
        "body": b'{"id": 1, "name": "Ann"}',
        "json": {"id": 1, "name": "Ann"},
        "app": bench.owner.app,
        "client": None,
        "pool": 5,
        "cookies": {},
    }
    assert bench.owner.state == {"pool": 5}


@WAYS
async def test_a_response_parameter_is_there(way: str) -> None:
    async def handler(response: Response) -> Any:
        return type(response)

    assert await runner(Bench(handler), way)({}) is Response


async def test_headers_and_path_are_not_read_when_nobody_asks() -> None:
    from plan_harness import message

    async def handler(m: Order) -> None: ...

    one = message({"id": 1})
    type(one).content_type.fget  # noqa: B018
    one._decoded = {"id": 1}
    await plan(handler)(one)
    assert one._headers is None
    assert one._path is None
    assert one._correlation_id is None


async def test_a_generator_is_no_handler() -> None:
    async def handler() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(SetupError, match="generator"):
        plan(handler)
