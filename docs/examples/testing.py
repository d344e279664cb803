# pip install pytest pytest-asyncio httpx; pytest --asyncio-mode=auto testing.py
# (or asyncio_mode = "auto" in the configuration of pytest): async tests need the plugin, TestClient needs httpx.
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from fastapi_stream_kafka import KafkaRouter, TestKafkaBroker
from pydantic import BaseModel

router = KafkaRouter("localhost:9092")
app = FastAPI(lifespan=router.lifespan_context)


class Order(BaseModel):
    id: int
    lines: dict[str, int]


def prices() -> dict[str, float]:
    return {"tea": 3.5}


@router.post("/orders")
async def create(order: Order) -> None:
    await router.broker.publish(order, "orders")


@router.subscriber("orders")
@router.publisher("invoices")
async def bill(order: Order, price: Annotated[dict[str, float], Depends(prices)]) -> dict[str, float]:
    return {"total": sum(price[name] * n for name, n in order.lines.items())}


app.include_router(router)


async def test_bill() -> None:
    async with TestKafkaBroker(router.broker) as broker:
        await broker.publish({"id": 1, "lines": {"tea": 2}}, "orders")
        bill.mock.assert_called_once_with({"id": 1, "lines": {"tea": 2}})
        assert [await m.decode() for m in broker.published("invoices")] == [{"total": 7.0}]


def test_app() -> None:
    with TestKafkaBroker(router.broker), TestClient(app) as client:
        assert client.post("/orders", json={"id": 1, "lines": {"tea": 2}}).status_code == 200
        bill.mock.assert_called_once_with({"id": 1, "lines": {"tea": 2}})


async def test_function() -> None:
    assert await bill(Order(id=1, lines={}), {"tea": 3.5}) == {"total": 0}  # it is still the function
