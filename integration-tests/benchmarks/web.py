"""HTTP answers of an app while its subscriber handles a backlog, and the longest turn of its event loop."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles

from options import Options
from process import RunFailed, alternate, run_child
from run import scenario_of
from scenarios.scenario import Scenario
from stock import Stock
from table import OURS, PEER, Bound, Figure, Row, Table

RUN = Path(__file__).parent / "web_run.py"
VARIANTS = {OURS: "ours", PEER: "peer"}
LOOPS = ("asyncio", "uvloop")
MESSAGES = 30_000
EVERY_SECONDS = 0.005
LONGEST_SECONDS = 180
"""For one run: where a backlog holds up the event loop, the run is late to see that its time is over."""
FIGURES = (
    Figure("slowest", "ms slowest", spread=True),
    Figure("p99", "ms p99"),
    Figure("turn", "ms longest turn", spread=True),
    Figure("collected", "ms of it garbage collection"),
    Figure("first", "s from start-up to the first answer", digits=2),
    Figure("drain", "s of draining"),
    Figure("left", "messages left", digits=0),
)
BOUNDS = (
    Bound(OURS, gate=50, goal=15, figure="turn", how="value", at_most=True),
    Bound(OURS, gate=2, figure="first", how="value", at_most=True),
    Bound(PEER, OURS, figure="slowest"),
)


@dataclass(frozen=True)
class Backlog:
    """A kind of subscription of one broker, for ours and for the peer.

    Attributes:
        broker: of the scenario.
        ours: the scenario's kind that has our defaults.
        peer: the one that has FastStream's: its groups of Kafka acknowledge first unless told otherwise.
        text: the name of the row.
    """

    broker: str
    ours: str
    peer: str
    text: str


BACKLOGS = (
    Backlog("kafka", "group, at least once", "group, at most once", "group"),
    Backlog("confluent", "group, at least once", "group, at most once", "group"),
    Backlog("rabbit", "at least once", "at least once", "queue"),
    Backlog("nats", "JetStream pull of 100", "JetStream pull of 100", "JetStream pull of 100"),
    Backlog("nats", "core", "core", "core"),
    Backlog("redis", "stream", "stream", "stream"),
    Backlog("redis", "stream group, at least once", "stream group, at least once", "stream group"),
)


def measure(options: Options) -> list[Table]:
    """One table, two rows for each backlog: asyncio and uvloop."""
    table = Table(f"http: GET /ping every 5 ms while {MESSAGES:,} messages drain", FIGURES, (OURS, PEER))
    table.notes += [
        "The next answer is asked for 5 ms after the one before, or as soon as that is there. The turn is that of a "
        "second run, without HTTP, from the first message on, in the thread's own CPU time.",
        "Messages wait before the start; for NATS core they are sent after the first answer. Both with their default "
        "acknowledgement; a run ends after 30 s.",
    ]
    for broker in options.brokers:
        stock = Stock(options, scenario_of(broker))
        for backlog in BACKLOGS:
            if backlog.broker == broker and options.kind in backlog.text:
                table.rows += [_row(options, backlog, stock, loop) for loop in LOOPS]
    return [table]


def _row(options: Options, backlog: Backlog, stock: Stock, loop: str) -> Row:
    row = Row(f"{backlog.broker}, {backlog.text}, {loop}", bounds=BOUNDS)
    kinds = {"ours": backlog.ours, "peer": backlog.peer}
    runs = {
        name: partial(_once, stock, backlog.broker, kinds[variant], variant, loop) for name, variant in VARIANTS.items()
    }
    try:
        row.rounds = alternate(row.name, runs, options.rounds_or(3, 1))
    except RunFailed as error:
        row.error = str(error)
    return row


def _once(stock: Stock, broker: str, name: str, variant: str, loop: str) -> dict[str, float]:
    """Run the app twice: with a client that asks, and with a count of the turns."""
    asked, asker = _serve(stock, broker, name, variant, loop, "asked")
    if not asker.answers:
        raise RunFailed((RUN.name, broker, name, variant), "there was no HTTP answer")
    within = [
        (answered - sent) * 1e3
        for sent, answered in asker.answers
        if answered >= asked["drain began"] and sent <= asked["drain ended"]
    ] or [0.0]
    ticked, _ = _serve(stock, broker, name, variant, loop, "ticked")
    return {
        "slowest": max(within),
        "p99": quantiles(within, n=100, method="inclusive")[98] if len(within) > 1 else within[0],
        "turn": ticked["turn"] * 1e3,
        "collected": ticked["collected"] * 1e3,
        "first": asker.answers[0][1] - asked["listens"],
        "drain": asked["drain ended"] - asked["drain began"],
        "left": asked["left"],
    }


def _serve(stock: Stock, broker: str, name: str, variant: str, loop: str, how: str) -> tuple[dict[str, float], Asker]:
    kind = next(one for one in stock.scenario.kinds if one.name == name)
    url, address = stock.address(kind, MESSAGES)
    port = _free_port()
    scenario = stock.scenario(url, name, address)
    asker = Asker(port, scenario if kind.live else None, how == "asked")
    arguments = (broker, name, variant, loop, url, address, str(MESSAGES), str(port), how)
    try:
        return run_child(RUN, *arguments, on_ready=asker.start, timeout_seconds=LONGEST_SECONDS), asker
    finally:
        asker.stop()


class Asker:
    """Asks for GET /ping from a thread of this process, every 5 ms or as soon as the answer before is there.

    Args:
        port: of the app on this machine.
        live: what sends its messages after the first answer.
        steady: whether it goes on after the first answer.

    Attributes:
        answers: when each was asked for and when it was there, on the monotonic clock.
    """

    def __init__(self, port: int, live: Scenario | None, steady: bool) -> None:
        self.answers: list[tuple[float, float]] = []
        self._port = port
        self._live = live
        self._steady = steady
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._sending: threading.Thread | None = None

    def start(self) -> None:
        """Begin: the app starts now."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        for thread in (self._thread, self._sending):
            if thread is not None and thread.ident is not None:
                thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._over.is_set():
            asked = time.monotonic()
            try:
                connection.request("GET", "/ping")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
                if self.answers:  # the app has ended
                    return
            else:
                self.answers.append((asked, time.monotonic()))
                if self._live is not None and self._sending is None:
                    self._sending = threading.Thread(target=self._live.send, args=(MESSAGES,))
                    self._sending.start()
                if not self._steady:
                    return
            time.sleep(max(0.0, asked + EVERY_SECONDS - time.monotonic()))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
