"""The AsyncAPI document of the five packages; no server is needed for it."""

from typing import Annotated, Any, Literal

import fastapi_stream_confluent as confluent
import fastapi_stream_kafka as kafka
import fastapi_stream_nats as nats
import fastapi_stream_rabbit as rabbit
import fastapi_stream_redis as redis
import pytest
from fastapi import FastAPI, Header, Path
from fastapi.testclient import TestClient
from pydantic import BaseModel

from asyncapi_check import check

SECRET = "pass-w0rd"
PACKAGES = {"kafka": kafka, "confluent": confluent, "rabbit": rabbit, "nats": nats, "redis": redis}


class Order(BaseModel):
    id: int


class Invoice(BaseModel):
    total: float


def kafka_router(package: Any) -> Any:
    router = package.KafkaRouter("localhost:9092", security=package.SASLPlaintext("user", SECRET))
    router.subscriber("many", batch=True, group_id="g")(many)
    router.subscriber(pattern="users.{uid}")(user)
    router.subscriber(pattern=r"logs\..*", group_id="g")(order)
    router.subscriber("a", "b")(order)
    router.publisher("keyed", key=b"k", schema=Order)
    return router


def rabbit_router(package: Any) -> Any:
    router = package.RabbitRouter(f"amqp://user:{SECRET}@localhost:5672/shop")
    topic = package.RabbitExchange("events", type=package.ExchangeType.TOPIC)
    router.subscriber(package.RabbitQueue("users", routing_key="users.{uid}"), topic)(user)
    router.subscriber(package.RabbitQueue("all", routing_key="logs.#"), topic)(order)
    router.subscriber("fan", package.RabbitExchange("fan", type=package.ExchangeType.FANOUT))(order)
    router.publisher("users.new", topic, schema=Order)
    router.publisher(exchange=package.RabbitExchange("by-header", type=package.ExchangeType.HEADERS), schema=Order)
    return router


def nats_router(package: Any) -> Any:
    router = package.NatsRouter(f"nats://user:{SECRET}@localhost:4222")
    router.subscriber("users.{uid}", queue="workers")(user)
    router.subscriber("logs.>")(order)
    router.subscriber("tasks", stream="shop", durable="d")(order)
    router.subscriber("pulled", stream="shop", durable="p", pull_sub=package.PullSub(batch_size=10))(order)
    router.publisher("tasks", stream="shop", schema=Order)
    return router


def redis_router(package: Any) -> Any:
    router = package.RedisRouter(f"redis://user:{SECRET}@localhost:6379/1")
    router.subscriber("users.{uid}")(user)
    router.subscriber(package.PubSub("logs.*", pattern=True))(order)
    router.subscriber(list="same")(order)
    router.subscriber(stream="same")(order)
    router.subscriber("same")(order)
    router.subscriber(stream=package.StreamSub("grouped", group="g", consumer="c"))(order)
    router.publisher(list="same", schema=Order)
    router.publisher(stream="other", schema=Order)
    return router


ROUTERS = {
    "kafka": kafka_router,
    "confluent": kafka_router,
    "rabbit": rabbit_router,
    "nats": nats_router,
    "redis": redis_router,
}


async def many(orders: list[Order]) -> None: ...


async def user(uid: Annotated[Literal["1", "2"], Path(description="Who.")], order: Order) -> None: ...


async def order(order: Order) -> None: ...


def declare(router: Any) -> Any:
    @router.subscriber("orders")
    @router.publisher("invoices")
    async def bill(order: Order, x_trace: Annotated[str, Header()]) -> Invoice:
        """Write the bill."""
        return Invoice(total=order.id)

    return router


@pytest.mark.parametrize("version", ["3.0.0", "3.1.0"])
@pytest.mark.parametrize("broker", ROUTERS)
def test_the_document_of_each_package(broker: str, version: str) -> None:
    package = PACKAGES[broker]
    router = declare(ROUTERS[broker](package))
    router.schema = package.AsyncAPI(router.broker, schema_version=version)
    app = FastAPI(title="Shop")
    app.include_router(router)
    found = TestClient(app).get("/asyncapi.json").json()
    check(found, secrets=(SECRET,))
    assert found["asyncapi"] == version
    operations = found["operations"]
    assert len(operations) == len(router.broker.subscribers) + len(router.broker.publishers) + ("order_a" in operations)
    assert operations["bill"]["summary"] == "Write the bill."
    assert operations["bill"]["reply"]["messages"] == [{"$ref": "#/channels/bill_reply/messages/Invoice"}]
    assert operations["send_invoices"]["messages"] == [{"$ref": "#/channels/invoices/messages/Invoice"}]
    assert found["channels"]["users.uid"]["address"] == "users.{uid}"
    assert found["channels"]["users.uid"]["parameters"] == {"uid": {"description": "Who.", "enum": ["1", "2"]}}
    assert found["components"]["messages"]["Order"]["headers"]
    assert broker == "rabbit" or {"type": "userPassword"} in found["components"]["securitySchemes"].values()


def test_one_document_for_all() -> None:
    app = FastAPI(title="Shop")
    for broker, package in PACKAGES.items():
        app.include_router(declare(ROUTERS[broker](package)), prefix=f"/{broker}")
    client = TestClient(app)
    documents = [client.get(f"/{broker}/asyncapi.json").json() for broker in PACKAGES]
    check(documents[0], secrets=(SECRET,))
    assert documents[1:] == documents[:1] * 4
    assert {server["protocol"] for server in documents[0]["servers"].values()} == {"kafka", "amqp", "nats", "redis"}
    assert len([name for name in documents[0]["operations"] if name.startswith("bill")]) == 5
