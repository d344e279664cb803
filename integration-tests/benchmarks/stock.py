"""Where the runs of one broker find their messages."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from options import Options
from process import RunFailed
from scenarios.scenario import Kind, Scenario
from table import OURS, PEER, RAW

__all__ = ("RUN", "VARIANTS", "Stock")

RUN = Path(__file__).parent / "run.py"
"""The script of one run."""
VARIANTS = {RAW: "raw", OURS: "ours", PEER: "peer"}
"""The variants by their columns, as the script names them."""


class Stock:
    """The messages that wait for the runs of one broker; what keeps them after they were read is filled only once."""

    def __init__(self, options: Options, scenario: type[Scenario]) -> None:
        self.options = options
        self.scenario = scenario
        self._filled: dict[tuple[str, str, int], str] = {}

    def address(self, kind: Kind, count: int) -> tuple[str, str]:
        """Return the URL of the server, and an address where `count` messages wait.

        Raises:
            RunFailed: the server did not take them.
        """
        url = self.options.servers.url(self.scenario.name)
        key = (url, kind.store, count)
        if kind.store and key in self._filled:
            return url, self._filled[key]
        address = f"bench-{uuid4().hex[:10]}"
        if not kind.live:
            try:
                self.scenario(url, kind.name, address).fill(count)
            except Exception as error:
                raise RunFailed(("fill", self.scenario.name, kind.name, str(count)), repr(error)) from error
        self._filled[key] = address
        return url, address
