from fastapi import FastAPI
from fastapi_stream_kafka import KafkaRouter
from pydantic import BaseModel

router = KafkaRouter("localhost:9092", schema_url="/asyncapi", include_in_schema=True)


class Order(BaseModel):
    id: int
    lines: dict[str, int]


@router.subscriber("orders")
async def receive(order: Order) -> None:
    """Take an order."""


app = FastAPI(title="Shop", lifespan=router.lifespan_context)
app.include_router(router)
# GET /asyncapi, /asyncapi.json, /asyncapi.yaml
