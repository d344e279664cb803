"""A small shop: orders come in over HTTP and are billed by handlers of messages.

    POST /orders -> "orders" -> bill -> "invoices" -> archive -> GET /invoices/{order}

It is written once. Which broker carries the messages is decided by the router that is given to `create_app`.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Depends, FastAPI, HTTPException
from fastapi_stream_core import Logger
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from fastapi_stream_confluent import KafkaRouter as ConfluentRouter
    from fastapi_stream_kafka import KafkaRouter
    from fastapi_stream_nats import NatsRouter
    from fastapi_stream_rabbit import RabbitRouter
    from fastapi_stream_redis import RedisRouter

    AnyRouter = TypeVar("AnyRouter", KafkaRouter, ConfluentRouter, RabbitRouter, NatsRouter, RedisRouter)

log = logging.getLogger("shop")


class Order(BaseModel):
    id: int
    lines: dict[str, Annotated[int, Field(gt=0)]]


class Invoice(BaseModel):
    order: int
    total: float


class Ledger:
    """The invoices that were seen, and whoever waits for one."""

    def __init__(self) -> None:
        self._invoices: dict[int, Invoice] = {}
        self._changed = asyncio.Condition()

    async def add(self, invoice: Invoice) -> None:
        async with self._changed:
            self._invoices[invoice.order] = invoice
            self._changed.notify_all()

    async def invoice_of(self, order: int, within_seconds: float) -> Invoice | None:
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: order in self._invoices), within_seconds)
            except asyncio.TimeoutError:
                return None
            return self._invoices[order]


def prices() -> dict[str, float]:
    return {"tea": 3.5, "coffee": 4.0}


def create_app(router: "AnyRouter") -> FastAPI:
    ledger = Ledger()

    @router.post("/orders", status_code=202)
    async def create(order: Order) -> Order:
        await router.broker.publish(order, "orders")
        log.info("1. order %s came in over HTTP and was published to 'orders'", order.id)
        return order

    @router.subscriber("orders")
    @router.publisher("invoices")
    async def bill(order: Order, logger: Logger, price: Annotated[dict[str, float], Depends(prices)]) -> Invoice:
        total = sum(price.get(name, 1.0) * count for name, count in order.lines.items())
        logger.info("2. order %s was handled: it costs %.2f, and the invoice goes to 'invoices'", order.id, total)
        return Invoice(order=order.id, total=total)

    @router.subscriber("invoices")
    async def archive(invoice: Invoice, logger: Logger) -> None:
        logger.info("3. the invoice of order %s was seen by a second handler", invoice.order)
        await ledger.add(invoice)

    @router.get("/invoices/{order}")
    async def invoice(order: int, within_seconds: float = 10) -> Invoice:
        found = await ledger.invoice_of(order, within_seconds)
        if found is None:
            raise HTTPException(404, f"no invoice of order {order} within {within_seconds:g} s")
        return found

    app = FastAPI(title="Shop", version="1.0.0", lifespan=router.lifespan_context)
    app.include_router(router)
    return app
