"""What a message costs between the client and the handler, measured on a Kafka record.

Ours runs the production path: the source takes records of a client in memory, the dispatcher and the plan call the
handler, the source notes the acknowledgement for the next commit. The peer's subscriber is called as its own loop
calls it. The floor is parsing, validation and the call.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from options import Options
from ours import Ours
from peer import Peer
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from records import BODY, HEADERS, INVALID, TEXT
from shape import (
    Calls,
    Order,
    many,
    model,
    ours_full,
    peer_full,
    returned,
    scalar,
    session,
    settings,
    sync_model,
)
from side import MemoryProducer, Side
from table import OURS, PEER, Bound, Figure, Row, Table

FLOOR = "floor"
FIGURES = (Figure("cpu", "us CPU", spread=True), Figure("us", "us"))
NOTES = [
    "Per message. CPU is that of the process, all of its threads; behind it the time that went by.",
    "Log on: one line for each message at INFO with the standard logging on our side, the peer's own two lines on the"
    " other, both to the null device.",
    "Around it: the peer's middlewares with an empty consume_scope. Ours has none yet: what runs before and after a"
    " handler is a yield dependency of the subscriber.",
]

# The floor -----------------------------------------------------------------------------------------------------------

_validate: Callable[[Any], Order] = TypeAdapter(Order).validator.validate_python


async def floor_model(count: int) -> None:
    for _ in range(count):
        await model(_validate(from_json(BODY)))


async def floor_scalar(count: int) -> None:
    for _ in range(count):
        await scalar(TEXT.decode())


async def floor_full(count: int) -> None:
    for _ in range(count):
        generator = session()
        two = await generator.__anext__()
        await peer_full(_validate(from_json(BODY)), None, await settings(), two, HEADERS[2][1].decode())  # type: ignore[arg-type]
        try:
            await generator.__anext__()
        except StopAsyncIteration:
            continue


async def floor_publisher(count: int) -> None:
    producer = MemoryProducer()
    for _ in range(count):
        result = await returned(_validate(from_json(BODY)))
        await (await producer.send("out", to_json(result), headers=HEADERS[:2]))


async def floor_sync(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.run_in_executor(None, sync_model, _validate(from_json(BODY)))


async def floor_batch(count: int) -> None:
    for _ in range(count // 100):
        await many([_validate(from_json(BODY)) for _ in range(100)])


async def floor_invalid(count: int) -> None:
    for _ in range(count):
        try:
            await model(_validate(from_json(INVALID)))
        except ValidationError:
            continue


# The shapes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """One kind of handler and message.

    Attributes:
        ours: the handler on our side.
        peer: the one on the peer's side; the same unless it differs.
        called: calls of the handler for each message.
        share: which part of the messages of a run is taken; a slow shape takes fewer.
        options: of both sides.
        gate: least ratio of the peer to ours.
        goal: the ratio that is wished for.
        floor_limits: gate and goal of ours to the floor.
    """

    name: str
    floor: Callable[[int], Awaitable[None]]
    ours: Callable[..., Any]
    peer: Callable[..., Any] | None = None
    body: bytes = BODY
    called: int = 1
    share: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    gate: float | None = None
    goal: float | None = None
    floor_limits: tuple[float | None, float | None] = (None, None)

    def bounds(self) -> tuple[Bound, ...]:
        most, wished = self.floor_limits
        return Bound(PEER, OURS, self.gate, self.goal), Bound(OURS, FLOOR, most, wished, at_most=True)


SHAPES = (
    Shape("model", floor_model, model, gate=10, goal=20, floor_limits=(5, 2.8)),
    Shape("scalar", floor_scalar, scalar, body=TEXT, goal=30),
    Shape("model + 2 Depends (one yield) + Header + Logger", floor_full, ours_full, peer_full, gate=15, goal=40),
    Shape("model -> publisher", floor_publisher, returned, options={"publish": True}, gate=6, goal=10),
    Shape("sync handler", floor_sync, sync_model, share=0.2, gate=1.5, goal=20),
    Shape("batch of 100", floor_batch, many, options={"batch": True}, gate=1.7, goal=2.5),
    Shape("invalid message", floor_invalid, model, body=INVALID, called=0),
)
AROUND = tuple(Shape(f"model, {count} around it", floor_model, model, options={"around": count}) for count in (1, 3))


def with_log(shape: Shape) -> Shape:
    """The same with the log on; only the model has a goal then."""
    name, options = f"{shape.name}, log on", {**shape.options, "log": True}
    goal = 4 if shape is SHAPES[0] else None
    return replace(shape, name=name, options=options, gate=None, goal=goal, floor_limits=(None, None))


ALL = (*SHAPES, *AROUND, *map(with_log, SHAPES))

# The measurement -----------------------------------------------------------------------------------------------------


class Floor(Side):
    """The floor as a side."""

    def __init__(self, work: Callable[[int], Awaitable[None]]) -> None:
        self.work = work

    async def run(self, count: int) -> None:
        await self.work(count)


async def once(side: Side, count: int, called: int, options: Mapping[str, Any]) -> dict[str, float]:
    """Have `count` messages handled, each with so many calls of the handler; return microseconds a message."""
    side.prepare(count)
    gc.collect()
    calls, sent = Calls.count, side.sent
    began, began_cpu = time.perf_counter(), time.process_time()
    await side.run(count)
    cpu, seconds = time.process_time() - began_cpu, time.perf_counter() - began
    calls, sent = Calls.count - calls, side.sent - sent
    # The floor of an invalid message has no handler to call either.
    if calls != called * count:
        raise RuntimeError(f"{side} called its handler {calls} times for {count} messages")
    if options.get("publish") and sent != count and not isinstance(side, Floor):
        raise RuntimeError(f"{side} published {sent} messages for {count}")
    return {"cpu": cpu / count * 1e6, "us": seconds / count * 1e6}


async def _measure(shape: Shape, messages: int, rounds: int) -> Row:
    """Measure the variants in turn, in the other order each time."""
    count = max(int(messages * shape.share) // 100 * 100, 100)
    floor = Floor(shape.floor)
    ours = Ours(shape.ours, shape.body, **shape.options)
    peer = Peer(shape.peer or shape.ours, shape.body, **shape.options)
    sides: Sequence[tuple[str, Side]] = ((FLOOR, floor), (OURS, ours), (PEER, peer))
    taken: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "us": []} for name, _ in sides}
    async with ours, peer:
        for _, side in sides:
            await once(side, max(count // 500 * 100, 100), shape.called, shape.options)
        for number in range(rounds):
            for name, side in sides if number % 2 == 0 else reversed(sides):
                for figure, value in (await once(side, count, shape.called, shape.options)).items():
                    taken[name][figure].append(value)
    return Row(shape.name, taken, shape.bounds())


def measure(options: Options) -> list[Table]:
    """Measure every shape; all of it in this process, in turn."""
    messages, rounds = (1000 if options.quick else 5000), options.rounds_or(11, 5)

    async def everything() -> list[Row]:
        return [await _measure(shape, messages, rounds) for shape in ALL if options.kind in shape.name]

    title = "in process: client, network and broker left out; microseconds a message"
    return [Table(title, FIGURES, (FLOOR, OURS, PEER), asyncio.run(everything()), NOTES)]
