"""Conformance: what is injected by its class, and what is refused."""

from typing import Annotated, Any

import pytest
from fastapi import Depends

from ...broker import Broker
from ...errors import SetupError
from ...message import BatchMessage, StreamMessage
from .harness import Harness, Inbox

__all__ = ("InjectionSuite",)


class ForeignBroker(Broker):
    """One that no router has."""


class ForeignMessage(StreamMessage):
    """One that no broker gives."""


class InjectionSuite:
    """What is filled by its type; a part of the binding suite."""

    async def test_message_and_broker_are_injected_anywhere(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()

        async def inner(message: StreamMessage, broker: Broker) -> tuple[StreamMessage, Broker]:
            return message, broker

        async def handler(
            message: StreamMessage,
            order: dict[str, int],
            below: Annotated[tuple[Any, Any], Depends(inner)],
            broker: Broker,
        ) -> None:
            seen.put((message is below[0], broker is below[1], broker is router.broker, message.address, order["id"]))

        harness.subscribe(router, address)(handler)
        async with harness.running(router) as broker:
            await harness.publish(broker, {"id": 1}, address)
            assert await seen.take() == (True, True, True, address, 1)

    async def test_the_class_of_a_message_is_the_one_that_handlers_name(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()
        subscription = harness.subscribe(router, address)

        async def handler(message: Any) -> None:
            seen.put(type(message))

        handler.__annotations__["message"] = subscription.message_type
        subscription(handler)
        async with harness.running(router) as broker:
            await harness.publish(broker, "hi", address)
            assert await seen.take() is subscription.message_type

    @pytest.mark.parametrize("type_", [ForeignBroker, ForeignMessage, BatchMessage])
    async def test_what_another_broker_injects_is_refused(self, harness: Harness, type_: Any) -> None:
        async def foreign(it: Any) -> None: ...

        foreign.__annotations__["it"] = type_

        async def handler(msg: str, below: Annotated[None, Depends(foreign)]) -> None: ...

        wrongs: list[Any] = [foreign, handler]
        for wrong in wrongs:
            with pytest.raises(SetupError, match=f"parameter 'it' asks for {type_.__name__}, and the "):
                harness.subscribe(harness.router(), harness.address())(wrong)

    async def test_a_dependency_may_be_shared_with_another_broker(self, harness: Harness) -> None:
        seen = Inbox()
        router = harness.router()
        address = harness.address()
        subscription = harness.subscribe(router, address)

        async def shared(broker: Any, message: Any) -> bool:
            return broker is router.broker and type(message) is subscription.message_type

        shared.__annotations__["broker"] = ForeignBroker | type(router.broker)
        shared.__annotations__["message"] = subscription.message_type | ForeignMessage

        @subscription
        async def handler(it: Annotated[bool, Depends(shared)]) -> None:
            seen.put(it)

        async with harness.running(router) as broker:
            await harness.publish(broker, "hi", address)
            assert await seen.take() is True
