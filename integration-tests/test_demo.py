"""The demo as a user runs it: a process with its own server, or with one of the user's."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from servers import Server, free_port

ROOT = Path(__file__).parent.parent
BROKERS = ["kafka", "confluent", "rabbit", "nats", "redis"]
STEPS = [
    "1. order 1 came in over HTTP",
    "2. order 1 was handled",
    "3. the invoice of order 1 was seen by a second handler",
    "4. GET /invoices/1 answers",
]


class Demo:
    """The running demo, its output line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._news.put(line)
        self._news.put(None)

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """The first line that matches; the test fails when the process ends or is silent for so long."""
        while (line := self._news.get(timeout=seconds)) is not None:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"the demo ended without a line like {pattern!r}:\n{''.join(self.lines)}")

    def end(self, seconds: float = 100) -> tuple[int, str]:
        """Its exit code and everything it printed."""
        while (line := self._news.get(timeout=seconds)) is not None:
            self.lines.append(line)
        return self.process.wait(timeout=seconds), "".join(self.lines)


@contextmanager
def demo(*options: str) -> Iterator[Demo]:
    process = subprocess.Popen(
        [sys.executable, "-m", "docs.examples.demo", "--port", str(free_port()), *options],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "250", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Demo(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=10)
        assert process.stdout is not None
        process.stdout.close()


def assert_round_trip(output: str) -> None:
    places = [output.find(step) for step in STEPS]
    assert -1 not in places, output
    assert places[2] < places[3], output
    assert "Traceback" not in output


def test_once_does_the_round_trip_and_ends() -> None:
    with demo("--once") as running:
        code, output = running.end()
    assert code == 0, output
    assert_round_trip(output)


@pytest.mark.parametrize("broker", BROKERS)
def test_once_on_a_server_of_the_user(broker: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(f"{broker}_server")
    with demo("--once", "--broker", broker, "--url", server.url) as running:
        code, output = running.end()
    assert code == 0, output
    assert_round_trip(output)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_serves_until_it_is_ended(signal_number: signal.Signals) -> None:
    with demo() as running:
        nats = running.wait_for(r"nats://127\.0\.0\.1:(\d+)")
        app = running.wait_for(r"http://[\d.]+:\d+")[0]
        running.wait_for("Ctrl-C")
        with httpx.Client(base_url=app, timeout=30) as client:
            for page in ("/docs", "/asyncapi", "/asyncapi.json", "/asyncapi.yaml", "/invoices/1"):
                assert client.get(page).status_code == 200, page
            assert client.post("/orders", json={"id": 2, "lines": {"tea": 1}}).status_code == 202
            assert client.get("/invoices/2").json() == {"order": 2, "total": 3.5}
        running.process.send_signal(signal_number)
        code, output = running.end()
    assert_round_trip(output)
    assert code == 0, output
    assert output.rstrip().endswith("Stopped.")
    with pytest.raises(httpx.ConnectError):  # the NATS server went with it
        httpx.get(f"http://127.0.0.1:{nats[1]}")


@pytest.mark.parametrize(
    ("broker", "url"),
    [("redis", "redis://127.0.0.1:{}"), ("nats", "nats://127.0.0.1:{}")],
)
def test_a_server_that_is_away_is_a_failure(broker: str, url: str) -> None:
    with demo("--once", "--broker", broker, "--url", url.format(free_port())) as running:
        code, output = running.end()
    assert code == 1, output
    assert "BrokerUnavailable" in output


def test_asks_for_an_address_where_it_cannot_start_a_server() -> None:
    with demo("--broker", "kafka") as running:
        code, output = running.end()
    assert code == 2, output
    assert "--url" in output
