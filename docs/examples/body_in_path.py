from typing import Annotated

from fastapi import FastAPI, Path
from fastapi_stream_kafka import KafkaRouter

router = KafkaRouter("localhost:9092")
names: dict[int, str] = {}


@router.subscriber("users")
@router.publisher("renamed")
async def rename(id: Annotated[int, Path()], name: str) -> int:  # {"id": 1, "name": "Ann"}
    names[id] = name
    return id


app = FastAPI(lifespan=router.lifespan_context)
app.include_router(router)
