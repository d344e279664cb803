"""Publishing a model as JSON to real servers, confirmed: one after another, and by 100 tasks at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from options import Options
from process import RunFailed, alternate, run_child
from run import scenario_of
from scenarios.scenario import Kind, Scenario
from stock import RUN, VARIANTS, Stock
from table import OURS, PEER, RAW, Bound, Figure, Row, Table

FIGURES = (Figure("us", "us", spread=True), Figure("rate", "msg/s", digits=0, spread=True))
BOUNDS = (
    Bound(RAW, OURS),
    Bound(PEER, OURS),
    Bound(OURS, RAW, figure="rate"),
    Bound(OURS, PEER, figure="rate"),
)
MODES = {"one": "one after another", "many": "100 at a time"}


def measure(options: Options) -> list[Table]:
    """One table, two rows for each kind of address."""
    table = Table("publish: microseconds of the publisher's CPU a message, and messages a second", FIGURES)
    for broker in options.brokers:
        scenario = scenario_of(broker)
        if scenario.publish_note:
            table.notes.append(scenario.publish_note)
        for kind in scenario.kinds:
            if kind.publish and options.kind in kind.publish:
                table.rows += _rows(options, scenario, kind)
    return [table]


def _rows(options: Options, scenario: type[Scenario], kind: Kind) -> list[Row]:
    count = str(200 if options.quick else 500)
    rows = [Row(f"{scenario.name}, {kind.publish}, {text}", bounds=BOUNDS) for text in MODES.values()]
    try:
        where = (*Stock(options, scenario).address(kind, 0), count)
        runs: dict[str, Callable[[], dict[str, float]]] = {
            variant: partial(run_child, RUN, "publish", scenario.name, kind.name, argument, *where)
            for variant, argument in VARIANTS.items()
        }
        taken = alternate(f"{scenario.name}, {kind.publish}", runs, options.rounds_or(5, 3))
    except RunFailed as error:
        for row in rows:
            row.error = str(error)
        return rows
    for row, mode in zip(rows, MODES, strict=True):
        row.rounds = {
            variant: {figure.name: figures[f"{mode} {figure.name}"] for figure in FIGURES}
            for variant, figures in taken.items()
        }
    return rows
