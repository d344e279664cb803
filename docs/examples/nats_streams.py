from fastapi import FastAPI
from fastapi_stream_nats import ConsumerConfig, JStream, NatsRouter, PullSub
from pydantic import BaseModel

router = NatsRouter("nats://localhost:4222")
orders = JStream("shop", max_age=7 * 24 * 3600)


class Order(BaseModel):
    id: int
    total: float


@router.post("/orders/{country}")
async def create(country: str, order: Order) -> int:
    stored = await router.broker.publish(order, f"orders.{country}", stream="shop")
    return stored.seq


# Every instance of the app shares the consumer "billing", which goes on where it was.
@router.subscriber("orders.{country}", stream=orders, durable="billing", pull_sub=True, max_workers=10)
@router.publisher("bills", stream=orders)
async def bill(country: str, order: Order) -> str:
    return f"{country}: {order.total:.2f}"


# A list of up to 50, or what has come after 2 seconds.
@router.subscriber("orders.*", stream=orders, durable="report", pull_sub=PullSub(50, timeout=2, batch=True))
async def report(batch: list[Order]) -> None: ...


# Pushed, shared by the queue group, three attempts.
@router.subscriber("bills", queue="archive", stream=orders, config=ConsumerConfig(max_deliver=3))
async def archive(text: str) -> None: ...


app = FastAPI(lifespan=router.lifespan_context)
app.include_router(router)
