from fastapi import FastAPI
from fastapi_stream_redis import ListSub, RedisRouter, StreamSub
from pydantic import BaseModel

router = RedisRouter("redis://localhost:6379")


class Order(BaseModel):
    id: int
    total: float


@router.post("/orders")
async def create(order: Order) -> str:
    entry: bytes = await router.broker.publish(order, stream=StreamSub("orders", maxlen=100_000))
    return entry.decode()


# Every process of the app is a consumer of the group "billing", under a name of its own.
@router.subscriber(stream=StreamSub("orders", group="billing"), max_workers=10)
@router.publisher(list="bills")
@router.publisher("bills.new")
async def bill(order: Order) -> str:
    return f"{order.id}: {order.total:.2f}"


# Without a group every instance sees every order that comes while it runs.
@router.subscriber(stream="orders")
async def watch(order: Order) -> None: ...


# Up to 50 bills at once; the instances share the list.
@router.subscriber(list=ListSub("bills", batch=True, max_records=50))
async def archive(bills: list[str]) -> None: ...


# A pattern with a parameter.
@router.subscriber("bills.{event}")
async def notify(event: str, text: str) -> None: ...


app = FastAPI(lifespan=router.lifespan_context)
app.include_router(router)
