"""Consuming from real servers: each broker and kind of subscription, by the raw client, by ours and by FastStream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

from options import Options
from process import RunFailed, alternate, run_child
from run import scenario_of
from scenarios.scenario import Kind, Scenario
from table import OURS, PEER, RAW, Bound, Figure, Row, Table

RUN = Path(__file__).parent / "run.py"
FIGURES = (Figure("us", "us", spread=True), Figure("rate", "msg/s", digits=0))
VARIANTS = {RAW: "raw", OURS: "ours", PEER: "peer"}


def measure(options: Options) -> list[Table]:
    """One table, a row for each kind of subscription."""
    table = Table("consume: microseconds of the consumer's CPU a message, and messages a second", FIGURES)
    for broker in options.brokers:
        scenario = scenario_of(broker)
        stock = Stock(options, scenario)
        for kind in scenario.kinds:
            if options.kind in kind.name:
                table.rows.append(_row(options, scenario, kind, stock))
    return [table]


class Stock:
    """The messages that wait for the runs of one broker; what keeps them after they were read is filled only once."""

    def __init__(self, options: Options, scenario: type[Scenario]) -> None:
        self.options = options
        self.scenario = scenario
        self._filled: dict[tuple[str, str, int], str] = {}

    def address(self, kind: Kind, count: int) -> tuple[str, str]:
        """Return the URL of the server, and an address where `count` messages wait."""
        url = self.options.servers.url(self.scenario.name)
        key = (url, kind.store, count)
        if kind.store and key in self._filled:
            return url, self._filled[key]
        address = f"bench-{uuid4().hex[:10]}"
        if not kind.live:
            self.scenario(url, kind.name, address).fill(count)
        self._filled[key] = address
        return url, address


def _row(options: Options, scenario: type[Scenario], kind: Kind, stock: Stock) -> Row:
    bounds = [Bound(RAW, OURS, 0.4, 0.6), Bound(PEER, OURS, *(kind.against_peer or (None, None)))]
    row = Row(f"{scenario.name}, {kind.name}", bounds=bounds)
    runs: dict[str, Callable[[], dict[str, float]]] = {
        variant: partial(_once, scenario, kind, stock, argument, _count(options, kind, argument))
        for variant, argument in VARIANTS.items()
    }
    try:
        row.rounds = alternate(runs, options.rounds_or(5, 2))
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
