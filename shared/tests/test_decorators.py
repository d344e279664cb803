"""Decorators of the user's own between those of a subscriber and a publisher: messages pass through them."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi_stream_core import SetupError
from fastapi_stream_core.testing.reference import LocalRouter, TestLocalBroker

Log = list[Any]


def guard(log: Log, name: str = "guard") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def guarded(*positional: Any, **named: Any) -> Any:
            log.append(name)
            return await function(*positional, **named)

        return guarded

    return decorate


def without_dict(log: Log) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(*positional: Any, **named: Any) -> Any:
            log.append("guard")
            return await function(*positional, **named)

        return functools.wraps(function, updated=())(guarded)

    return decorate


def context_manager(log: Log) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    @asynccontextmanager
    async def locked() -> AsyncIterator[None]:
        log.append("guard")
        yield

    return locked()


def with_sync(log: Log) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def guarded(*positional: Any, **named: Any) -> Any:
            log.append("guard")
            return function(*positional, **named)

        return guarded

    return decorate


def with_object(log: Log) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    class Guarded:
        def __init__(self, function: Callable[..., Any]) -> None:
            self.function = function
            functools.update_wrapper(self, function)

        async def __call__(self, *positional: Any, **named: Any) -> Any:
            log.append("guard")
            return await self.function(*positional, **named)

    return Guarded


def twice(log: Log) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        return guard(log)(guard([], "inner")(function))

    return decorate


WAYS = [guard, without_dict, context_manager, with_sync, with_object, twice]


async def run(router: LocalRouter, *addresses: str) -> list[Any]:
    """Publish one message to each address, and return what went to `out`."""
    async with TestLocalBroker(router) as broker:
        for address in addresses:
            await broker.publish(1, address)
        return [one.decoded() for one in broker.published("out")]


@pytest.mark.parametrize("way", WAYS)
async def test_a_wrapper_between_subscriber_and_publisher_is_the_handler(way: Callable[[Log], Any]) -> None:
    router, log = LocalRouter(), Log()

    @router.subscriber("in")
    @way(log)
    @router.publisher("out")
    async def handle(number: int) -> int:
        log.append(number)
        return number + 1

    assert await run(router, "in") == [2]
    assert log == ["guard", 1]
    log.clear()
    assert await handle(3) == 4
    assert log == ["guard", 3], "calling the name is calling the wrapper"


@pytest.mark.parametrize("way", WAYS)
async def test_a_wrapper_beneath_both_and_one_between_two_publishers(way: Callable[[Log], Any]) -> None:
    router, log = LocalRouter(), Log()

    @router.subscriber("in")
    @router.publisher("out")
    @way(log)
    @router.publisher("out")
    @guard(log, "innermost")
    async def handle(number: int) -> int:
        log.append(number)
        return number

    assert await run(router, "in") == [1, 1]
    assert log == ["guard", "innermost", 1]


async def test_two_wrappers_of_one_function_are_two_handlers() -> None:
    router, log = LocalRouter(), Log()

    @router.publisher("out")
    async def handle(number: int) -> int:
        log.append(number)
        return number

    router.subscriber("one")(guard(log, "first")(handle))
    router.subscriber("two")(guard(log, "second")(handle))
    router.subscriber("three")(handle)
    assert await run(router, "one", "two", "three") == [1, 1, 1]
    assert log == ["first", 1, "second", 1, 1]


async def test_each_subscriber_calls_what_it_was_put_on() -> None:
    router, log = LocalRouter(), Log()

    @router.subscriber("outer")
    @guard(log)
    @router.subscriber("inner")
    @router.publisher("out")
    async def handle(number: int) -> int:
        return number

    async with TestLocalBroker(router) as broker:
        await broker.publish(1, "inner")
        assert log == []
        await broker.publish(2, "outer")
        assert log == ["guard"]
        handle.mock.assert_called_once_with(2)
        await handle.wait_called()
        assert [one.decoded() for one in broker.published("out")] == [1, 2]


async def test_a_publisher_that_comes_later_has_the_results_of_the_wrapper_too() -> None:
    router, log = LocalRouter(), Log()

    async def handle(number: int) -> int:
        return number

    first, outermost, second = (router.publisher(name) for name in ("1st", "outermost", "2nd"))
    first(handle)
    wrapper = outermost(guard(log)(handle))
    router.subscriber("in")(wrapper)
    second(handle)
    (subscriber,) = router.broker.subscribers
    assert subscriber.registration is not None
    assert subscriber.registration.publishers == [first, second, outermost], "the one nearest to the function first"


class Store:
    """Has methods that are handlers."""

    def __init__(self, log: Log, name: str) -> None:
        self.log = log
        self.name = name

    async def plain(self, number: int) -> int:
        self.log.append((self.name, number))
        return number


async def test_bound_methods_keep_their_object_and_their_publisher() -> None:
    router, log = LocalRouter(), Log()

    class Published(Store):
        @router.publisher("out")
        async def save(self, number: int) -> int:
            return await self.plain(number)

        @classmethod
        @router.publisher("out")
        async def of_class(cls, number: int) -> int:
            log.append((cls.__name__, number))
            return number

        @staticmethod
        @router.publisher("out")
        async def static(number: int) -> int:
            log.append(("static", number))
            return number

    router.subscriber("a")(Published(log, "a").save)
    router.subscriber("b")(Published(log, "b").save)
    router.subscriber("class")(Published.of_class)
    router.subscriber("static")(Published.static)
    router.subscriber("partial")(functools.partial(Published.save, Published(log, "partial")))
    assert await run(router, "a", "b", "class", "static", "partial") == [1] * 5
    assert log == [("a", 1), ("b", 1), ("Published", 1), ("static", 1), ("partial", 1)]


async def test_a_callable_object_whose_call_is_published() -> None:
    router, log = LocalRouter(), Log()

    class Called(Store):
        @router.publisher("out")
        async def __call__(self, number: int) -> int:
            return await self.plain(number)

    router.subscriber("a")(Called(log, "a"))
    router.subscriber("b")(functools.partial(Called(log, "b")))
    assert await run(router, "a", "b") == [1, 1]
    assert log == [("a", 1), ("b", 1)]


class Yields:
    """Calling any of these runs nothing."""

    def __call__(self, number: int) -> Iterator[int]:
        yield number

    async def later(self, number: int) -> AsyncIterator[int]:
        yield number

    @staticmethod
    def with_more(more: int, number: int) -> Iterator[int]:
        yield more + number


@pytest.mark.parametrize(
    "handler",
    [Yields(), Yields().__call__, Yields().later, functools.partial(Yields.with_more, 1)],
    ids=["object", "method", "async method", "partial"],
)
@pytest.mark.parametrize("decorator", ["subscriber", "publisher"])
def test_no_generator_in_disguise_is_a_handler(handler: Any, decorator: str) -> None:
    router = LocalRouter()
    with pytest.raises(SetupError, match="it is a generator, and a handler returns its result; use `return`"):
        getattr(router, decorator)("numbers")(handler)


async def test_a_publisher_over_what_wraps_a_handler_is_refused() -> None:
    router = LocalRouter()

    @router.publisher("out")
    @guard([])
    @router.subscriber("in")
    async def handle(number: int) -> int:
        return number

    with pytest.raises(SetupError, match=r"'handle' wraps a subscriber's handler.*beneath @router\.subscriber"):
        await router.broker.start()
    router.subscriber("outer")(handle)
    async with TestLocalBroker(router) as broker:
        assert broker.running


async def test_a_wrapped_function_that_handles_nothing_is_refused() -> None:
    router = LocalRouter()

    @guard([])
    @router.publisher("out")
    async def handle(number: int) -> int:
        return number

    router.publisher("again")(guard([])(handle))
    with pytest.raises(SetupError, match="'handle' is no subscriber's handler"):
        await router.broker.start()
