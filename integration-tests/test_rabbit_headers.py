"""Headers with types: what a headers exchange compares, and what a handler reads of them."""

from datetime import datetime, timezone
from decimal import Decimal
from typing import Annotated

from fastapi import Header
from fastapi_stream_core.testing.conformance import Inbox
from fastapi_stream_rabbit import ExchangeType, RabbitExchange, RabbitMessage, RabbitQueue, RabbitRouter

from servers import Server


async def test_a_headers_exchange_gets_numbers_as_numbers(rabbit_server: Server) -> None:
    router, seen = RabbitRouter(rabbit_server.url, logger=None), Inbox()
    exchange = RabbitExchange("typed-headers", type=ExchangeType.HEADERS, auto_delete=True)
    queue = RabbitQueue("typed-headers", auto_delete=True, bind_arguments={"x-match": "all", "n": 5, "urgent": True})
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

    @router.subscriber(queue, exchange)
    async def handle(
        msg: str, message: RabbitMessage, n: Annotated[int, Header()], price: Annotated[Decimal, Header()]
    ) -> None:
        seen.put((msg, n, price, message.raw_message.headers))

    async with router.broker as broker:
        await broker.publish("text", exchange=exchange, headers={"n": "5", "urgent": True})
        sent = {"n": 5, "urgent": True, "price": Decimal("1.25"), "when": when, "rate": 0.5}
        await broker.publish("number", exchange=exchange, headers=sent)
        text, number, price, headers = await seen.take()
        assert (text, number, price) == ("number", 5, Decimal("1.25"))
        assert {name: headers[name] for name in sent} == sent
