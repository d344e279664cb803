from fastapi import FastAPI
from fastapi_stream_kafka import KafkaRouter

core = KafkaRouter("localhost:9092")
orders, users = KafkaRouter(), KafkaRouter()  # nested: no connection of their own


@orders.subscriber("orders")
@orders.publisher("done")
async def order(id: int) -> str:
    return f"order {id}"


@users.subscriber("users")
@users.publisher("done")
async def user(id: int) -> str:
    return f"user {id}"


core.include_router(orders)
core.include_router(users)
app = FastAPI(lifespan=core.lifespan_context)
app.include_router(core)
