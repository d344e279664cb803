"""The gate lets publishers through in order, a queue full at a time, and holds nobody for long."""

from __future__ import annotations

import asyncio

from fastapi_stream_rabbit.gate import PAUSE_SECONDS, PAUSES, TURNS, Gate

PLACES = 10


async def publish(gate: Gate, queue: asyncio.Queue[int], number: int) -> None:
    if not gate.is_open(queue):
        await gate.wait(queue)
    queue.put_nowait(number)


async def test_publishers_go_through_in_order_and_never_wait_for_the_queue() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(PLACES)
    gate = Gate(asyncio.get_running_loop())
    written: list[int] = []
    writes = 0

    async def write() -> None:
        nonlocal writes
        while len(written) < 205:
            written.append(await queue.get())
            while not queue.empty():
                written.append(queue.get_nowait())
            writes += 1

    writer = asyncio.ensure_future(write())
    await asyncio.gather(*(publish(gate, queue, number) for number in range(205)))  # QueueFull fails it
    await asyncio.wait_for(writer, 10)
    assert written == list(range(205))
    assert writes <= 205 / PLACES + 2
    assert gate.is_open(queue)


async def test_a_publisher_that_gave_up_keeps_no_place() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    gate = Gate(asyncio.get_running_loop())
    queue.put_nowait(0)
    first, second = (asyncio.ensure_future(publish(gate, queue, number)) for number in (1, 2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert queue.get_nowait() == 0
    await asyncio.wait_for(second, 10)
    assert queue.get_nowait() == 2


async def test_a_queue_that_nobody_empties_holds_nobody_for_long() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    loop = asyncio.get_running_loop()
    gate = Gate(loop)
    queue.put_nowait(0)
    began, tries = loop.time(), 0
    full = queue.qsize

    def counted() -> int:
        nonlocal tries
        tries += 1
        return full()

    queue.qsize = counted  # type: ignore[method-assign]
    await asyncio.wait_for(asyncio.gather(*(gate.wait(queue) for _ in range(50))), 10)
    assert loop.time() - began >= PAUSES * PAUSE_SECONDS * 0.9
    assert tries <= TURNS + PAUSES + 1
