"""Conformance: who gets a message."""

from typing import Annotated

from fastapi import Path

from .harness import Harness, Inbox, needs

__all__ = ("RoutingSuite",)


class RoutingSuite:
    """Derive a class `TestRouting` from it next to a fixture `harness`."""

    async def test_two_subscriptions_each_get_a_copy(self, harness: Harness) -> None:
        needs(harness, "fan_out")
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address)
        async def one(msg: str) -> None:
            seen.put(("one", msg))

        @harness.subscribe(router, address)
        async def two(msg: str) -> None:
            seen.put(("two", msg))

        async with harness.running(router) as broker:
            await harness.publish(broker, "hi", address)
            assert sorted(await seen.take_many(2)) == [("one", "hi"), ("two", "hi")]

    async def test_a_group_gets_each_message_once(self, harness: Harness) -> None:
        needs(harness, "competes")
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address, group="shared")
        async def one(msg: int) -> None:
            seen.put(msg)

        @harness.subscribe(router, address, group="shared")
        async def two(msg: int) -> None:
            seen.put(msg)

        async with harness.running(router) as broker:
            for number in range(10):
                await harness.publish(broker, number, address)
            assert sorted(await seen.take_many(10)) == list(range(10))
        assert len(seen.all) == 10

    async def test_a_template_takes_one_segment(self, harness: Harness) -> None:
        needs(harness, "path")
        seen = Inbox()
        router = harness.router()
        template = harness.address("{kind}.{number}")

        @harness.subscribe(router, template)
        async def handler(msg: str, kind: Annotated[str, Path()], number: Annotated[int, Path()]) -> None:
            seen.put((msg, kind, number))

        async with harness.running(router) as broker:
            await harness.publish(broker, "a", harness.concrete(template, kind="x", number="1"))
            assert await seen.take() == ("a", "x", 1)

    async def test_an_address_is_nobody_elses(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        mine, other = harness.address(), harness.address()

        @harness.subscribe(router, mine)
        async def on_mine(msg: str) -> None:
            seen.put(("mine", msg))

        @harness.subscribe(router, other)
        async def on_other(msg: str) -> None:
            seen.put(("other", msg))

        async with harness.running(router) as broker:
            await harness.publish(broker, "a", other)
            await harness.publish(broker, "b", mine)
            assert sorted(await seen.take_many(2)) == [("mine", "b"), ("other", "a")]
        assert len(seen.all) == 2
