"""One measured run, a process of its own: python run.py consume kafka default ours URL ADDRESS COUNT."""

from __future__ import annotations

import asyncio
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from statistics import quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from order import ORDER, Order, Window, parse
from process import tell
from scenarios.scenario import Scenario

SCENARIOS = {"kafka": "Kafka", "confluent": "Confluent", "rabbit": "Rabbit", "nats": "Nats", "redis": "Redis"}
PER_SECOND = 200
CONCURRENT = 100


def scenario_of(broker: str) -> type[Scenario]:
    """The scenario of a broker; the others' clients are not imported."""
    found: type[Scenario] = getattr(import_module(f"scenarios.{broker}"), SCENARIOS[broker])
    return found


def ready() -> None:
    """Tell the parent that this process listens."""
    tell(ready=True)


def router_of(scenario: Scenario, variant: str) -> tuple[Any, Any]:
    """Our router or the peer's, and what declares its subscriber."""
    if variant == "ours":
        return scenario.ours()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the peer's router says that it will move
        return scenario.peer()


async def listen(scenario: Scenario, router: Any, over: asyncio.Event) -> None:
    """Run an app with the router until the event."""
    from fastapi import FastAPI

    app = FastAPI()
    app.include_router(router)
    async with router.lifespan_context(app):
        await scenario.listening(router)
        ready()
        await over.wait()


async def consume(scenario: Scenario, variant: str, count: int) -> dict[str, float]:
    """Handle `count` messages, which wait already or come when this process says that it listens."""
    window = Window(count)
    if variant == "raw":
        await scenario.raw(window.take, window.over, ready)
    else:
        await _consume(scenario, variant, window)
    left = await scenario.unsettled(count)
    if left:
        raise RuntimeError(f"{left} of {count} messages were handled and not settled")
    return window.figures()


async def _consume(scenario: Scenario, variant: str, window: Window) -> None:
    router, declare = router_of(scenario, variant)
    note = window.note
    if scenario.kind.batch:

        @declare()
        async def handle_many(orders: list[Order]) -> None:
            note(len(orders))

    else:

        @declare()
        async def handle(order: Order) -> None:
            note()

    await listen(scenario, router, window.over)


async def latency(scenario: Scenario, variant: str, count: int) -> dict[str, float]:
    """Milliseconds from publishing, in another process, to the handler; the first quarter warms up."""
    taken: list[int] = []
    over = asyncio.Event()

    def take(order: Order) -> None:
        taken.append(time.perf_counter_ns() - order.id)
        if len(taken) == count:
            over.set()

    if variant == "raw":
        await scenario.raw(lambda body: take(parse(body)), over, ready)
    else:
        router, declare = router_of(scenario, variant)

        @declare()
        async def handle(order: Order) -> None:
            take(order)

        await listen(scenario, router, over)
    if len(taken) != count:
        raise RuntimeError(f"{len(taken)} handler calls for {count} messages")
    parts = quantiles(taken[count // 4 :], n=100)
    return {"p50": parts[49] / 1e6, "p99": parts[98] / 1e6}


async def tick(scenario: Scenario, variant: str, count: int) -> dict[str, float]:
    """Publish with the raw client 200 messages a second, each with the time at which it was published."""
    waiting: set[asyncio.Task[Any]] = set()
    late = 0.0
    async with scenario.sender() as send:

        async def one() -> None:
            await send(ORDER.model_copy(update={"id": time.perf_counter_ns()}).model_dump_json().encode())

        begin = time.perf_counter() + 0.05
        for number in range(count):
            due = begin + number / PER_SECOND
            await asyncio.sleep(due - time.perf_counter())
            late = max(late, time.perf_counter() - due)
            task = asyncio.create_task(one())
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        await asyncio.gather(*waiting)
    return {"late": late * 1e3}


async def publish(scenario: Scenario, variant: str, count: int) -> dict[str, float]:
    """Publish `count` messages one after another, and then ten times as many by 100 tasks."""
    if variant == "raw":
        async with scenario.sender() as send:
            return await _publish(lambda: send(ORDER.model_dump_json().encode()), count)
    router, _ = router_of(scenario, variant)
    broker, destination = router.broker, scenario.destination()
    async with broker:
        return await _publish(lambda: broker.publish(ORDER, **destination), count)


async def _publish(send: Callable[[], Awaitable[Any]], count: int) -> dict[str, float]:
    async def some(number: int) -> None:
        for _ in range(number):
            await send()

    await some(20)
    figures = {}
    for mode, total, tasks in (("one", count, 1), ("many", count * 10, CONCURRENT)):
        began, began_cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(some(total // tasks) for _ in range(tasks)))
        figures[f"{mode} us"] = (time.process_time() - began_cpu) / total * 1e6
        figures[f"{mode} rate"] = total / (time.perf_counter() - began)
    return figures


ACTIONS = {"consume": consume, "latency": latency, "tick": tick, "publish": publish}


if __name__ == "__main__":
    action, broker, kind, variant, url, address, count = sys.argv[1:]
    tell(result=asyncio.run(ACTIONS[action](scenario_of(broker)(url, kind, address), variant, int(count))))
