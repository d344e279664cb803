"""What one thing more costs for each message: a handler with it beside the plain one, in process, ours alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, Header, Request
from fastapi_stream_core import Context, Logger
from inproc import once
from options import Options
from ours import Ours
from records import BODY, INVALID
from shape import Calls, Order, many, model, sync_model
from table import Bound, Figure, Row, Table

PLAIN = "plain handler"
WITH = "with it"


async def settings() -> int:
    return 1


def sync_settings() -> int:
    return 1


async def session() -> AsyncIterator[int]:
    yield 2


async def with_dependency(order: Order, one: Annotated[int, Depends(settings)]) -> None:
    Calls.count += 1


async def with_sync_dependency(order: Order, one: Annotated[int, Depends(sync_settings)]) -> None:
    Calls.count += 1


async def with_yield(order: Order, one: Annotated[int, Depends(session)]) -> None:
    Calls.count += 1


async def with_header(order: Order, x_tenant: Annotated[str, Header()]) -> None:
    Calls.count += 1


async def with_logger(order: Order, logger: Logger) -> None:
    Calls.count += 1


async def with_context(order: Order, tenant: Annotated[str, Context("message.headers.x-tenant")]) -> None:
    Calls.count += 1


async def with_request(order: Order, request: Request) -> None:
    Calls.count += 1


async def with_background(order: Order, background: BackgroundTasks) -> None:
    background.add_task(settings)
    Calls.count += 1


async def with_validated_result(order: Order) -> Order:
    Calls.count += 1
    return order


async def with_result(order: Order):  # type: ignore[no-untyped-def]
    Calls.count += 1
    return order


def sync_with_dependency(order: Order, one: Annotated[int, Depends(sync_settings)]) -> None:
    Calls.count += 1


@dataclass(frozen=True)
class Cost:
    """One thing more.

    Attributes:
        handler: the handler that has it.
        body: of the messages.
        called: calls of the handler for each message.
        share: which part of the messages of a run is taken.
        options: of the subscription or its broker.
    """

    name: str
    handler: Callable[..., Any] = model
    body: bytes = BODY
    called: int = 1
    share: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


COSTS = (
    Cost("a line of the access log", options={"log": True}),
    Cost("a dependency", with_dependency),
    Cost("a yield dependency", with_yield),
    Cost("a header", with_header),
    Cost("a logger", with_logger),
    Cost("a value of the context", with_context),
    Cost("the request", with_request),
    Cost("a background task", with_background),
    Cost("a result that is published", with_result, options={"publish": True}),
    Cost("a result that is validated and published", with_validated_result, options={"publish": True}),
    Cost("a sync handler, short", sync_model),
    Cost("a sync handler, short, with a sync dependency", sync_with_dependency),
    Cost("a sync dependency of an async handler", with_sync_dependency, share=0.2),
    Cost("four workers", options={"max_workers": 4}),
    Cost("an invalid message, rejected", body=INVALID, called=0, share=0.2),
    Cost("a batch of 100, for each of its messages", options={"batch": True}),
)


async def _measure(cost: Cost, messages: int, rounds: int) -> Row:
    count = max(int(messages * cost.share) // 100 * 100, 100)
    handler = many if cost.options.get("batch") else cost.handler
    plain, other = Ours(model, BODY), Ours(handler, cost.body, **cost.options)
    sides = ((PLAIN, plain, 1), (WITH, other, cost.called))
    taken: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "us": []} for name, _, _ in sides}
    async with plain, other:
        for number in range(rounds + 1):
            for name, side, called in sides if number % 2 == 0 else reversed(sides):
                figures = await once(side, count, called, cost.options if side is other else {})
                for figure, value in figures.items() if number else ():  # the first round is warming up
                    taken[name][figure].append(value)
    return Row(cost.name, taken, (Bound(WITH, PLAIN, how="difference"),))


def measure(options: Options) -> list[Table]:
    """A row for each thing."""
    messages, rounds = (1000 if options.quick else 5000), options.rounds_or(11, 5)

    async def everything() -> list[Row]:
        return [await _measure(cost, messages, rounds) for cost in COSTS if options.kind in cost.name]

    title = "what one thing more costs: ours, in process, microseconds of CPU a message"
    figures = (Figure("cpu", "us CPU", spread=True),)
    return [Table(title, figures, (PLAIN, WITH), asyncio.run(everything()))]
