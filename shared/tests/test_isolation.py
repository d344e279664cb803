"""Each message has a context of its own; cancellation, timeouts and task groups are as they are in any coroutine."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar, copy_context
from typing import Annotated, Any

import anyio
import pytest
from fastapi import BackgroundTasks, Depends
from fastapi_stream_core import AckPolicy
from fastapi_stream_core.isolation import in_context
from fastapi_stream_core.response import Outgoing
from fastapi_stream_core.testing.feed import Feed
from fastapi_stream_core.testing.reference import LocalBroker, LocalMessage, TestLocalBroker
from pydantic import AfterValidator

DEADLINE = 20.0

kept: ContextVar[str] = ContextVar("kept", default="nothing")


async def run(handler: Callable[..., Any], count: int = 3, publish: bool = False, **options: Any) -> LocalBroker:
    """Have numbers handled on the production path, each settled."""
    broker = LocalBroker()
    handler = broker.publisher("out")(handler) if publish else handler
    broker.subscriber("numbers", **options)(handler)

    def record(number: int) -> Outgoing:
        return Outgoing("numbers", b"%d" % number, "c-1", [], "application/json", None, {}, False)

    def message(outgoing: Outgoing) -> LocalMessage:
        return LocalMessage(outgoing.body, outgoing, outgoing.address)

    async with Feed(broker, record, message) as feed:
        feed.prepare(count)
        await asyncio.wait_for(feed.run(), DEADLINE)
    return broker


def exchange(value: Any) -> str:
    """Set the variable, and return what was there before."""
    before = kept.get()
    kept.set(f"of {value}")
    return before


# What a message sets is gone with it ------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("policy", [AckPolicy.NACK_ON_ERROR, AckPolicy.ACK_FIRST])
@pytest.mark.parametrize("publish", [False, True])
async def test_an_async_handler(waits: bool, policy: AckPolicy, publish: bool) -> None:
    found: list[str] = []

    async def handle(number: int) -> int:
        found.append(exchange(number))
        if waits:
            await asyncio.sleep(0)
        found.append(kept.get())
        return number

    await run(handle, publish=publish, ack_policy=policy)
    assert found == ["nothing", "of 0", "nothing", "of 1", "nothing", "of 2"]


@pytest.mark.parametrize("publish", [False, True])  # with a publisher sync messages are handled one by one
async def test_a_sync_handler(publish: bool) -> None:
    found: list[str] = []

    def handle(number: int) -> int:
        found.append(exchange(number))
        return number

    await run(handle, publish=publish)
    assert found == ["nothing"] * 3


async def test_a_batch() -> None:
    found: list[str] = []

    async def handle(numbers: list[int]) -> None:
        found.append(exchange(numbers))

    broker = LocalBroker()
    broker.subscriber("numbers", batch=True)(handle)
    async with TestLocalBroker(broker):
        for number in range(3):
            await broker.publish(number, "numbers")
    assert found == ["nothing"] * 3


@pytest.mark.parametrize("is_sync", [False, True])
async def test_a_validator(is_sync: bool) -> None:
    found: list[str] = []

    def note(number: int) -> int:
        found.append(exchange(number))
        return number

    async def handle(number: Annotated[int, AfterValidator(note)]) -> None:
        found.append(kept.get())

    def sync_handle(number: Annotated[int, AfterValidator(note)]) -> None:
        found.append(kept.get())

    await run(sync_handle if is_sync else handle, 2)
    assert found == ["nothing", "of 0", "nothing", "of 1"]


async def test_dependencies_their_exits_and_background_tasks_share_it() -> None:
    found: list[tuple[str, str]] = []

    async def session() -> AsyncIterator[None]:
        found.append(("enter", exchange("session")))
        yield
        found.append(("exit", kept.get()))

    async def later() -> None:
        found.append(("background", kept.get()))

    async def handle(number: int, tasks: BackgroundTasks, _: Annotated[None, Depends(session)]) -> None:
        found.append(("handler", exchange(number)))
        tasks.add_task(later)

    await run(handle, 2)
    assert found == [
        one
        for number in range(2)
        for one in (
            ("enter", "nothing"),
            ("handler", "of session"),
            ("exit", f"of {number}"),
            ("background", f"of {number}"),
        )
    ]


async def test_a_local_value_of_the_shared_context() -> None:
    found: list[Any] = []
    broker = LocalBroker()

    @broker.subscriber("a")
    async def handle(text: str) -> None:
        found.append(broker.context.get("who"))
        broker.context.set_local("who", text)
        found.append(broker.context.get("who"))

    async with TestLocalBroker(broker):
        await broker.publish("one", "a")
        await broker.publish("two", "a")
        assert broker.context.get("who") is None
    assert found == [None, "one", None, "two"]


async def test_a_message_that_is_published_by_a_handler_does_not_see_the_handlers() -> None:
    found: list[str] = []
    broker = LocalBroker()

    @broker.subscriber("a")
    async def first(text: str) -> None:
        kept.set("of the first")
        await broker.publish(text, "b")

    @broker.subscriber("b")
    async def second(text: str) -> None:
        found.append(kept.get())

    with TestLocalBroker(broker):  # not started: each subscription starts when it gets its first message
        await broker.publish("one", "a")
        await broker.publish("two", "b")
    assert found == ["nothing", "nothing"]


async def test_what_was_set_before_the_start_is_seen_by_every_message() -> None:
    found: list[str] = []

    async def handle(number: int) -> None:
        found.append(exchange(number))

    token = kept.set("of the lifespan")
    try:
        await run(handle)
    finally:
        kept.reset(token)
    assert found == ["of the lifespan"] * 3


@pytest.mark.parametrize("fails", [False, True])
async def test_log_lines_of_a_message_see_what_it_set(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, str]] = []

    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append((record.levelno, kept.get()))
            return True

    async def handle(number: int) -> None:
        kept.set(f"of {number}")
        if fails:
            raise ValueError(number)

    logger = logging.getLogger("fastapi_stream.local")
    logged = Filter()
    logger.addFilter(logged)
    try:
        with caplog.at_level(logging.INFO):
            await run(handle, 2, ack_policy=AckPolicy.REJECT_ON_ERROR)
    finally:
        logger.removeFilter(logged)
    assert [value for _, value in seen] == (["of 0", "of 0", "of 1", "of 1"] if fails else ["of 0", "of 1"])


# Everything else is as in any coroutine ---------------------------------------------------------------------------


async def handled(work: Callable[[], Any]) -> Any:
    """Run something inside a handler that has waited already, and return its result."""
    results: list[Any] = []

    async def handle(number: int) -> None:
        await asyncio.sleep(0)
        kept.set("mine")
        try:
            results.append(await work())
        except BaseException as error:
            results.append(error)
        assert kept.get() == "mine"

    broker = await run(handle, 1)
    assert "failed" not in broker.report.counts
    return results[0]


async def test_the_task_is_the_current_one() -> None:
    async def work() -> bool:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        return before is not None and before is asyncio.current_task()

    assert await handled(work) is True


async def test_a_timeout_of_asyncio() -> None:
    async def work() -> str:
        try:
            if sys.version_info >= (3, 11):
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            else:
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except (TimeoutError, asyncio.TimeoutError):
            await asyncio.sleep(0)
            return "over"
        return "not reached"

    assert await handled(work) == "over"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup is there since Python 3.11")
async def test_a_task_group_of_asyncio() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(kept.get())
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("one of them")

    async def work() -> None:
        async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined,unused-ignore]
            group.create_task(waits())
            group.create_task(fails())

    error = await handled(work)
    assert [type(one) for one in error.exceptions] == [KeyError]
    assert ended == ["mine"], "a task starts with the message's variables"


async def test_scopes_of_anyio() -> None:
    async def work() -> list[str]:
        said = []
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        said.append(f"moved on {scope.cancelled_caught}")
        try:
            with anyio.fail_after(0.01):
                await anyio.sleep_forever()
        except TimeoutError:
            said.append("failed")
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        said.append(await anyio.to_thread.run_sync(kept.get))
        return said

    assert await handled(work) == ["moved on True", "failed", "mine"]


async def test_an_error_after_a_caught_timeout_does_not_come_from_it() -> None:
    async def work() -> None:
        with anyio.move_on_after(0.01):
            await anyio.sleep_forever()
        raise ValueError("another one")

    error = await handled(work)
    assert (type(error), error.__context__) == (ValueError, None)


async def test_generators_are_thrown_into_and_closed_in_the_context() -> None:
    said: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        except KeyError:
            said.append(f"thrown {kept.get()}")
            yield 3
        finally:
            said.append(f"closed {kept.get()}")

    async def work() -> None:
        generator: Any = numbers()
        assert await generator.__anext__() == 1
        assert await generator.athrow(KeyError("x")) == 3
        await generator.aclose()

    assert await handled(work) is None
    assert said == ["thrown mine", "closed mine"]


async def test_a_handler_that_is_cancelled_from_outside_sees_it() -> None:
    said: list[str] = []
    begun = asyncio.Event()

    async def handle(number: int) -> None:
        kept.set("mine")
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            said.append(kept.get())
            raise

    broker = LocalBroker(graceful_timeout=0.01)
    broker.subscriber("a")(handle)
    async with TestLocalBroker(broker):
        publishing = asyncio.ensure_future(broker.publish(1, "a"))
        await asyncio.wait_for(begun.wait(), DEADLINE)
    await asyncio.wait_for(publishing, DEADLINE)
    assert said == ["mine"]


async def test_a_handler_may_return_any_awaitable() -> None:
    async def work() -> Any:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "done")
        return await in_context(copy_context(), future)

    assert await handled(work) == "done"


async def test_what_is_left_is_closed_in_the_context() -> None:
    said: list[str] = []

    async def waits() -> None:
        kept.set("mine")
        try:
            await asyncio.Event().wait()
        finally:
            said.append(kept.get())

    async def outer() -> None:
        await in_context(copy_context(), waits())

    coroutine = outer()
    coroutine.send(None)
    coroutine.close()  # a loop that ends closes what still waits
    assert said == ["mine"]
    assert kept.get() == "nothing"
