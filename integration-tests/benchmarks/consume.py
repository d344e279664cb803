"""Consuming from real servers: each broker and kind of subscription, by the raw client, by ours and by FastStream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from options import Options
from process import RunFailed, alternate, run_child
from run import scenario_of
from scenarios.scenario import Kind, Scenario
from stock import RUN, VARIANTS, Stock
from table import OURS, PEER, RAW, Bound, Figure, Row, Table

FIGURES = (Figure("us", "us", spread=True), Figure("rate", "msg/s", digits=0))


def measure(options: Options) -> list[Table]:
    """One table, a row for each kind of subscription."""
    table = Table("consume: microseconds of the consumer's CPU a message, and messages a second", FIGURES)
    for broker in options.brokers:
        scenario = scenario_of(broker)
        stock = Stock(options, scenario)
        table.notes.append(scenario.raw_note)
        for kind in scenario.kinds:
            if options.kind in kind.name:
                table.rows.append(_row(options, scenario, kind, stock))
    return [table]


def _row(options: Options, scenario: type[Scenario], kind: Kind, stock: Stock) -> Row:
    gate, goal = kind.against_peer or (None, None)
    bounds = [Bound(RAW, OURS, 0.4, 0.6)]
    if kind.by_rate:
        bounds += [Bound(PEER, OURS), Bound(OURS, PEER, gate, goal, figure="rate")]
    else:
        bounds += [Bound(PEER, OURS, gate, goal)]
    row = Row(f"{scenario.name}, {kind.name}", bounds=bounds)
    runs: dict[str, Callable[[], dict[str, float]]] = {
        variant: partial(_once, scenario, kind, stock, argument, _count(options, kind, argument))
        for variant, argument in VARIANTS.items()
    }
    try:
        row.rounds = alternate(row.name, runs, options.rounds_or(5, 2))
    except RunFailed as error:
        row.error = str(error)
    return row


def _count(options: Options, kind: Kind, variant: str) -> int:
    count = kind.peer_messages if variant == "peer" else kind.messages
    return count // 3 if options.quick else count


def _once(scenario: type[Scenario], kind: Kind, stock: Stock, variant: str, count: int) -> dict[str, float]:
    url, address = stock.address(kind, count)
    send = partial(scenario(url, kind.name, address).send, count) if kind.live else None
    arguments = ("consume", scenario.name, kind.name, variant, url, address, str(count))
    return run_child(RUN, *arguments, on_ready=send)
