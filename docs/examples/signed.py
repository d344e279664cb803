import hmac
import os
from typing import Annotated

from fastapi import Depends, FastAPI, Header
from fastapi_stream_redis import RedisMessage, RedisRouter, RejectMessage, StreamSub
from pydantic import BaseModel

router = RedisRouter("redis://localhost:6379", schema_url=None)
KEY = os.environ.get("ORDERS_KEY", "").encode() or os.urandom(32)


class Order(BaseModel):
    id: int
    total: float


def signature_of(body: bytes) -> str:
    return hmac.new(KEY, body, "sha256").hexdigest()


def is_signed(message: RedisMessage, signature: Annotated[str, Header()] = "") -> None:
    if not hmac.compare_digest(signature.encode(), signature_of(message.body).encode()):
        raise RejectMessage


@router.subscriber(stream=StreamSub("orders", group="billing"), dependencies=[Depends(is_signed)])
@router.publisher(list="bills")
async def bill(order: Order) -> str:
    return f"{order.id}: {order.total:.2f}"


app = FastAPI(lifespan=router.lifespan_context)
app.include_router(router)
