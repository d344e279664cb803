from fastapi import FastAPI
from fastapi_stream_nats import NatsRouter

# Only who waits for an answer gets one: an inbox of NATS.
router = NatsRouter("nats://localhost:4222", replies="inbox")
PRICES = {"tea": 3.5}


@router.subscriber("prices.get")
async def price(article: str) -> float:
    return PRICES[article]


# Answers to another team's subjects, too.
@router.subscriber("prices.list", replies=["_INBOX.*", "shop.answers.*"])
async def articles() -> list[str]:
    return sorted(PRICES)


# Nobody is answered.
@router.subscriber("prices.set", replies="off")
async def change(article: str, price: float) -> str:
    PRICES[article] = price
    return article


app = FastAPI(lifespan=router.lifespan_context)
app.include_router(router)
