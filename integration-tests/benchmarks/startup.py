"""What an app pays before its first message: the import, a thousand subscribers, their document."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from options import Options
from process import RunFailed, alternate, run_child
from table import OURS, PEER, Bound, Figure, Row, Table

RUN = Path(__file__).parent / "startup_run.py"
VARIANTS = {OURS: "ours", PEER: "peer"}

IMPORT = (Figure("ms", "ms CPU", spread=True), Figure("MiB", "MiB"), Figure("modules", "modules", digits=0))
SUBSCRIBERS = (
    Figure("s", "s CPU", digits=2, spread=True),
    Figure("MiB", "MiB"),
    Figure("document s", "s CPU for the document", digits=2),
    Figure("document MiB", "MiB for it"),
    Figure("document KiB", "KiB of JSON", digits=0),
    Figure("traced", "MiB allocated by Python"),
)
BOUNDS = (
    Bound(OURS, PEER, gate=0.67, goal=0.4, at_most=True),
    Bound(OURS, gate=25, goal=16, figure="MiB", how="value", at_most=True),
    Bound(OURS, PEER, gate=1, figure="document s", at_most=True),
)


def measure(options: Options) -> list[Table]:
    """Two tables: the import for each broker, and the subscribers of the first broker, which are the core's work."""
    imports = Table("startup: importing the package on top of FastAPI and the client", IMPORT, (OURS, PEER))
    imports.notes.append("Both have their bytecode; collections of what was there before are not counted.")
    subscribers = Table("startup: 1,000 subscribers with a model, a Depends and a Header", SUBSCRIBERS, (OURS, PEER))
    subscribers.notes.append(
        "Declared and made ready for messages without a broker: ours are when they are declared, FastStream's are "
        "completed by the method that its start calls for each. Memory is what the process has more."
    )
    with bytecode():
        for broker in options.brokers:
            imports.rows.append(_import(options, broker))
        for models, text in (("one", "one model"), ("many", "1,000 models")):
            if options.kind in text:
                subscribers.rows.append(_subscribers(options, options.brokers[0], models, text))
    return [imports, subscribers]


@contextmanager
def bytecode() -> Iterator[None]:
    """Give the children bytecode of both packages, as an installer leaves it, wherever the sources are."""
    names = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    before = {name: os.environ.pop(name, None) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        try:
            yield
        finally:
            del os.environ["PYTHONPYCACHEPREFIX"]
            os.environ.update({name: value for name, value in before.items() if value is not None})


def _import(options: Options, broker: str) -> Row:
    row = Row(broker, bounds=[Bound(OURS, PEER, gate=0.5, goal=0.27, at_most=True)])
    runs = {name: partial(run_child, RUN, "import", variant, broker) for name, variant in VARIANTS.items()}
    try:
        for run in runs.values():
            run()  # writes the bytecode
        row.rounds = alternate(f"import, {broker}", runs, options.rounds_or(7, 3))
    except RunFailed as error:
        row.error = str(error)
    return row


def _subscribers(options: Options, broker: str, models: str, text: str) -> Row:
    row = Row(f"{broker}, {text}", bounds=BOUNDS)
    arguments = {name: ("subscribers", variant, broker, models) for name, variant in VARIANTS.items()}
    try:
        taken = alternate(
            row.name,
            {name: partial(run_child, RUN, *given) for name, given in arguments.items()},
            options.rounds_or(5, 2),
        )
        for name, given in arguments.items():
            taken[name]["traced"] = [run_child(RUN, *given, "traced")["traced"]]
        row.rounds = taken
    except RunFailed as error:
        row.error = str(error)
    return row
