from fastapi import FastAPI
from fastapi_stream_kafka import KafkaRouter

router = KafkaRouter("localhost:9092")
greetings: list[str] = []


@router.subscriber("greetings")
@router.publisher("greeted")
async def greet(text: str) -> str:
    greetings.append(text)
    return text


@router.after_startup
async def hello(app: FastAPI) -> None:  # also without the parameter
    await router.broker.publish("Hello!", "greetings")  # reaches this app's own subscribers


app = FastAPI(lifespan=router.lifespan_context)
app.include_router(router)
