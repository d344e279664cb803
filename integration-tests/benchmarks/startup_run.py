"""One measured start, a process of its own: python startup_run.py import ours kafka, or subscribers ours kafka one."""

# No `annotations` of the future: the handlers below are annotated with classes that are made as they are.

import gc
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).parent))

from process import tell

CLIENTS = {
    "kafka": ("aiokafka", "aiokafka.admin"),
    "confluent": ("confluent_kafka", "confluent_kafka.admin"),
    "rabbit": ("aio_pika",),
    "nats": ("nats", "nats.js"),
    "redis": ("redis.asyncio",),
}
ROUTERS = {"kafka": "Kafka", "confluent": "Kafka", "rabbit": "Rabbit", "nats": "Nats", "redis": "Redis"}
FIRST_OPTION = {"kafka": {"group_id": "g"}, "confluent": {"group_id": "g"}}
SUBSCRIBERS = 1000
MIB = 2**20


def module_of(variant: str, broker: str) -> str:
    return f"fastapi_stream_{broker}" if variant == "ours" else f"faststream.{broker}.fastapi"


def settle() -> None:
    """Leave what is there out of later garbage collections, so that none of them is paid by what is measured."""
    gc.collect()
    gc.freeze()


def resident() -> float:
    """Mebibytes of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def measure_import(variant: str, broker: str) -> dict[str, float]:
    """Import the router's package when FastAPI and the client are imported."""
    for name in ("fastapi", *CLIENTS[broker]):
        import_module(name)
    settle()
    modules, memory, began = len(sys.modules), resident(), time.process_time()
    import_module(module_of(variant, broker))
    return {
        "ms": (time.process_time() - began) * 1e3,
        "MiB": resident() - memory,
        "modules": len(sys.modules) - modules,
    }


def handlers(models: int) -> list[Callable[..., Any]]:
    """A thousand handlers, each with a model, a dependency and a header; of one model or a model each."""
    from fastapi import Depends, Header
    from pydantic import create_model

    fields: dict[str, Any] = {name: (kind, ...) for name, kind in (("id", int), ("name", str), ("tags", list[str]))}
    made = [create_model(f"Order{number}", **fields) for number in range(models)]

    async def settings() -> int:
        return 1

    def handler(number: int) -> Callable[..., Any]:
        model = made[number % models]

        async def handle(
            order: model,  # type: ignore[valid-type]
            one: Annotated[int, Depends(settings)],
            x_tenant: Annotated[str, Header()] = "",
        ) -> None: ...

        handle.__name__ = f"handle_{number}"
        return handle

    return [handler(number) for number in range(SUBSCRIBERS)]


def measure_subscribers(variant: str, broker: str, models: str, traced: str = "") -> dict[str, float]:
    """Declare a thousand subscribers and make their handlers ready, then their document.

    Traced, a run gives nothing but what Python itself has allocated: tracing makes everything slower and larger.

    Ours are ready when they are declared. The peer's are completed by the method that its start calls for each.
    """
    from fastapi import FastAPI

    Router: Any = getattr(import_module(module_of(variant, broker)), f"{ROUTERS[broker]}Router")
    functions = handlers(SUBSCRIBERS if models == "many" else 1)

    @FastAPI().get("/")  # the first route of a process imports more of FastAPI; any app pays that
    def first() -> None: ...

    settle()
    if traced:
        tracemalloc.start()
    memory, began = resident(), time.process_time()
    router = Router(logger=None)
    for number, function in enumerate(functions):
        router.subscriber(f"topic-{number}", **FIRST_OPTION.get(broker, {}))(function)
    app = FastAPI()
    app.include_router(router)
    if variant == "peer":
        router.broker._setup_logger()
        for subscriber in router.broker.subscribers:
            subscriber._build_fastdepends_model()
    taken = time.process_time() - began
    gc.collect()
    if traced:
        return {"traced": tracemalloc.get_traced_memory()[0] / MIB}
    ready, began = resident(), time.process_time()
    document = router.schema.to_specification().to_json()
    return {
        "s": taken,
        "MiB": ready - memory,
        "document s": time.process_time() - began,
        "document MiB": resident() - ready,
        "document KiB": len(document) / 1024,
    }


MEASURES: dict[str, Callable[..., dict[str, float]]] = {"import": measure_import, "subscribers": measure_subscribers}


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # the peer's router says that it will move
    action, *arguments = sys.argv[1:]
    tell(result=MEASURES[action](*arguments))
