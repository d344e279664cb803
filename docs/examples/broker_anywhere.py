from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi_stream_kafka import KafkaBroker, KafkaRouter
from pydantic import BaseModel

router = KafkaRouter("localhost:9092")
app = FastAPI(lifespan=router.lifespan_context)


class Order(BaseModel):
    id: int
    lines: dict[str, int]


@router.post("/orders")
async def create(order: Order) -> None:
    await router.broker.publish(order, "orders", headers={"tenant": "acme"})


def broker() -> KafkaBroker:
    return router.broker


@router.post("/again")
async def again(order: Order, broker: Annotated[KafkaBroker, Depends(broker)]) -> None:
    await broker.publish(order, "orders", headers={"tenant": "again"})


@app.get("/state")
async def state(request: Request) -> bool:
    return request.state.broker is router.broker  # unless KafkaRouter(..., setup_state=False)


app.include_router(router)
