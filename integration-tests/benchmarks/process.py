"""Measured runs, each a process of its own: its CPU time is then its own, and nothing is left of the run before."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ("RunFailed", "alternate", "run_child", "tell")


class RunFailed(RuntimeError):
    """A run that gave no figures.

    Attributes:
        command: the script and its arguments.
        reason: what happened, with the last lines that the process wrote.
    """

    def __init__(self, command: Sequence[str], reason: str) -> None:
        super().__init__(f"{' '.join(command)}: {reason}")
        self.command = command
        self.reason = reason


def tell(**fields: Any) -> None:
    """In a child: write one line for `run_child`."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def run_child(
    script: Path, *arguments: str, on_ready: Callable[[], None] | None = None, timeout_seconds: float = 60
) -> dict[str, Any]:
    """Run a Python script and return the figures of its line `{"result": {...}}`.

    Args:
        on_ready: called when the child writes `{"ready": true}`, as when it is subscribed.
        timeout_seconds: after which the child is killed.

    Raises:
        RunFailed: the child ended without a result, with another status than 0, or not in time.
    """
    command = [script.name, *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, stderr=errors, text=True
        )
        late = threading.Event()

        def kill() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(timeout_seconds, kill)
        timer.start()
        result: dict[str, Any] | None = None
        try:
            assert child.stdout is not None
            for line in child.stdout:
                told = json.loads(line) if line.startswith("{") else {}
                if "ready" in told and on_ready is not None:
                    on_ready()
                result = told.get("result", result)
            status = child.wait()
        finally:
            timer.cancel()
            if child.poll() is None:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()
        if late.is_set() or status or result is None:
            errors.seek(0)
            why = f"not over within {timeout_seconds:g} s" if late.is_set() else f"exit status {status}"
            raise RunFailed(command, f"{why}\n{errors.read()[-600:]}".strip())
    return result


def alternate(
    name: str, variants: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Call every variant once a round, in the other order each time (A B C, C B A), and collect their figures.

    Args:
        name: of what is measured, to show on stderr that something happens.
    """
    began = time.monotonic()
    collected: dict[str, dict[str, list[float]]] = {variant: {} for variant in variants}
    for number in range(rounds):
        for variant in list(variants) if number % 2 == 0 else reversed(list(variants)):
            for figure, value in variants[variant]().items():
                collected[variant].setdefault(figure, []).append(value)
    sys.stderr.write(f"{name}: {rounds} rounds in {time.monotonic() - began:.0f} s\n")
    return collected
