"""Rows of one run, variant beside variant, with what has to hold between them; printed, or written as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.table import Table as RichTable

__all__ = ("OURS", "PEER", "RAW", "Bound", "Figure", "Row", "Table")

RAW = "raw client"
OURS = "ours"
PEER = "FastStream"

Rounds = Mapping[str, Mapping[str, Sequence[float]]]
"""Variant, then figure, then its rounds in the order in which they were taken."""


@dataclass(frozen=True)
class Figure:
    """One number that a run gives.

    Attributes:
        name: its key in what a run gives.
        unit: as it is printed behind the number.
        digits: behind the point.
        spread: whether the least and the greatest round are printed with the median.
    """

    name: str
    unit: str
    digits: int = 1
    spread: bool = False

    def text(self, rounds: Sequence[float]) -> str:
        """The median of the rounds, with the unit."""
        shown = self.spread and len(rounds) > 1
        spread = f" [{self._number(min(rounds))}..{self._number(max(rounds))}]" if shown else ""
        return f"{self._number(median(rounds))}{spread} {self.unit}"

    def _number(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


@dataclass(frozen=True)
class Bound:
    """What is compared in a row, and what has to come out.

    Attributes:
        over: the variant that is compared.
        under: the variant that it is compared with; none for the value of `over` itself.
        gate: has to hold; None when the comparison is only shown.
        goal: what is wished for; None for nothing beyond the gate.
        figure: which figure; the table's first by default.
        how: `over / under`, `over - under`, or `over` alone.
        at_most: whether gate and goal are upper limits.
    """

    over: str
    under: str = ""
    gate: float | None = None
    goal: float | None = None
    figure: str = ""
    how: Literal["ratio", "difference", "value"] = "ratio"
    at_most: bool = False

    @property
    def name(self) -> str:
        """As it is printed."""
        sign = {"ratio": " / ", "difference": " - ", "value": ""}[self.how]
        figure = f", {self.figure}" if self.figure else ""
        return f"{self.over}{sign}{self.under if sign else ''}{figure}"

    def of(self, rounds: Rounds, figure: str) -> tuple[float, float, float] | None:
        """The value from the medians, and its least and greatest of one round; None where a variant is missing."""
        over = rounds.get(self.over, {}).get(figure)
        under = rounds.get(self.under, {}).get(figure) if self.how != "value" else over
        if not over or not under:
            return None
        pairs = [self._value(one, other) for one, other in zip(over, under, strict=False)]
        return self._value(median(over), median(under)), min(pairs), max(pairs)

    def _value(self, over: float, under: float) -> float:
        if self.how == "ratio":
            return over / under if under else float("inf")
        return over - under if self.how == "difference" else over

    def state(self, value: float) -> str:
        """What came out: missed, held or goal reached; nothing without a gate."""
        if self.goal is not None and self._reaches(value, self.goal):
            return "goal reached"
        if self.gate is None:
            return "" if self.goal is None else "goal missed"
        return "held" if self._reaches(value, self.gate) else "missed"

    def _reaches(self, value: float, limit: float) -> bool:
        return value <= limit if self.at_most else value >= limit

    def text(self, value: tuple[float, float, float]) -> str:
        """One line: the comparison, its spread, gate and goal."""
        number = "{:.2f}" if abs(value[0]) < 10 else "{:,.0f}"
        middle, least, most = (number.format(one) for one in value)
        line = f"{self.name} {middle}" if least == most else f"{self.name} {middle} [{least}..{most}]"
        limits = [
            f"{name} {limit:g}" for name, limit in (("gate", self.gate), ("goal", self.goal)) if limit is not None
        ]
        return f"{line} {self.state(value[0])} ({', '.join(limits)})" if limits else line


@dataclass
class Row:
    """One shape, measured in all its variants in turn.

    Attributes:
        rounds: by variant and figure; a variant may be missing.
        bounds: what is compared; gates among them.
        error: why there are no figures, or fewer than there should be.
    """

    name: str
    rounds: Rounds = field(default_factory=dict)
    bounds: Sequence[Bound] = ()
    error: str = ""


@dataclass
class Table:
    """The rows of one comparison.

    Attributes:
        figures: in the order in which a cell prints them; the first one is what bounds compare if they name none.
        variants: in the order of their columns.
        notes: sentences printed under the table.
    """

    title: str
    figures: Sequence[Figure]
    variants: Sequence[str] = (RAW, OURS, PEER)
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def missed(self) -> list[str]:
        """The rows that failed, and the gates that do not hold, as sentences."""
        title = self.title.partition(":")[0]
        found = [f"{title}, {row.name}: {row.error}" for row in self.rows if row.error]
        for row, bound, value in self._values():
            if bound.gate is not None and bound.state(value[0]) == "missed":
                found.append(f"{title}, {row.name}: {bound.text(value)}")
        return found

    def show(self) -> None:
        """Print it: medians, the spread of the rounds in brackets."""
        table = RichTable(title=self.title, show_lines=True)
        table.add_column("")
        for variant in self.variants:
            table.add_column(variant, justify="right")
        table.add_column("compared")
        for row in self.rows:
            lines = [bound.text(value) for one, bound, value in self._values() if one is row]
            table.add_row(
                row.name,
                *(self._cell(row, variant) for variant in self.variants),
                "\n".join([*lines, *row.error.splitlines()[-1:]]),
            )
        console = Console(width=170, highlight=False)
        console.print(table)
        for note in self.notes:
            console.print(note, markup=False)

    def markdown(self) -> str:
        """The table for a page."""
        lines = [
            f"### {self.title}",
            "",
            f"| | {' | '.join(self.variants)} | compared |",
            f"|---|{'---|' * len(self.variants)}---|",
        ]
        for row in self.rows:
            compared = [bound.text(value) for one, bound, value in self._values() if one is row]
            cells = [
                row.name,
                *(self._cell(row, variant) for variant in self.variants),
                "\n".join([*compared, *row.error.splitlines()[-1:]]),
            ]
            lines.append(f"| {' | '.join(cell.replace('|', '/').replace(chr(10), '<br>') for cell in cells)} |")
        return "\n".join([*lines, "", *self.notes, ""])

    def record(self) -> dict[str, Any]:
        """Everything that was measured, for JSON."""
        return {
            "title": self.title,
            "figures": [{"name": one.name, "unit": one.unit} for one in self.figures],
            "rows": [
                {
                    "name": row.name,
                    "rounds": row.rounds,
                    "compared": [self._comparison(bound, value) for one, bound, value in self._values() if one is row],
                    "error": row.error,
                }
                for row in self.rows
            ],
            "notes": self.notes,
        }

    def _values(self) -> list[tuple[Row, Bound, tuple[float, float, float]]]:
        found = []
        for row in self.rows:
            for bound in row.bounds:
                value = bound.of(row.rounds, bound.figure or self.figures[0].name)
                if value is not None:
                    found.append((row, bound, value))
        return found

    def _comparison(self, bound: Bound, value: tuple[float, float, float]) -> dict[str, Any]:
        return {
            "name": bound.name,
            "figure": bound.figure or self.figures[0].name,
            "value": value[0],
            "least": value[1],
            "greatest": value[2],
            "gate": bound.gate,
            "goal": bound.goal,
            "state": bound.state(value[0]),
        }

    def _cell(self, row: Row, variant: str) -> str:
        rounds = row.rounds.get(variant, {})
        return "\n".join(figure.text(rounds[figure.name]) for figure in self.figures if rounds.get(figure.name)) or "-"
