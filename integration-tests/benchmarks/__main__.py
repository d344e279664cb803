"""Measurements of one run, side by side: the peer, ours, and what nobody can go below.

hatch run bench inproc [--quick] [--json FILE]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parent))

import inproc
from table import Row, show

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Each command prints one table; every figure of it is from this run."""


@app.command(name="inproc")
def in_process(
    quick: Annotated[bool, typer.Option(help="fewer messages and rounds")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="where to write the figures")] = None,
    gate: Annotated[bool, typer.Option(help="fail when the expected ratios are missed")] = True,
) -> None:
    """The cost of one message in the process: client, network and broker are left out."""
    rows = inproc.measure(messages=1000 if quick else 5000, rounds=5 if quick else 11)
    show("in process, microseconds a message", rows)
    _write(json_file, rows)
    missed = [row.name for row in rows if row.expected and row.ratio < row.expected]
    if gate and missed:
        typer.echo(f"below the expected ratio: {', '.join(missed)}")
        raise typer.Exit(1)


def _write(file: Path | None, rows: list[Row]) -> None:
    if file is not None:
        file.write_text(json.dumps([row.figures() for row in rows], indent=2))


if __name__ == "__main__":
    app()
