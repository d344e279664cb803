"""Conformance: dependencies, overrides and the context."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Annotated, Any

from anyio import from_thread
from fastapi import Depends, FastAPI

from ...context import Context
from .harness import Harness, Inbox, deliver, needs

__all__ = ("DependencySuite",)


_of_message: ContextVar[str] = ContextVar("of_message", default="nothing")


class DependencySuite:
    """What handlers depend on; a part of the binding suite."""

    async def test_dependencies_of_every_shape(self, harness: Harness) -> None:
        seen = Inbox()
        order: list[str] = []

        def sync() -> str:
            return "sync"

        async def asynchronous(base: Annotated[str, Depends(sync)]) -> str:
            return f"{base}+async"

        async def yielding() -> AsyncIterator[str]:
            order.append("open")
            yield "yield"
            order.append("close")

        def sync_yielding() -> Iterator[str]:
            yield "sync yield"

        class Klass:
            def __init__(self, msg: str) -> None:
                self.msg = msg

        async def handler(
            msg: str,
            a: Annotated[str, Depends(asynchronous)],
            b: Annotated[str, Depends(yielding)],
            c: Annotated[str, Depends(sync_yielding)],
            d: Annotated[Klass, Depends()],
        ) -> None:
            order.append("handler")
            seen.put((msg, a, b, c, d.msg))

        got = await deliver(harness, handler, "hi", seen)
        assert got == ("hi", "sync+async", "yield", "sync yield", "hi")
        assert order == ["open", "handler", "close"]

    async def test_a_shared_dependency_is_called_once(self, harness: Harness) -> None:
        seen = Inbox()
        calls: list[str] = []

        async def shared() -> int:
            calls.append("shared")
            return len(calls)

        async def handler(
            msg: str,
            a: Annotated[int, Depends(shared)],
            b: Annotated[int, Depends(shared)],
            c: Annotated[int, Depends(shared, use_cache=False)],
        ) -> None:
            seen.put((a, b, c))

        assert await deliver(harness, handler, "hi", seen) == (1, 1, 2)

    async def test_dependencies_run_from_the_outside_in(self, harness: Harness) -> None:
        seen = Inbox()
        order: list[str] = []

        def noting(name: str) -> Any:
            async def dependency() -> None:
                order.append(name)

            return Depends(dependency)

        outer, inner = harness.router(dependencies=[noting("outer")]), harness.router(dependencies=[noting("inner")])
        address = harness.address()

        @harness.subscribe(inner, address, dependencies=[noting("own")])
        async def handler(msg: str) -> None:
            seen.put(list(order))

        outer.include_router(inner, dependencies=[noting("include")])
        async with harness.running(outer) as broker:
            await harness.publish(broker, "hi", address)
            assert await seen.take() == ["outer", "include", "inner", "own"]

    async def test_overrides_are_looked_up_at_call_time(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        async def original() -> str:
            return "original"

        async def override() -> str:
            return "override"

        @harness.subscribe(router, address)
        async def handler(msg: str, dep: Annotated[str, Depends(original)]) -> None:
            seen.put(dep)

        app = FastAPI()
        app.include_router(router)
        async with harness.running(router) as broker:
            await harness.publish(broker, "hi", address)
            assert await seen.take() == "original"
            app.dependency_overrides[original] = override
            await harness.publish(broker, "hi", address)
            assert await seen.take() == "override"

    async def test_context_paths_resolve(self, harness: Harness) -> None:
        needs(harness, "headers")
        seen = Inbox()
        router = harness.router()
        router.context.set_global("settings", {"name": "prod"})
        address = harness.address()

        async def below(x: Annotated[str, Context("message.headers.x-kind")]) -> str:
            return x

        @harness.subscribe(router, address)
        async def handler(
            msg: str,
            kind: Annotated[str, Depends(below)],
            name: Annotated[str, Context("settings.name")],
            missing: Annotated[str, Context("nothing", default="d")],
        ) -> None:
            seen.put((kind, name, missing))

        async with harness.running(router) as broker:
            await harness.publish(broker, "hi", address, headers={"X-Kind": "k"})
            assert await seen.take() == ("k", "prod", "d")

    async def test_a_context_variable_ends_with_its_message(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        waits, in_thread = harness.address(), harness.address()

        async def tenant(msg: str) -> str:
            before = _of_message.get()
            _of_message.set(f"dependency of {msg}")
            return before

        @harness.subscribe(router, waits)
        async def handler(msg: str, before: Annotated[str, Depends(tenant)]) -> None:
            await asyncio.sleep(0)
            seen.put((before, _of_message.get(), router.context.get("who")))
            _of_message.set(f"handler of {msg}")
            router.context.set_local("who", msg)

        @harness.subscribe(router, in_thread)
        def sync_handler(msg: str) -> None:
            from_thread.run_sync(seen.put, (_of_message.get(), router.context.get("who")))
            _of_message.set(f"handler of {msg}")
            router.context.set_local("who", msg)

        async with harness.running(router) as broker:
            for name in "ab":
                await harness.publish(broker, name, waits)
                assert await seen.take() == ("nothing", f"dependency of {name}", None)
            for name in "cd":
                await harness.publish(broker, name, in_thread)
                assert await seen.take() == ("nothing", None)
