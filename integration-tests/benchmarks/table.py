"""One line of a comparison, and the table of all lines."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass
class Row:
    """The rounds of one shape, in microseconds a message; all of one run, taken in turn.

    Attributes:
        expected: the least ratio of the peer to ours; 0 for none.
    """

    name: str
    floor: list[float]
    ours: list[float]
    peer: list[float]
    expected: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times faster than the peer."""
        return median(self.peer) / median(self.ours)

    @property
    def above_floor(self) -> float:
        """How many times the floor."""
        return median(self.ours) / median(self.floor)

    def figures(self) -> dict[str, Any]:
        """Everything that was measured."""
        return {
            "name": self.name,
            "floor": self.floor,
            "ours": self.ours,
            "peer": self.peer,
            "ratio": self.ratio,
            "above_floor": self.above_floor,
            "expected": self.expected,
        }


def show(title: str, rows: list[Row]) -> None:
    """Print the table: medians, and the spread of the rounds in brackets."""
    table = Table(title=title)
    for column in ("shape", "floor", "ours", "FastStream", "FastStream / ours", "ours / floor"):
        table.add_column(column, justify="left" if column == "shape" else "right")
    for row in rows:
        expected = f" (expected {row.expected:g})" if row.expected else ""
        table.add_row(
            row.name,
            _spread(row.floor),
            _spread(row.ours),
            _spread(row.peer),
            f"{row.ratio:.1f}{expected}",
            f"{row.above_floor:.1f}",
        )
    Console(width=140).print(table)


def _spread(rounds: list[float]) -> str:
    return f"{median(rounds):.1f} [{min(rounds):.1f}..{max(rounds):.1f}]"
