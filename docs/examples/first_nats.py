from typing import Annotated

from fastapi import Depends, FastAPI, Header
from fastapi_stream_nats import Logger, NatsRouter
from pydantic import BaseModel

router = NatsRouter("nats://localhost:4222")


class Order(BaseModel):
    id: int
    lines: dict[str, int]


class Invoice(BaseModel):
    order: int
    total: float


def prices() -> dict[str, float]:
    return {"tea": 3.5}


@router.post("/orders")
async def create(order: Order) -> None:
    await router.broker.publish(order, "orders", headers={"tenant": "acme"})


@router.subscriber("orders", queue="billing")
@router.publisher("invoices")
async def bill(
    order: Order,
    logger: Logger,
    price: Annotated[dict[str, float], Depends(prices)],
    tenant: Annotated[str, Header()] = "none",
) -> Invoice:
    logger.info("order %s of %s", order.id, tenant)
    return Invoice(order=order.id, total=sum(price[name] * count for name, count in order.lines.items()))


app = FastAPI(lifespan=router.lifespan_context)
app.include_router(router)
