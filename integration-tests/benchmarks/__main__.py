"""Measurements of one run, side by side: the raw client or the floor, ours, and the peer.

hatch run bench [inproc consume publish latency http startup] [--broker kafka] [--kind group] [--quick] [--json FILE]
[--markdown FILE]
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from machine import description
from options import BROKERS, Options, ServerMissing
from table import Table

PARTS = {
    "inproc": "inproc",
    "costs": "costs",
    "consume": "consume",
    "publish": "publish",
    "latency": "latency",
    "http": "web",
    "startup": "startup",
}
"""The comparisons and their modules here, whose `measure(options)` returns the tables."""


def main(
    what: Annotated[list[str] | None, typer.Argument(help=f"of {', '.join(PARTS)}; all by default")] = None,
    broker: Annotated[list[str] | None, typer.Option(help="measure only this broker; may be repeated")] = None,
    kind: Annotated[str, typer.Option(help="measure only the rows with this text in their name")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="fewer messages and rounds")] = False,
    rounds: Annotated[int | None, typer.Option(help="how often each variant is measured")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="where to write the figures")] = None,
    markdown: Annotated[Path | None, typer.Option(help="where to write the tables for a page")] = None,
    gate: Annotated[bool, typer.Option(help="fail when a gate is missed")] = True,
) -> None:
    """Measure, and print the tables; every figure of a table is from this run."""
    parts = tuple(PARTS) if not what or "all" in what else tuple(what)
    _check("comparison", parts, tuple(PARTS))
    brokers = tuple(broker or BROKERS)
    _check("broker", brokers, BROKERS)
    options = Options(quick=quick, brokers=brokers, kind=kind, rounds=rounds)
    tables: list[Table] = []
    missed: list[str] = []
    try:
        for part in parts:
            try:
                found: list[Table] = import_module(PARTS[part]).measure(options)
            except ServerMissing as error:
                missed.append(str(error))
                continue
            for table in found:
                table.show()
            tables += found
            if json_file is not None:
                json_file.write_text(json.dumps(_record(tables, quick), indent=2))
            if markdown is not None:
                markdown.write_text("\n".join(table.markdown() for table in tables))
    finally:
        options.servers.remove()
    missed += [line for table in tables for line in table.missed()]
    for line in missed:
        typer.echo(f"missed: {line}")
    if gate and missed:
        raise typer.Exit(1)


def _record(tables: list[Table], quick: bool) -> dict[str, Any]:
    return {"machine": description(), "quick": quick, "tables": [table.record() for table in tables]}


def _check(what: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for one in given:
        if one not in known:
            raise typer.BadParameter(f"{one!r} is no {what}; there are {', '.join(known)}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
