from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Header
from fastapi_stream_kafka import Context, KafkaMessage, KafkaRouter, Logger
from pydantic import BaseModel

router = KafkaRouter("localhost:9092")


class Order(BaseModel):
    id: int
    lines: dict[str, int]


def prices() -> dict[str, float]:
    return {"tea": 3.5}


@router.subscriber("orders")
@router.publisher("invoices")
async def bill(
    order: Order,
    logger: Logger,
    tasks: BackgroundTasks,
    message: KafkaMessage,
    price: Annotated[dict[str, float], Depends(prices)],
    tenant: Annotated[str, Header()] = "none",
    correlation: Annotated[str, Context("message.correlation_id")] = "",
) -> dict[str, float]:
    logger.info("order %s of %s", order.id, tenant)
    tasks.add_task(print, "billed", order.id)
    return {"total": sum(price[name] * n for name, n in order.lines.items())}


@router.get("/health")
async def health() -> str:
    return "ok"


app = FastAPI(lifespan=router.lifespan_context)
app.include_router(router)
