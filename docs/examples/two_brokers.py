from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_stream_kafka import KafkaRouter
from fastapi_stream_rabbit import RabbitRouter

kafka, rabbit = KafkaRouter("localhost:9092"), RabbitRouter("amqp://guest:guest@localhost:5672/")


@kafka.subscriber("orders")
async def forward(id: int) -> None:
    await rabbit.broker.publish(id, "tickets")


@rabbit.subscriber("tickets")
async def print_ticket(id: int) -> None:
    await kafka.broker.publish(f"ticket {id}", "printed")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with kafka.lifespan_context(app), rabbit.lifespan_context(app):
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(kafka)
app.include_router(rabbit)  # one AsyncAPI document with both
