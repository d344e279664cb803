"""The message of every benchmark on real servers, and the window in which its handling is measured."""

from __future__ import annotations

import asyncio
import time

from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json

__all__ = ("BODY", "CORRELATION_ID", "ORDER", "Order", "Window", "parse")


class Order(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]
    paid: bool


ORDER = Order(
    id=17,
    name="a pound of tea, a pound of sugar and a box of biscuits",
    price=3.5,
    tags=["green", "loose", "organic", "first flush", "gift wrapped"],
    paid=True,
)
BODY = ORDER.model_dump_json().encode()
"""About 170 bytes."""
CORRELATION_ID = "0b8b6a4a-5a1e-4a8b-9a39-3a0a3f3a2f11"

_validate = TypeAdapter(Order).validator.validate_python


def parse(body: bytes) -> Order:
    """What a raw client's user does: FastAPI's kind of validation without anything around it."""
    order: Order = _validate(from_json(body))
    return order


class Window:
    """Counts handler calls, and measures from the 100th (when everything is warm) to the last one.

    Attributes:
        count: the calls until now.
        over: set with the last one.
    """

    WARM = 100

    def __init__(self, total: int) -> None:
        self.total = total
        self.count = 0
        self.over = asyncio.Event()
        self._next = min(self.WARM, total // 2)
        self._marks: list[tuple[int, float, float]] = []

    def note(self, calls: int = 1) -> None:
        """A handler was called, or a batch handler with so many messages."""
        self.count += calls
        if self.count >= self._next:
            self._mark()

    def _mark(self) -> None:
        if len(self._marks) < 2:
            self._marks.append((self.count, time.perf_counter(), time.process_time()))
            self._next = self.total
        if self.count >= self.total:
            self.over.set()

    def take(self, body: bytes) -> None:
        """What a raw client does with a body."""
        parse(body)
        self.note()

    def figures(self) -> dict[str, float]:
        """Microseconds of this process's CPU for a message, and messages a second.

        Raises:
            RuntimeError: there was another number of calls than of messages.
        """
        if self.count != self.total:
            raise RuntimeError(f"{self.count} handler calls for {self.total} messages")
        (first, began, began_cpu), (last, ended, ended_cpu) = self._marks
        return {"us": (ended_cpu - began_cpu) / (last - first) * 1e6, "rate": (last - first) / (ended - began)}
