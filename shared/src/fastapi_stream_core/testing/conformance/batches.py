"""Conformance: handlers that take several messages in one call."""

import asyncio
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Security
from fastapi.security import APIKeyHeader
from pydantic import BaseModel

from ...message import StreamMessage
from ...policy import RejectMessage
from .harness import DEADLINE, Harness, Inbox, needs

__all__ = ("BatchSuite",)


class Order(BaseModel):
    id: int


class Total(BaseModel):
    total: float


class BatchSuite:
    """What a batch handler gets, and what becomes of the messages of a batch."""

    async def test_a_batch_is_a_list(self, harness: Harness) -> None:
        needs(harness, "batch")
        seen = Inbox()

        async def handler(orders: list[Order]) -> None:
            for order in orders:
                seen.put(order)

        router = harness.router()
        address = harness.address()
        harness.subscribe(router, address, batch=True)(handler)
        async with harness.running(router) as broker:
            for number in range(3):
                await harness.publish(broker, {"id": number}, address)
            assert await seen.take_many(3) == [Order(id=0), Order(id=1), Order(id=2)]

    async def test_a_bad_item_of_a_batch_is_settled_alone(self, harness: Harness) -> None:
        needs(harness, "batch")
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address, batch=True)
        async def handler(orders: list[Order]) -> None:
            for order in orders:
                seen.put(order.id)

        async with harness.running(router) as broker:
            for body in ({"id": 1}, {"id": "bad"}, {"id": 3}):
                await harness.publish(broker, body, address)
            assert await seen.take_many(2) == [1, 3]

    async def test_a_header_is_that_of_every_message_of_the_batch(self, harness: Harness) -> None:
        """A wrong one, or one that is missing, is the failure of its own message."""
        needs(harness, "batch", "headers")
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        @harness.subscribe(router, address, batch=True)
        async def handler(orders: list[Order], tenant: Annotated[int, Header()]) -> None:
            for order in orders:
                seen.put((order.id, tenant))

        given = ["7", "7", "x", None, "7", "8", "8", "7"]
        async with harness.running(router) as broker:
            publishing = (
                harness.publish(broker, {"id": number}, address, headers={} if one is None else {"tenant": one})
                for number, one in enumerate(given)
            )
            await asyncio.gather(*publishing)
            taken = await seen.take_many(6)
        assert sorted(taken) == [(0, 7), (1, 7), (4, 7), (5, 8), (6, 8), (7, 7)]

    async def test_a_dependency_refuses_the_messages_of_a_batch_that_it_is_about(self, harness: Harness) -> None:
        needs(harness, "batch", "headers")
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        def signed(signature: Annotated[str, Header()] = "") -> None:
            if signature != "good":
                raise RejectMessage

        @harness.subscribe(router, address, batch=True, dependencies=[Depends(signed)])
        async def handler(orders: list[Order]) -> None:
            for order in orders:
                seen.put(order.id)

        async with harness.running(router) as broker:
            publishing = (
                harness.publish(broker, {"id": number}, address, headers={"signature": one})
                for number, one in enumerate(["good", "bad", "bad", "good"])
            )
            await asyncio.gather(*publishing)
            await seen.take_many(2)
            await harness.publish(broker, {"id": 4}, address, headers={"signature": "good"})
            await seen.take()
        assert sorted(seen.all) == [0, 3, 4]

    async def test_a_key_is_that_of_every_message_of_the_batch(self, harness: Harness) -> None:
        """A message with a wrong one does not come in by the right one of another."""
        needs(harness, "batch", "headers")
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        def user(key: Annotated[str, Security(APIKeyHeader(name="x-key"))]) -> str:
            if key != "good":
                raise RejectMessage
            return key

        @harness.subscribe(router, address, batch=True)
        async def handler(orders: list[Order], user: Annotated[str, Depends(user)]) -> None:
            for order in orders:
                seen.put(order.id)

        async with harness.running(router) as broker:
            publishing = (
                harness.publish(broker, {"id": number}, address, headers={"x-key": one})
                for number, one in enumerate(["good", "bad", "bad", "good"])
            )
            await asyncio.gather(*publishing)
            await seen.take_many(2)
            await harness.publish(broker, {"id": 4}, address, headers={"x-key": "good"})
            await seen.take()
        assert sorted(seen.all) == [0, 3, 4]

    async def test_a_header_that_an_override_reads_is_that_of_every_message(self, harness: Harness) -> None:
        needs(harness, "batch", "headers")
        seen = Inbox()
        router = harness.router()
        address = harness.address()
        app = FastAPI()

        def tenant() -> int:
            return 0

        def named(tenant: Annotated[int, Header()]) -> int:
            return tenant

        @harness.subscribe(router, address, batch=True)
        async def handler(orders: list[Order], tenant: Annotated[int, Depends(tenant)]) -> None:
            for order in orders:
                seen.put((order.id, tenant))

        app.include_router(router)
        app.dependency_overrides[tenant] = named
        async with harness.running(router) as broker:
            publishing = (
                harness.publish(broker, {"id": number}, address, headers={"tenant": str(number % 2)})
                for number in range(6)
            )
            await asyncio.gather(*publishing)
            assert sorted(await seen.take_many(6)) == [(number, number % 2) for number in range(6)]
            app.dependency_overrides[tenant] = lambda: 7
            await harness.publish(broker, {"id": 6}, address, headers={"tenant": "1"})
            assert await seen.take() == (6, 7)

    async def test_a_part_of_the_address_is_that_of_every_message_of_the_batch(self, harness: Harness) -> None:
        needs(harness, "batch", "path")
        seen = Inbox()
        router = harness.router()
        template = harness.address("{tenant}")

        @harness.subscribe(router, template, batch=True)
        async def handler(orders: list[Order], tenant: str) -> None:
            for order in orders:
                seen.put((order.id, tenant))

        async with harness.running(router) as broker:
            publishing = (
                harness.publish(broker, {"id": number}, harness.concrete(template, tenant=one))
                for number, one in enumerate("aabab")
            )
            await asyncio.gather(*publishing)
            taken = await seen.take_many(5)
        assert sorted(taken) == list(enumerate("aabab"))

    async def test_an_answer_is_about_messages_of_who_asked(self, harness: Harness) -> None:
        needs(harness, "batch")
        seen = Inbox()
        router = harness.router()
        source, first, second = (harness.address() for _ in range(3))

        def answers(address: str) -> None:
            @harness.subscribe_replies(router, address)
            async def sink(message: StreamMessage) -> None:
                for number in await message.decode():
                    seen.put((address, number))

        answers(first)
        answers(second)

        @harness.subscribe(router, source, batch=True)
        async def handler(orders: list[Order]) -> list[int]:
            return [order.id for order in orders]

        asked = [first, second, first, second]
        async with harness.running(router) as broker:
            publishing = (
                harness.publish(broker, {"id": number}, source, reply_to=one, correlation_id=f"c-{number}")
                for number, one in enumerate(asked)
            )
            await asyncio.gather(*publishing)
            taken = await seen.take_many(4, DEADLINE)
        assert sorted(taken, key=lambda one: int(one[1])) == [(one, number) for number, one in enumerate(asked)]

    async def test_none_of_a_batch_is_not_published(self, harness: Harness) -> None:
        needs(harness, "batch")
        ran = Inbox()
        router = harness.router()
        source, target = harness.address(), harness.address()

        @harness.subscribe(router, target)
        async def sink(msg: Any) -> None:
            raise AssertionError("nothing was published")

        @harness.subscribe(router, source, batch=True)
        @harness.publisher(router, target)
        async def handler(msgs: list[str]) -> Total:
            ran.put(msgs)
            return None  # type: ignore[return-value]

        async with harness.running(router) as broker:
            await harness.publish(broker, "a", source)
            assert await ran.take() == ["a"]
        assert ran.all == [["a"]]
        assert "failed" not in router.broker.report.counts
