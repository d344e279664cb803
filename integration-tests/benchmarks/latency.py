"""From publishing to the handler on real servers, at 200 messages a second.

A raw client in another process publishes, with the time in the message; the clock is one for all processes. The JSON
has also how many milliseconds the publisher was behind its own schedule at most (`late`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from options import Options
from process import RunFailed, alternate, run_child
from run import PER_SECOND, scenario_of
from scenarios.scenario import Kind, Scenario
from stock import RUN, VARIANTS, Stock
from table import OURS, PEER, RAW, Bound, Figure, Row, Table

FIGURES = (Figure("p50", "ms p50", digits=2, spread=True), Figure("p99", "ms p99", digits=2, spread=True))
BOUNDS = (
    Bound(OURS, RAW, 1.0, 0.3, how="difference", at_most=True),
    Bound(PEER, OURS),
    Bound(OURS, RAW, figure="p99", how="difference"),
    Bound(PEER, OURS, figure="p99"),
)


def measure(options: Options) -> list[Table]:
    """One table, a row for each kind of subscription that takes one message at a time."""
    table = Table(f"latency: milliseconds from publishing to the handler at {PER_SECOND} messages a second", FIGURES)
    table.notes.append(
        "Hundreds of milliseconds: the consumer handles fewer messages than come (or the machine is busy)."
    )
    for broker in options.brokers:
        scenario = scenario_of(broker)
        for kind in scenario.kinds:
            if kind.latency and options.kind in kind.name:
                table.rows.append(_row(options, scenario, kind))
    return [table]


def _row(options: Options, scenario: type[Scenario], kind: Kind) -> Row:
    row = Row(f"{scenario.name}, {kind.name}", bounds=BOUNDS)
    count = 300 if options.quick else 600
    runs: dict[str, Callable[[], dict[str, float]]] = {
        variant: partial(_once, options, scenario, kind, argument, str(count)) for variant, argument in VARIANTS.items()
    }
    try:
        row.rounds = alternate(row.name, runs, options.rounds_or(5, 2))
    except RunFailed as error:
        row.error = str(error)
    return row


def _once(options: Options, scenario: type[Scenario], kind: Kind, variant: str, count: str) -> dict[str, float]:
    url, address = Stock(options, scenario).address(kind, 0)  # an empty one for each run
    where = (url, address, count)
    published: dict[str, float] = {}

    def publish() -> None:
        published.update(run_child(RUN, "tick", scenario.name, kind.name, "raw", *where))

    taken = run_child(RUN, "latency", scenario.name, kind.name, variant, *where, on_ready=publish)
    return {**taken, **published}
